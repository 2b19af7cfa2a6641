"""Checkpoints of plain networks give what the originals give."""

from typing import Any

import pytest
import torch

from tests.net.imports.same import WITHIN, assert_same
from tests.net.originals import freiburg
from tests.net.originals.fill import filled, image, weights
from tests.net.originals.jakeoung import Jakeoung
from tests.net.originals.mateuszbuda import Mateuszbuda
from tests.net.originals.unet_family import Family, FamilyNested
from tests.net.originals.unetpp import Nested
from unet_core.net.imports import load_foreign

FAMILY = [{}, {"norm": False}, {"deconv": False}, {"deconv": False, "norm": False}]


@pytest.mark.parametrize("norm", [False, True])
def test_jakeoung_gives_the_same_probabilities(norm: bool) -> None:
    original = Jakeoung(norm, w=8)
    checkpoint = {"epoch": 100, "state_dict": filled(original), "loss": 2e-5}
    assert_same(original, checkpoint, image(2, 1, 32, 48))


@pytest.mark.parametrize("kind", FAMILY)
def test_unet_family_gives_the_same_logits(kind: dict[str, Any]) -> None:
    original = Family(1, 2, w=8, **kind)
    assert_same(original, filled(original), image(2, 1, 32, 48))


@pytest.mark.parametrize("kind", FAMILY)
def test_the_nested_network_of_unet_family_gives_the_mean_of_its_logits(
    kind: dict[str, Any],
) -> None:
    original = FamilyNested(1, 2, w=8, **kind)
    assert_same(original, filled(original), image(2, 1, 32, 48), preset="unetpp_family")


def test_the_nested_network_of_unet_family_gives_its_last_logits_when_asked_to() -> None:
    original = FamilyNested(3, 3, w=8, supervised=False)
    assert_same(original, filled(original), image(2, 3, 32, 48), preset="unetpp_family_last")


@pytest.mark.parametrize("supervised", [False, True])
def test_a_nested_network_gives_the_same_logits(supervised: bool) -> None:
    original = Nested(1, supervised=supervised, w=8)
    assert_same(original, filled(original), image(2, 3, 32, 48))


def test_mateuszbuda_gives_the_same_probabilities() -> None:
    original = Mateuszbuda(w=8)
    state = {f"module.{key}": value for key, value in filled(original).items()}
    assert_same(original, state, image(2, 3, 32, 48))


@pytest.mark.parametrize(
    ("shape", "last", "slope", "shift"),
    [((1, 1, 204, 188), 16, 0.0, 0.0), ((1, 1, 188, 204), 8, 0.1, -0.5)],
    ids=["freiburg_2015", "freiburg_fiji_2d"],
)
@pytest.mark.parametrize("folder", ["", "/data/"])
def test_caffe_networks_give_the_same_probabilities(
    shape: tuple[int, ...], last: int, slope: float, shift: float, folder: str
) -> None:
    state = weights(freiburg.shapes(8, last=last))
    theirs = freiburg.scores(state, image(*shape), slope=slope, shift=shift)
    ours = load_foreign({folder + key: value for key, value in state.items()})(image(*shape))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=WITHIN)


def test_a_caffe_network_in_3d_gives_the_same_probabilities() -> None:
    state = weights(freiburg.shapes(2, last=2, dimensions=3))
    x = image(1, 1, 92, 188, 188)
    theirs = freiburg.scores(state, x, slope=0.1, shift=-0.5)
    ours = load_foreign(state)(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=WITHIN)
