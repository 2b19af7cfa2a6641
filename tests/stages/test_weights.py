import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import unet_core.stages.weights as stage
from unet_core.config import ConvertConfig, Resources, TruthConfig, WeightsConfig, work
from unet_core.config.extent import described
from unet_core.errors import BlockError, PlanError, StoreError
from unet_core.geometry import IGNORED_ID, Block, blocks
from unet_core.io.arrays import create_array, open_level, shard_of
from unet_core.io.ledger import building
from unet_core.io.ngff import attributes_of, content_of, multiscale, voxel_size_of
from unet_core.ops.boundary import target_of_instances
from unet_core.ops.weight_map import border_term, near_term
from unet_core.run.crew import Done
from unet_core.stages.weights import TARGET, compute_weights

ONE = Resources(threads=1)
SMALL = WeightsConfig(border_sigma_px=1.0)
SIZE_NM = (50.0, 4.0, 4.0)


def write_truth(
    store: Path,
    ids: np.ndarray,
    *,
    shard: tuple[int, int, int] = (2, 16, 16),
    kind: str | None = "instances",
) -> Path:
    with building(store, stage="convert", settings={}, inputs={"ids": ids.tolist()}) as build:
        cut: dict[str, Any] = {"chunk": (1, 8, 8), "shard": shard}
        create_array(store, "0", shape=ids.shape, dtype=ids.dtype, **cut)[...] = ids
        build.tick("level 0", "all", digest=str(ids.sum()), note=None)
        build.publish(
            ome=multiscale("truth", axes="zyx", voxel_size_nm=SIZE_NM),
            unet={"truth": {"kind": kind}} if kind else {},
        )
    return store


def cells(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Squares of random ids, some touching, with background and ignored voxels between."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 9, [-(-n // s) for n, s in zip(shape, (1, 5, 7), strict=True)])
    ids = coarse.repeat(5, axis=1).repeat(7, axis=2)[:, : shape[1], : shape[2]].astype(np.uint32)
    ids[:, ::11] = 0
    ids[:, :3, :3] = IGNORED_ID
    return ids


def voxels(store: Path) -> tuple[np.ndarray, np.ndarray]:
    return open_level(store)[...], open_level(store, TARGET)[...]


def same_files(one: Path, other: Path) -> None:
    files = [sorted(p.relative_to(s) for p in s.rglob("*") if p.is_file()) for s in (one, other)]
    assert files[0] == files[1]
    for name in files[0]:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("distances", ["section", "volume"])
def test_shards_do_not_show_in_the_result(tmp_path: Path, distances: str) -> None:
    ids = cells((5, 41, 37))
    config = WeightsConfig(
        border_sigma_px=1.5,
        near_weight=0.9,
        near_sigma_px=2.0,
        distances=distances,  # type: ignore[arg-type]
    )
    spacing = 12.5 if distances == "volume" else None
    target = target_of_instances(ids, border_px=1, z_spacing=spacing)
    term = border_term(ids, target, sigma_px=1.5, z_spacing=spacing)
    assert term.any()
    term += near_term(ids, target, weight=0.9, sigma_px=2.0, z_spacing=spacing)
    for shard in [(8, 64, 64), (2, 16, 16), (1, 8, 40), (5, 24, 8)]:
        truth = write_truth(tmp_path / f"{shard}.ome.zarr", ids, shard=shard)
        out = tmp_path / f"{shard}-weights.ome.zarr"
        compute_weights(config, truth=truth, out=out, resources=ONE)
        np.testing.assert_array_equal(voxels(out)[0], term)
        np.testing.assert_array_equal(voxels(out)[1], target)


def test_borders_along_z_do_not_depend_on_the_shards(tmp_path: Path) -> None:
    ids = np.repeat(np.array([1, 1, 1, 2, 2, 2, 3], np.uint32), 64).reshape(7, 8, 8)
    config = WeightsConfig(distances="volume", border_px=13, border_weight=0)
    for number, shard in enumerate([(7, 8, 8), (1, 8, 8), (3, 8, 8)]):
        truth = write_truth(tmp_path / f"{number}.ome.zarr", ids, shard=shard)
        out = tmp_path / f"{number}-weights.ome.zarr"
        compute_weights(config, truth=truth, out=out, resources=ONE)
        assert voxels(out)[1][:, 0, 0].tolist() == [1, 1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("distances", ["section", "volume"])
@pytest.mark.parametrize("near", [0.0, 0.9])
def test_a_job_asks_for_the_memory_that_its_blocks_need(distances: str, near: float) -> None:
    config = WeightsConfig(distances=distances, near_weight=near)  # type: ignore[arg-type]
    extent = described(ConvertConfig(shard=(32, 256, 256)), (300, 2000, 2000))
    halo = stage._halo(config, "instances", 1.0 if distances == "volume" else None)
    needed = stage._need_mb(blocks(extent.shape, block=extent.block, halo=halo))
    sections = {"weights": config, "truth": TruthConfig()}
    assert work.weights(sections, extent).need_mb == pytest.approx(needed)


def test_a_run_that_died_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    truth = write_truth(tmp_path / "truth.ome.zarr", cells((4, 40, 40)))
    whole, out = tmp_path / "whole" / "w.ome.zarr", tmp_path / "died" / "w.ome.zarr"
    compute_weights(SMALL, truth=truth, out=whole, resources=ONE)

    plain = stage.weigh_block

    def dies_half_way(block: Block, **rest: Any) -> Done:
        if block.write.start[0]:
            raise OSError("no space left on device")
        return plain(block, **rest)

    monkeypatch.setattr(stage, "weigh_block", dies_half_way)
    with pytest.raises(BlockError, match="no space left"):
        compute_weights(SMALL, truth=truth, out=out, resources=ONE)
    assert not (out / "zarr.json").exists()
    with pytest.raises(StoreError, match="not finished"):
        attributes_of(out)

    monkeypatch.undo()
    with caplog.at_level(logging.INFO):
        compute_weights(SMALL, truth=truth, out=out, resources=ONE)
        assert "resumed 9, computed 9" in caplog.text
        same_files(whole, out)
        compute_weights(SMALL, truth=truth, out=out, resources=ONE)
        assert "resumed 18, computed 0" in caplog.text
    same_files(whole, out)


def test_workers_do_not_show_in_the_bytes(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.ome.zarr", cells((4, 40, 40)))
    one, two = tmp_path / "one" / "w.ome.zarr", tmp_path / "two" / "w.ome.zarr"
    compute_weights(SMALL, truth=truth, out=one, resources=ONE)
    compute_weights(SMALL, truth=truth, out=two, resources=Resources(threads=2))
    same_files(one, two)


def test_attributes_count_the_classes_of_the_whole_volume(tmp_path: Path) -> None:
    ids = cells((3, 20, 20))
    truth, out = write_truth(tmp_path / "truth.ome.zarr", ids), tmp_path / "weights.ome.zarr"
    compute_weights(SMALL, truth=truth, out=out, resources=ONE)
    target = voxels(out)[1]
    assert attributes_of(out)["unet"] == {
        "kind": "instances",
        "classes": [int((target == 0).sum()), int((target == 1).sum())],
        "ignored": 27,
    }
    assert voxel_size_of(out) == SIZE_NM


def test_the_target_is_a_label_image_of_the_store(tmp_path: Path) -> None:
    truth, out = write_truth(tmp_path / "t.ome.zarr", cells((1, 9, 9))), tmp_path / "w.ome.zarr"
    compute_weights(SMALL, truth=truth, out=out, resources=ONE)
    group = zarr.open_group(out, mode="r")
    labels = group["labels"]
    assert dict(labels.attrs)["ome"] == {"version": "0.5", "labels": ["target"]}
    image = dict(labels["target"].attrs)["ome"]
    assert image["image-label"] == {"version": "0.5"}
    assert image["multiscales"][0]["datasets"][0]["path"] == "0"
    assert labels["target/0"].dtype == np.uint8
    assert group["0"].dtype == np.float32


def test_semantic_truth_has_its_classes_and_no_border_term(tmp_path: Path) -> None:
    classes = np.array([[[0, 1], [4, IGNORED_ID]]], np.uint32)
    truth = write_truth(tmp_path / "t.ome.zarr", classes, kind="semantic")
    compute_weights(SMALL, truth=truth, out=tmp_path / "w.ome.zarr", resources=ONE)
    term, target = voxels(tmp_path / "w.ome.zarr")
    assert target.tolist() == [[[0, 1], [4, 255]]]
    assert not term.any()
    assert attributes_of(tmp_path / "w.ome.zarr")["unet"] == {
        "kind": "semantic",
        "classes": [1, 1, 0, 0, 1],
        "ignored": 1,
    }


@pytest.mark.parametrize("fill", [0, 1, IGNORED_ID])
def test_truth_of_one_value_works(tmp_path: Path, fill: int) -> None:
    truth = write_truth(tmp_path / "t.ome.zarr", np.full((1, 5, 7), fill, np.uint32))
    compute_weights(SMALL, truth=truth, out=tmp_path / "w.ome.zarr", resources=ONE)
    assert not voxels(tmp_path / "w.ome.zarr")[0].any()
    unet = attributes_of(tmp_path / "w.ome.zarr")["unet"]
    assert [*unet["classes"], unet["ignored"]] == [35 * (fill == v) for v in (0, 1, IGNORED_ID)]


def test_other_settings_or_another_kind_start_anew(tmp_path: Path) -> None:
    ids, out = cells((1, 20, 20)) % 4, tmp_path / "w.ome.zarr"
    truth = write_truth(tmp_path / "t.ome.zarr", ids)
    contents = set()
    for config in (SMALL, WeightsConfig(border_weight=0), WeightsConfig(border_px=0)):
        compute_weights(config, truth=truth, out=out, resources=ONE)
        contents.add(content_of(out))
    marker = truth / "zarr.json"
    attributes = json.loads(marker.read_text())
    attributes["attributes"]["unet"]["truth"]["kind"] = "semantic"
    marker.write_text(json.dumps(attributes))
    compute_weights(WeightsConfig(border_px=0), truth=truth, out=out, resources=ONE)
    assert len(contents | {content_of(out)}) == 4


def test_blocks_of_another_cut_are_not_taken_for_finished(tmp_path: Path) -> None:
    """The same voxels, stored in other shards: the same content, but no block is the same."""
    ids, expected = cells((1, 24, 24)), target_of_instances(cells((1, 24, 24)), border_px=1)
    for shard in [(1, 24, 24), (1, 8, 8), (1, 16, 24)]:
        for old in tmp_path.glob("t.*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        truth = write_truth(tmp_path / "t.ome.zarr", ids, shard=shard)
        compute_weights(SMALL, truth=truth, out=tmp_path / "w.ome.zarr", resources=ONE)
        np.testing.assert_array_equal(voxels(tmp_path / "w.ome.zarr")[1], expected)
        assert shard_of(open_level(tmp_path / "w.ome.zarr")) == shard


def test_what_is_no_truth_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "w.ome.zarr"
    raw = write_truth(tmp_path / "raw.ome.zarr", np.zeros((1, 4, 4), np.uint8), kind=None)
    with pytest.raises(StoreError, match="convert --truth"):
        compute_weights(SMALL, truth=raw, out=out, resources=ONE)
    with pytest.raises(StoreError, match="rerun the stage"):
        compute_weights(SMALL, truth=tmp_path / "none.ome.zarr", out=out, resources=ONE)
    ids = write_truth(
        tmp_path / "ids.ome.zarr", np.full((1, 4, 4), 999, np.uint32), kind="semantic"
    )
    with pytest.raises(BlockError, match="kind to instances"):
        compute_weights(SMALL, truth=ids, out=out, resources=ONE)


def test_a_block_that_does_not_fit_the_memory_is_refused(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "t.ome.zarr", cells((1, 9, 9)))
    little = Resources(threads=1, memory_mb=100)
    with pytest.raises(PlanError, match="give it more memory"):
        compute_weights(SMALL, truth=truth, out=tmp_path / "w.ome.zarr", resources=little)
