"""OME-NGFF 0.5 metadata of finished stores: axes, voxel size, levels, provenance."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_core.errors import StoreError
from unet_core.io.atomic import write_json
from unet_core.io.remote import Location

_KINDS = {"c": "channel", "z": "space", "y": "space", "x": "space"}


def multiscale(
    name: str,
    *,
    axes: str,
    voxel_size_nm: Sequence[float],
    factors: Sequence[Sequence[int]] = ((1, 1, 1),),
) -> dict[str, Any]:
    """OME-NGFF 0.5 metadata of an image with levels ``0, 1, …``.

    Parameters
    ----------
    axes
        One letter each: ``zyx`` or ``czyx``.
    voxel_size_nm
        Of level 0, (z, y, x), nanometres.
    factors
        Per level, how many voxels of level 0 one of its voxels spans, (z, y, x).
    """
    datasets = []
    for level, factor in enumerate(factors):
        scale = [1.0] * (len(axes) - 3)
        scale += [float(size * f) for size, f in zip(voxel_size_nm, factor, strict=True)]
        shift = [0.0] * (len(axes) - 3)
        shift += [size * (f - 1) / 2 for size, f in zip(voxel_size_nm, factor, strict=True)]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(shift):
            steps.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    described = [
        {"name": a, "type": _KINDS[a], **({"unit": "nanometer"} if a in "zyx" else {})}
        for a in axes
    ]
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": described, "datasets": datasets}],
    }


def label_image(ome: Mapping[str, Any]) -> dict[str, Any]:
    """The same metadata, marked as an image of labels."""
    return {**ome, "image-label": {"version": "0.5"}}


def write_group(path: Path, attributes: Mapping[str, Any]) -> None:
    """Write the `zarr.json` of a group below a store's root, such as ``labels``."""
    write_json(
        path / "zarr.json",
        {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)},
    )


def attributes_of(store: Location) -> dict[str, Any]:
    """Attributes of a finished store: ``ome``, ``unet``, ``provenance``.

    Raises
    ------
    StoreError
        If the store is absent, unfinished or not ours.
    """
    try:
        attributes = json.loads(_metadata(store))["attributes"]
    except FileNotFoundError:
        state = "does not exist"
        if not isinstance(store, Path):
            state = "does not exist or is not finished"
        elif store.exists():
            state = "is not finished"
        raise StoreError(f"{store} {state}; run the stage that makes it to its end") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise StoreError(
            f"{store}/zarr.json is not the metadata of a zarr 3 group; delete {store} and rerun "
            "the stage that makes it"
        ) from None
    if not isinstance(attributes, dict) or "provenance" not in attributes:
        raise StoreError(f"{store} was not made by unet-core: it has no provenance; convert it")
    return attributes


def content_of(store: Location) -> str:
    """Digest of a finished store's voxels, as recorded when it was made."""
    content: str = attributes_of(store)["provenance"]["content"]
    return content


def voxel_size_of(store: Location) -> tuple[float, float, float]:
    """Edge lengths (z, y, x) of a voxel of level 0, nanometres."""
    dataset = attributes_of(store)["ome"]["multiscales"][0]["datasets"][0]
    z, y, x = dataset["coordinateTransformations"][0]["scale"][-3:]
    return z, y, x


def factors_of(store: Path) -> list[tuple[int, int, int]]:
    """Per level of a finished store, how many voxels of level 0 one of its voxels spans."""
    datasets = attributes_of(store)["ome"]["multiscales"][0]["datasets"]
    sizes = [dataset["coordinateTransformations"][0]["scale"][-3:] for dataset in datasets]
    found = []
    for size in sizes:
        z, y, x = (round(edge / whole) for edge, whole in zip(size, sizes[0], strict=True))
        found.append((z, y, x))
    return found


def _metadata(store: Location) -> str:
    if isinstance(store, Path):
        return (store / "zarr.json").read_text(encoding="utf-8")
    return store.text("zarr.json")
