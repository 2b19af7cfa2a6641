"""UNet++: between the two paths a triangle of blocks, each reading all before it on its level."""

from unet_core.config.networks.encoders import taps_of
from unet_core.config.networks.graph import INPUT, Graph, Sketch
from unet_core.config.networks.heads import head, plain
from unet_core.config.networks.layers import Affine, Fitted, Sum
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.networks.unet import block, contracted, joined, made_by_up, raised
from unet_core.errors import ConfigError


def unetpp(config: NetworkConfig) -> Graph:
    """The graph of a UNet++ (Zhou et al. 2018).

    ``X[i][j]`` of level i (0 the finest) is a block of ``X[i+1][j-1]``, up-sampled, beside
    ``X[i][0], ..., X[i][j-1]``. Names of layers with weights: ``encoder.<i>.<k>`` and
    ``bottom.<k>``, or those of a backbone; ``ups.<i>_<j>`` and ``nodes.<i>_<j>.<k>``; ``head``, or
    ``heads.<j>`` of ``X[0][j]``.

    Raises
    ------
    ConfigError
        If settings are given that it cannot have.
    """
    _check(config)
    sketch = Sketch(config.dimensions, config.inputs)
    x = sketch.add("shift", Affine(1.0, config.shift), INPUT) if config.shift else INPUT
    if config.encoder == "plain":
        x, skips = contracted(sketch, config, x)
    else:
        x, skips = taps_of(sketch, config, x)
    finest = triangle(sketch, config, [*skips, x])
    if config.supervision in ("mean", "nodes"):
        return _supervised(sketch, config, finest)
    return head(sketch, config, finest[::-1])


def _check(config: NetworkConfig) -> None:
    given = {
        "skip": config.skip == "after_pooling",
        "auxiliary": config.auxiliary > 0,
        "supervision": config.supervision == "levels",
    }
    for key in (key for key, wrong in given.items() if wrong):
        raise ConfigError(
            f"model.{key} {getattr(config, key)} is not for model.architecture unetpp; leave it out"
        )


def triangle(sketch: Sketch, config: NetworkConfig, taps: list[str]) -> list[str]:
    """The maps of the finest level, the last of which has seen all levels.

    `taps`: of the contracting path, the finest first. Where `decoder_widths` has more levels than
    there are skips, the finest have no skip, and a single map each.
    """
    count = len(taps) - 1
    widths = config.decoder_widths
    levels = len(widths) if widths else count
    bare = levels - count
    if bare < 0:
        raise ConfigError(
            f"model.decoder_widths needs at least {count} numbers, one per level with a skip, got "
            f"{list(widths or ())}"
        )
    rows = [[tap] for tap in taps]
    for j in range(1, count + 1):
        for i in range(count - j + 1):
            last = widths is not None and j == count - i
            outputs = widths[i + bare] if widths and last else sketch.width(taps[i])
            made = made_by_up(config, i + bare, levels, outputs)
            place = i + bare, j
            below = rows[i + 1][j - 1]
            rows[i].append(_node(sketch, config, below, rows[i], place, (made, outputs)))
    finest = rows[0][1:]
    for level in reversed(range(bare)):
        outputs = widths[level] if widths else 0
        made = made_by_up(config, level, levels, outputs)
        place = level, levels - level
        finest = [_node(sketch, config, finest[-1], [], place, (made, outputs))]
    return finest


def _node(
    sketch: Sketch,
    config: NetworkConfig,
    below: str,
    beside: list[str],
    place: tuple[int, int],
    widths: tuple[int, int],
) -> str:
    """One block of the triangle; `widths`: of what is up-sampled, and of the block."""
    level, at = place[0], f"{place[0]}_{place[1]}"
    x = raised(sketch, config, below, name=f"ups.{at}", outputs=widths[0], level=level)
    if beside:
        x = joined(sketch, config, beside, x, name=f"join.{at}")
    return block(sketch, config, x, name=f"nodes.{at}", outputs=widths[1], level=level, rising=True)


def _supervised(sketch: Sketch, config: NetworkConfig, finest: list[str]) -> Graph:
    """A head on every map of the finest level."""
    heads = [plain(sketch, config, x, name=f"heads.{j}") for j, x in enumerate(finest, start=1)]
    if config.padding == "valid":
        last = heads[-1]
        heads = [sketch.add(f"fitted.{x}", Fitted(), x, last) for x in heads[:-1]] + [last]
    if config.supervision == "mean":
        return sketch.graph(sketch.add("mean", Sum(mean=True), *heads))
    each = 1 / len(heads)
    return sketch.graph(heads[-1], [(name, each) for name in heads[:-1]], each)
