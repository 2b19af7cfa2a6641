"""Training on a small bank: what it learns, refuses, and keeps when it is killed."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unet_core.config import NetworkConfig, Resources, TrainConfig, canonical
from unet_core.errors import ConfigError, Interrupted, PlanError
from unet_core.io.arrays import array_digest, create_array, open_level
from unet_core.io.ledger import building
from unet_core.net.checkpoint import read_checkpoint, read_state
from unet_core.run import steps
from unet_core.stages.train import train_unet

MODEL = NetworkConfig(width=8, depth=1, norm="batch", dropout=0.2)
CONFIG = TrainConfig(
    steps=60,
    batch=2,
    optimiser="adam",
    learning_rate=0.01,
    class_weights="uniform",
    precision="float32",
    validate_every=20,
)


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def write_bank(
    out: Path,
    *,
    patches: int = 8,
    seed: int = 0,
    channels: int = 1,
    shape: tuple[int, int, int] = (1, 28, 28),
    normalise: str = "mean_std",
    classes: int = 2,
) -> Path:
    """Bright discs on noise; the target is the disc, its rim is ignored."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[1], : shape[2]]
    raw = rng.normal(0, 0.5, (patches, channels, *shape)).astype(np.float16)
    target = np.zeros((patches, *shape), np.uint8)
    for i in range(patches):
        centre = rng.uniform(8, 20, 2)
        distance = np.hypot(y - centre[0], x - centre[1])
        raw[i] += (distance < 5).astype(np.float16)
        target[i] = np.where(abs(distance - 5) < 0.3, 255, (distance < 5) * (classes - 1))
    border = (target == 0).astype(np.float16) * 0.5
    counts = np.bincount(target[target != 255], minlength=classes).tolist()
    with building(out, stage="augment", settings={"seed": seed}, inputs={}) as build:
        for name, data in (("raw", raw), ("target", target), ("border", border)):
            array = create_array(
                out, name, shape=data.shape, dtype=data.dtype, chunk=shape, shard=shape,
                axes="nczyx" if data.ndim == 5 else "nzyx",
            )  # fmt: skip
            array[:] = data
            build.tick(name, "", digest=array_digest(data) if data.size else None, note=None)
        build.publish(
            unet={"normalise": normalise, "channels": channels, "patch": shape, "classes": counts}
        )
    return out


def train(folder: Path, bank: Path, checks: Path | None, config: TrainConfig = CONFIG) -> Path:
    out = folder / "best.pt"
    train_unet(config, model=MODEL, patches=bank, validation=checks, out=out, resources=Resources())
    return out


def history(out: Path) -> list[dict[str, str]]:
    with out.with_name("history.csv").open() as file:
        return list(csv.DictReader(file))


def files(out: Path) -> dict[str, bytes]:
    names = ("best.pt", "model.json", "history.csv")
    return {name: out.with_name(name).read_bytes() for name in names}


def test_it_learns_and_tells_what_it_learnt(tmp_path: Path) -> None:
    bank, checks = write_bank(tmp_path / "t.zarr"), write_bank(tmp_path / "v.zarr", seed=1)
    out = train(tmp_path / "model", bank, checks)
    rows = history(out)
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    losses = [float(row["validation_loss"]) for row in rows]
    model = json.loads(out.with_name("model.json").read_text())
    assert model["step"] == int(rows[int(np.argmin(losses))]["step"])
    assert model["scores"]["dice"] > 0.8
    checkpoint = read_checkpoint(out)
    assert (checkpoint.model, checkpoint.normalise) == (MODEL, "mean_std")
    assert model["provenance"]["content"] == checkpoint.content
    assert model["provenance"]["settings"]["train"]["steps"] == CONFIG.steps
    assert str(tmp_path) not in out.with_name("model.json").read_text()


def test_equal_work_gives_equal_bytes_and_finished_work_is_not_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bank, checks = write_bank(tmp_path / "t.zarr"), write_bank(tmp_path / "v.zarr", seed=1)
    first = train(tmp_path / "a", bank, checks)
    second = train(tmp_path / "b", bank, checks)
    assert files(first) == files(second)
    again = train(tmp_path / "a", bank, checks)
    assert "resumed at step 60 of 60" in caplog.text
    assert files(again) == files(second)


def test_other_settings_start_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bank = write_bank(tmp_path / "t.zarr")
    short = replace(CONFIG, steps=2)
    train(tmp_path, bank, None, short)
    train(tmp_path, bank, None, replace(short, seed=1))
    assert "last.pt is of other settings, patches or code: starting anew" in caplog.text
    assert "resumed" not in caplog.text


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    out = train(tmp_path, write_bank(tmp_path / "t.zarr"), None, replace(CONFIG, steps=30))
    assert json.loads(out.with_name("model.json").read_text())["step"] == 30
    assert [row["validation_loss"] for row in history(out)] == ["", ""]


def command(bank: Path, checks: Path, out: Path, config: TrainConfig) -> list[str]:
    settings = canonical(
        {"train": json.loads(canonical(config)), "model": json.loads(canonical(MODEL))}
    )
    return [
        *(sys.executable, "-m", "unet_core.cli", "train", "--config", settings),
        *("--patches", str(bank), "--validation", str(checks), "--out", str(out)),
    ]


def test_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    bank, checks = write_bank(tmp_path / "t.zarr"), write_bank(tmp_path / "v.zarr", seed=1)
    config = replace(CONFIG, steps=160)
    whole = train(tmp_path / "whole", bank, checks, config)

    out = tmp_path / "killed" / "best.pt"
    last = out.with_name("last.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = command(bank, checks, out, config)
    with subprocess.Popen(run, stderr=subprocess.PIPE, env=environment) as process:
        while not last.exists():
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    assert not out.exists()
    saved = read_state(last)["training"]["steps_done"]
    assert 20 <= saved < 160
    done = subprocess.run(run, stderr=subprocess.PIPE, env=environment, text=True, check=True)
    assert f"resumed at step {saved} of 160" in done.stderr
    assert files(out) == files(whole)
    assert [int(row["step"]) for row in history(out)] == list(range(20, 161, 20))


def test_asked_to_end_it_saves_the_step_it_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, checks = write_bank(tmp_path / "t.zarr"), write_bank(tmp_path / "v.zarr", seed=1)
    whole = train(tmp_path / "whole", bank, checks)
    count = 0

    def end_at_33(*args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if count == 33:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", _after(torch.optim.Adam.step, end_at_33))
        with pytest.raises(Interrupted, match="step 33 of 60 is saved") as caught:
            train(tmp_path / "part", bank, checks)
    assert caught.value.exit_code == 143
    assert files(train(tmp_path / "part", bank, checks)) == files(whole)


def _after(function: Any, then: Any) -> Any:
    def both(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        then()
        return result

    return both


def test_a_damaged_state_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bank = write_bank(tmp_path / "t.zarr")
    (tmp_path / "last.pt").write_bytes(b"torn")
    out = train(tmp_path, bank, None, replace(CONFIG, steps=2))
    assert out.exists()
    assert "last.pt is damaged" in caplog.text


@pytest.mark.parametrize(
    ("bank", "model", "message"),
    [
        ({"shape": (1, 30, 29)}, MODEL, r"does not accept patches of \(1, 30, 29\).*\[1, 30, 30\]"),
        ({"shape": (2, 28, 28)}, MODEL, r"\(2, 28, 28\).*\[1, 28, 28\]"),
        ({"channels": 2}, MODEL, r"2 channels, the network takes 1; set model.channels to 2"),
        ({"classes": 4}, MODEL, r"hold class 3, the network has 2 classes"),
        ({"patches": 0}, MODEL, r"no patches"),
        ({}, replace(MODEL, padding="same", depth=2, norm="instance"), None),
        ({"shape": (1, 4, 4)}, replace(MODEL, padding="same", depth=2, norm="instance"), "deepest"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    tmp_path: Path, bank: dict[str, Any], model: NetworkConfig, message: str | None
) -> None:
    patches = write_bank(tmp_path / "t.zarr", **bank)
    arguments: dict[str, Any] = {
        "model": model, "patches": patches, "validation": None,
        "out": tmp_path / "best.pt", "resources": Resources(),
    }  # fmt: skip
    config = replace(CONFIG, steps=1)
    if message is None:
        train_unet(config, **arguments)
        return
    with pytest.raises(ConfigError, match=message):
        train_unet(config, **arguments)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".jsonl", ".zarr"]


def test_banks_that_were_normalised_differently_are_refused(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "t.zarr")
    checks = write_bank(tmp_path / "v.zarr", normalise="none")
    with pytest.raises(ConfigError, match="mean_std, validation patches by none"):
        train(tmp_path, bank, checks)


def test_divergence_is_refused_with_advice(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "t.zarr")
    config = replace(CONFIG, optimiser="sgd", learning_rate=1e30)
    with pytest.raises(ConfigError, match=r"training diverged; lower train\.learning_rate"):
        train(tmp_path, bank, None, config)
    # The loss of the one step is still a number, what it makes of the weights is none.
    with pytest.raises(ConfigError, match=r"weights after step 1 are not finite: training"):
        train(tmp_path, bank, None, replace(config, weight_decay=1e12, steps=1))
    assert not (tmp_path / "best.pt").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="finds none"):
        train_unet(
            CONFIG, model=MODEL, patches=write_bank(tmp_path / "t.zarr"), validation=None,
            out=tmp_path / "best.pt", resources=Resources(gpus=1),
        )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_equal_work_gives_equal_bytes(tmp_path: Path, precision: str) -> None:
    bank = write_bank(tmp_path / "t.zarr")
    config = replace(CONFIG, precision=precision)  # type: ignore[arg-type]
    outs = []
    for name in ("a", "b"):
        outs.append(tmp_path / name / "best.pt")
        train_unet(
            config, model=MODEL, patches=bank, validation=bank, out=outs[-1],
            resources=Resources(gpus=1),
        )  # fmt: skip
    assert files(outs[0]) == files(outs[1])
    assert json.loads(outs[0].with_name("model.json").read_text())["scores"]["dice"] > 0.8


def test_a_3d_network_trains_on_volumes(tmp_path: Path) -> None:
    model = NetworkConfig(dimensions=3, width=4, depth=1, padding="same", up="bilinear")
    bank = write_bank(tmp_path / "t.zarr", patches=2, shape=(4, 28, 28))
    train_unet(
        replace(CONFIG, steps=3, precision="auto"), model=model, patches=bank, validation=bank,
        out=tmp_path / "best.pt", resources=Resources(),
    )  # fmt: skip
    assert read_checkpoint(tmp_path / "best.pt").model == model


def test_a_network_that_sees_three_sections_learns_what_only_the_next_one_shows(
    tmp_path: Path,
) -> None:
    bank = write_bank(tmp_path / "t.zarr", shape=(3, 28, 28))
    raw = open_level(bank, "raw", mode="r+")
    shown = raw[:]
    noise = np.random.default_rng(3).normal(0, 0.5, shown[:, :, :2].shape)
    shown[:, :, :2] = noise  # the one before and the middle one show nothing
    raw[:] = shown
    model, out = replace(MODEL, sections=3, dropout=0.0), tmp_path / "best.pt"
    train_unet(CONFIG, model=model, patches=bank, validation=bank, out=out, resources=Resources())
    assert read_checkpoint(out).model == model
    assert json.loads(out.with_name("model.json").read_text())["scores"]["dice"] > 0.8


def test_the_log_tells_steps_and_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(steps.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(steps.sys.stderr, "isatty", lambda: False, raising=False)
    with steps.progress("train", total=104, done=100) as advance:
        for _ in range(4):
            advance()
    assert caplog.messages == [
        "train: step 102 of 104, 0.17 per second, 12 s left",
        "train: step 104 of 104, 0.17 per second, 0 s left",
    ]
