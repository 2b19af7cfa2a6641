"""Exported networks compute the same, for batches and sizes that they were not traced with."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config.networks.accepted import accepted
from unet_core.config.networks.geometry import nearest_input_size, output_size
from unet_core.config.networks.settings import NetworkConfig
from unet_core.config.presets import read_network
from unet_core.errors import CheckpointError, ConfigError
from unet_core.net import export
from unet_core.net.checkpoint import Checkpoint
from unet_core.net.export import Program, program_of, results_of, write_onnx, write_program
from unet_core.net.initial import initialise
from unet_core.net.network import Network

MODELS = Path(__file__).parents[2] / "config/models"
THIN: dict[str, Any] = {"widths": None, "decoder_widths": None, "up_widths": None, "width": 2}


def checkpoint_of(config: NetworkConfig) -> Checkpoint:
    network = initialise(Network.of(config), seed=3)
    return Checkpoint(config, "mean_std", network.state_dict())


def preset(name: str, **changes: Any) -> NetworkConfig:
    return replace(read_network(MODELS / f"{name}.yaml"), **changes)


def test_sizes_are_those_that_the_network_accepts() -> None:
    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 5), st.sampled_from(["valid", "same"]), st.integers(1, 3))
    def law(number: int, padding: Any, depth: int) -> None:
        config = NetworkConfig(width=2, depth=depth, padding=padding)
        found = accepted(config)
        (size, other) = found.sizes(number)
        assert size == other == nearest_input_size(config, size)
        assert output_size(config, size) == size - 2 * found.lost[0]
        (least, _) = found.roomy.least
        assert least - 2 * found.lost[0] - 2 * found.halo[0] >= 1

    law()


def test_sizes_of_the_paper() -> None:
    found = accepted(NetworkConfig())
    assert (found.least, found.step, found.lost, found.halo) == (
        (188,) * 2,
        (16,) * 2,
        (92,) * 2,
        (0,) * 2,
    )


def onnx_of(program: Program, path: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    write_onnx(path, program, about={"normalise": "mean_std"})
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "config",
    [
        preset("milesial_bilinear", depth=2, **THIN),
        preset("paper", depth=1, **THIN),
        preset(
            "unet3d_anisotropic",
            width=2,
            depth=(0, 1, 1),
            **{k: None for k in THIN if k != "width"},
        ),
        preset("smp_unet_resnet18"),
    ],
    ids=["bilinear", "valid", "3-D", "backbone"],
)
def test_onnxruntime_and_torch_agree(config: NetworkConfig, tmp_path: Path) -> None:
    sizes = accepted(config)
    program = program_of(checkpoint_of(config), sizes)
    session = onnx_of(program, tmp_path / "net.onnx")
    x = np.random.default_rng(5).standard_normal((3, config.inputs, *sizes.sizes(3)), np.float32)
    (found,) = session.run(None, {"input": x})
    assert found.shape == (
        3,
        config.outputs,
        *(n - 2 * k for n, k in zip(sizes.sizes(3), sizes.lost, strict=True)),
    )
    np.testing.assert_allclose(found, results_of(program, x), atol=1e-4, rtol=0)
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_a_program_is_read_again_and_runs_on_other_sizes(tmp_path: Path) -> None:
    config = NetworkConfig(width=2, depth=1, norm="batch", padding="same", output="sigmoid")
    checkpoint = checkpoint_of(config)
    path = tmp_path / "net.pt2"
    write_program(path, program_of(checkpoint, accepted(config), logits=True), about={})
    x = torch.randn(1, 1, 26, 34)
    found = torch.export.load(path).module()(x)
    torch.testing.assert_close(found, checkpoint.network()(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(Exception, match=r"Guard failed"):
        torch.export.load(path).module()(torch.randn(1, 1, 27, 34))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_program_that_is_read_knows_an_example_of_every_number(
    padding: Any, depth: int, tmp_path: Path
) -> None:
    """Without them AOTInductor compiles nothing."""
    config = NetworkConfig(width=2, depth=depth, padding=padding)
    write_program(tmp_path / "p", program_of(checkpoint_of(config), accepted(config)), about={})
    read = torch.export.load(tmp_path / "p")
    shown = next(node.meta["val"] for node in read.graph.nodes if node.name == "x")
    numbers = {s for n in shown.shape if n != 1 for s in n.node.expr.free_symbols}
    assert len(numbers) == 3
    assert numbers <= shown.shape[0].node.shape_env.backed_var_to_val.keys()


def test_a_network_of_pooled_means_is_exported_for_one_size() -> None:
    config = preset("mmseg_pspnet")
    with pytest.raises(ConfigError, match="--size"):
        accepted(config)
    with pytest.raises(ConfigError, match=r"nearest that it does: \[64, 64\]"):
        accepted(config, [70])
    found = accepted(config, [64])
    assert found.sizes(2) == found.least == (64, 64)


def test_libraries_that_are_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    config = NetworkConfig(width=2, depth=1)
    program = program_of(checkpoint_of(config), accepted(config))
    with pytest.raises(ConfigError, match=r"pip install unet-core\[export\]"):
        write_onnx(tmp_path / "net.onnx", program, about={})


def test_more_weights_than_one_file_holds_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(export, "LARGEST", 100)
    config = NetworkConfig(width=2, depth=1)
    program = program_of(checkpoint_of(config), accepted(config))
    with pytest.raises(CheckpointError, match="use --format torch"):
        write_onnx(tmp_path / "net.onnx", program, about={})


def test_what_computes_something_else_is_refused() -> None:
    config = NetworkConfig(width=2, depth=1)
    program = program_of(checkpoint_of(config), accepted(config))
    with pytest.raises(CheckpointError, match="differs by"):
        export._check(program, lambda x: results_of(program, x) + np.float32(0.01), "another")
