from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unet_core.config import AugmentConfig
from unet_core.config.load import load
from unet_core.errors import ConfigError
from unet_core.geometry import Box, Zyx
from unet_core.ops import symmetry
from unet_core.ops.colours import Colours, recoloured
from unet_core.ops.intensity import Normaliser
from unet_core.ops.placement import Scene
from unet_core.ops.plan import (
    Fold,
    Patch,
    Row,
    config_of,
    draw_row,
    make_patch,
    source_of,
)

few = settings(deadline=None, max_examples=25)

AS_IT_IS = Normaliser(offset=(0.0,), scale=(1.0,), fill=(0.0,))


COLOURS: Any = {"jitter": "colours", "saturation": 0.5, "hue": 0.1}


def no_target(volume: int, box: Box) -> Any:
    raise AssertionError("the target is read though nothing asks for it")


def row_of(
    index: int, config: AugmentConfig, *, fold: Fold = "train", shapes: Any = ((4, 50, 60),)
) -> Row:
    return draw_row(index, config_of(config, fold), fold=fold, scene=Scene(shapes, no_target))


def patch_of(row: Row, patch: Zyx, raw: NDArray, target: NDArray, border: NDArray) -> Patch:
    """From whole volumes that are mirrored beyond their edges."""
    box, coordinates = source_of(row, patch)
    seen = [mirrored(a, box) for a in (raw, target, border)]
    return make_patch(
        row, coordinates, raw=seen[0][None], target=seen[1], border=seen[2], by=AS_IT_IS
    )


def mirrored(volume: NDArray, box: Box) -> NDArray:
    takes = [
        np.pad(np.arange(n), 300 if n > 1 else 0, mode="reflect")[300 + start : 300 + stop]
        for n, start, stop in zip(volume.shape, box.start, box.stop, strict=True)
    ]
    return volume[np.ix_(*takes)]


CHANGED = row_of(5, AugmentConfig(**COLOURS)).colours


def same(a: Row, b: Row) -> bool:
    return (a.grid == b.grid).all() and replace(a, grid=b.grid).__dict__ == b.__dict__


def same_deformation(a: Row, b: Row) -> bool:
    return same(replace(a, volume=b.volume, centre=b.centre), b)


@few
@given(index=st.integers(0, 10**6), count=st.integers(1, 10**6), shard=st.integers(1, 64))
def test_a_row_depends_on_seed_fold_and_index_alone(index: int, count: int, shard: int) -> None:
    config = AugmentConfig(rotation=True)
    other = replace(config, patches=count, shard_patches=shard)
    assert same(row_of(index, config), row_of(index, other))
    assert not same(row_of(index, config), row_of(index + 1, config))
    assert not same(row_of(index, config), row_of(index, replace(config, seed=1)))
    assert not same(row_of(index, config), row_of(index, config, fold="validation"))


def test_switching_one_deformation_off_leaves_all_else_as_drawn() -> None:
    full = AugmentConfig(rotation=True)
    row = row_of(5, full)
    for changed, parts in [
        ({"symmetries": False}, {"code": 0, "flip_z": False}),
        ({"rotation": False}, {"angle": 0.0}),
        ({"elastic_sd_px": 0.0}, {"grid": np.zeros((2, 3, 3), np.float32)}),
        ({"elastic_nodes": 5}, {"grid": row_of(5, replace(full, elastic_nodes=5)).grid}),
        ({"contrast": 0.0}, {"jitter": replace(row.jitter, gain=1.0)}),
        ({"scale": (0.5, 2.0)}, {"scale": row_of(5, AugmentConfig(scale=(0.5, 2.0))).scale}),
        ({"symmetries": "left_right"}, {"code": row.code & 1, "flip_z": False}),
        (COLOURS, {"jitter": replace(row.jitter, gain=1, shift=0), "colours": CHANGED}),
    ]:
        assert same(row_of(5, replace(full, **changed)), replace(row, **parts))


def test_validation_patches_are_neither_deformed_nor_jittered() -> None:
    config = AugmentConfig(rotation=True, noise_sd=1.0, scale=(0.5, 2.0), **COLOURS)
    row = row_of(3, config, fold="validation")
    assert not row.grid.any()
    assert (row.code, row.flip_z, row.angle, row.scale) == (0, False, 0, 1)
    assert (row.jitter.gain, row.jitter.shift, row.jitter.noise_sd) == (1, 0, 0)
    assert row.colours == Colours()


def test_the_scale_is_uniform_over_its_range() -> None:
    scales = [row_of(i, AugmentConfig(scale=(0.5, 2.0))).scale for i in range(1000)]
    assert 0.5 <= min(scales) < 0.52
    assert 1.98 < max(scales) <= 2
    assert np.mean(scales) == pytest.approx(1.25, abs=0.05)


def test_left_right_draws_the_one_flip_in_half_of_the_patches() -> None:
    rows = [row_of(i, AugmentConfig(symmetries="left_right")) for i in range(400)]
    assert {(row.code, row.flip_z) for row in rows} == {(0, False), (1, False)}
    assert np.mean([row.code for row in rows]) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_colours_are_changed_before_intensities_are_normalised(dtype: str) -> None:
    whole = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    rng = np.random.default_rng(1)
    raw = (rng.random((3, 1, 12, 14)) * whole).astype(dtype)
    by = Normaliser((0.4 * whole, 0.3 * whole, 0.1 * whole), (3 / whole, 4 / whole, 5 / whole), ())
    by = replace(by, fill=(0.0,) * 3)
    row = replace(row_of(0, AugmentConfig(), fold="validation"), colours=CHANGED)
    _, coordinates = source_of(row, (1, 12, 14))
    flat = np.zeros((1, 12, 14), np.uint8)
    y, x = np.mgrid[:12, :14].astype(np.float32)
    out = make_patch(
        row, np.stack([y, x]), raw=raw, target=flat, border=flat.astype(np.float32), by=by
    )
    assert coordinates.shape == (2, 12, 14)
    rgb = recoloured(raw.astype(np.float32) / np.float32(whole), CHANGED)
    offset, scale = (np.array(n)[:, None, None, None] for n in ([0.4, 0.3, 0.1], [3, 4, 5]))
    np.testing.assert_allclose(out.raw, (rgb - offset) * scale, atol=3e-3)


def test_centres_are_uniform_over_all_voxels_of_all_volumes() -> None:
    shapes = [(1, 10, 10), (0, 10, 10), (3, 10, 10)]
    rows = [row_of(index, AugmentConfig(), shapes=shapes) for index in range(2000)]
    volumes = np.array([row.volume for row in rows])
    assert not (volumes == 1).any()  # holds no voxel
    assert (volumes == 2).mean() == pytest.approx(0.75, abs=0.04)
    centres = np.array([row.centre for row in rows])[volumes == 2]
    assert (centres.min(axis=0) == 0).all()
    assert (centres.max(axis=0) == (2, 9, 9)).all()
    np.testing.assert_allclose(centres.mean(axis=0), (1, 4.5, 4.5), atol=0.3)


def test_where_a_patch_is_placed_leaves_its_deformation_as_drawn() -> None:
    target = np.zeros((4, 50, 60), np.uint8)
    target[1, 20:24, 20:24] = 1
    scene = Scene([target.shape], lambda volume, box: target[box.slices])  # type: ignore[list-item]
    for index in range(5):
        row = draw_row(index, AugmentConfig(foreground_share=1.0), fold="train", scene=scene)
        assert target[row.centre] == 1
        assert same_deformation(row, row_of(index, AugmentConfig()))


def test_all_symmetries_are_drawn() -> None:
    rows = [row_of(index, AugmentConfig()) for index in range(200)]
    assert {(row.code, row.flip_z) for row in rows} == {
        (code, flip) for code in symmetry.CODES for flip in (False, True)
    }


@few
@given(
    seed=st.integers(0, 99),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 70)),
)
def test_undeformed_patches_are_the_exact_crop(seed: int, patch: Zyx) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(3, 20, 24)).astype(np.float32)
    target = rng.integers(0, 3, raw.shape).astype(np.uint8)
    row = row_of(seed, AugmentConfig(), fold="validation", shapes=[raw.shape])
    out = patch_of(row, patch, raw, target, np.abs(raw))
    start = [c - n // 2 for c, n in zip(row.centre, patch, strict=True)]
    crop = Box(tuple(start), tuple(a + n for a, n in zip(start, patch, strict=True)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(out.raw[0], mirrored(raw, crop).astype(np.float16))
    np.testing.assert_array_equal(out.target, mirrored(target, crop))
    np.testing.assert_array_equal(out.border, mirrored(np.abs(raw), crop).astype(np.float16))


@few
@given(seed=st.integers(0, 99), depth=st.integers(1, 3), y=st.integers(4, 40))
def test_raw_target_and_border_share_one_deformation(seed: int, depth: int, y: int) -> None:
    config = AugmentConfig(seed=seed, rotation=True, contrast=0, brightness=0, elastic_sd_px=3)
    ramp = np.linspace(0, 1, 60, dtype=np.float32)  # smooth: all orders agree where it is read
    volume = (30 * np.sin(6 * ramp)[:, None] + 100 + 90 * ramp) * np.ones((3, 1, 1), np.float32)
    row = row_of(seed, config, shapes=[volume.shape])
    out = patch_of(row, (depth, y, 25), volume, volume.round().astype(np.uint8), volume)
    assert out.raw.shape == (1, depth, y, 25)
    np.testing.assert_allclose(out.raw[0], out.border, atol=2)
    np.testing.assert_allclose(out.raw[0], out.target.astype(np.float16), atol=5)


@few
@given(code=st.sampled_from(symmetry.CODES), flip_z=st.booleans(), seed=st.integers(0, 9))
def test_a_symmetry_of_the_row_is_that_symmetry_of_the_patch(
    code: int, flip_z: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(3, 40, 44)).astype(np.float32)
    row = row_of(seed, AugmentConfig(contrast=0, brightness=0), shapes=[raw.shape])
    shape = symmetry.shape_before((8, 13), code)
    plain = patch_of(
        replace(row, code=0, flip_z=False), (2, *shape), raw, raw.astype(np.uint8), raw
    )
    turned = patch_of(
        replace(row, code=code, flip_z=flip_z), (2, 8, 13), raw, raw.astype(np.uint8), raw
    )
    wanted = symmetry.apply(plain.target[:: -1 if flip_z else 1], code)
    np.testing.assert_array_equal(turned.target, wanted)
    close = symmetry.apply(plain.raw[:, :: -1 if flip_z else 1], code)
    np.testing.assert_allclose(turned.raw, close, atol=2e-3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"scale": [2.0, 0.5]}, r"augment.scale must be \[least, most\]"),
        ({"scale": [0.0, 1.0]}, r"augment.scale must be \[least, most\]"),
        ({"hue": 0.1}, "need augment.jitter colours; set it, or set both to 0"),
        ({"hue": 0.6, "jitter": "colours"}, r"augment.hue in \[0, 0.5\], got 0.0 and 0.6"),
        ({"symmetries": "up_down"}, "symmetries"),
    ],
)
def test_sizes_and_colours_that_are_none_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(AugmentConfig, wrong, section="augment")


def test_intensities_beyond_half_precision_stay_finite() -> None:
    raw = np.full((1, 9, 9), 1e6, np.float32)
    row = row_of(0, AugmentConfig(), shapes=[raw.shape])
    out = patch_of(row, (1, 5, 5), raw, raw.astype(bool).astype(np.uint8), raw)
    assert np.isfinite(out.raw).all()
    assert np.isfinite(out.border).all()
