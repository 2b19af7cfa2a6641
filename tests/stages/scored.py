"""Stores of one small volume of blobs to be scored, and the files beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from tests.stages.stores import told_of
from unet_core.config import ObjectsConfig, Resources, ScoreConfig
from unet_core.geometry import IGNORED_ID
from unet_core.io.arrays import create_array
from unet_core.io.calibration import FORMAT
from unet_core.io.ledger import building
from unet_core.stages.score import score_volume

ONE = Resources(threads=1)
SECTION, VOLUME = ObjectsConfig(), ObjectsConfig(scope="volume")
FEW = ScoreConfig(thresholds=3, iou_thresholds=(0.5, 0.75))


def write_store(
    store: Path,
    data: np.ndarray,
    *,
    chunk: tuple[int, int, int] = (3, 16, 16),
    **unet: Any,
) -> Path:
    with building(store, stage="convert", settings={}, inputs={"name": store.stem}) as build:
        cut: dict[str, Any] = {"chunk": chunk, "shard": chunk}
        create_array(store, "0", shape=data.shape, dtype=data.dtype, **cut)[...] = data
        build.tick("level 0", "all", digest=str(hash(data.tobytes())), note=None)
        build.publish(unet=unet)
    return store


class Made:
    """Three stores of one small volume of blobs, and what is in them."""

    def __init__(
        self,
        folder: Path,
        *,
        sections: int = 5,
        kind: str = "instances",
        dtype: str = "uint8",
        chunk: tuple[int, int, int] = (3, 16, 16),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(5)
        smooth = ndimage.gaussian_filter(rng.normal(size=(5, 33, 41)), (0.5, 2, 2))[:sections]
        noisy = smooth + 0.1 * ndimage.gaussian_filter(rng.normal(size=(5, 33, 41)), 1)[:sections]
        probability = np.clip(0.5 + 4 * noisy, 0, 1)
        inside = smooth > 0
        self.truth = ndimage.label(inside)[0].astype(np.uint32)
        if kind == "semantic":
            self.truth = inside.astype(np.uint32)
        self.truth[:, :2] = IGNORED_ID
        self.labels = np.zeros(inside.shape, np.uint64)
        for z, section in enumerate(probability > 0.5):
            labels = ndimage.label(section)[0].astype(np.int64)
            self.labels[z] = np.where(labels > 0, labels + 2**40 * z, 0)
        self.stored = probability[None].astype(np.float16)
        if dtype == "uint8":
            self.stored = np.round(255 * probability[None]).astype(np.uint8)
        self.paths = {
            "truth": write_store(folder / "truth", self.truth, chunk=chunk, truth={"kind": kind}),
            "labels": write_store(folder / "labels", self.labels, chunk=chunk),
            "probabilities": write_store(
                folder / "probabilities", self.stored, chunk=chunk, **told_of(self.stored)
            ),
        }
        self.out = folder / "scores.json"
        self.mask: Path | None = None

    def score(
        self,
        config: ScoreConfig = FEW,
        objects: ObjectsConfig = SECTION,
        calibration: Path | None = None,
        resources: Resources = ONE,
    ) -> dict[str, Any]:
        score_volume(
            config,
            objects=objects,
            calibration=calibration,
            mask=self.mask,
            out=self.out,
            resources=resources,
            **self.paths,
        )
        scores: dict[str, Any] = json.loads(self.out.read_text())
        return scores


def calibration_file(folder: Path, *, method: str = "threshold", threshold: Any = None) -> Path:
    path = folder / "calibration.json"
    tried = threshold is not None
    content = {
        "format": FORMAT,
        "best": {"method": method, "value": 0.9},
        "best_threshold": {"method": "threshold", "threshold": threshold} if tried else None,
    }
    path.write_text(json.dumps(content))
    return path
