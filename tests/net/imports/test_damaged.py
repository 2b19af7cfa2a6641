"""Whatever is wrong with a checkpoint is refused, and named."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.net.originals import freiburg
from tests.net.originals.fill import weights
from tests.net.originals.jakeoung import Jakeoung
from tests.net.originals.mateuszbuda import Mateuszbuda
from tests.net.originals.milesial import Milesial
from tests.net.originals.unet_family import Family, FamilyNested
from tests.net.originals.unetpp import Nested
from unet_core.errors import UNetCoreError
from unet_core.net.imports import translated

SYSTEMS = {
    "milesial": lambda: Milesial(1, 2, w=2),
    "milesial_bilinear": lambda: Milesial(1, 2, w=2, bilinear=True),
    "jakeoung": lambda: Jakeoung(False, w=2),
    "jakeoung_bn": lambda: Jakeoung(True, w=2),
    "unet_family": lambda: Family(1, 2, w=2),
    "unet_family_bilinear": lambda: Family(1, 2, w=2, deconv=False),
    "unetpp_family": lambda: FamilyNested(1, 2, w=2),
    "unetpp": lambda: Nested(1, w=2),
    "mateuszbuda": lambda: Mateuszbuda(w=2),
    "freiburg_2015": lambda: freiburg.shapes(2, last=4),
}


FIRST = ("inc.", "conv1.0.", "conv1.conv1.0.", "conv00.", "conv0_0.", "conv_d0a-b/0", "encoder1.")
"""Channels are read from these: with another number of them it is another network."""


@cache
def state_of(name: str) -> dict[str, Tensor]:
    made = SYSTEMS[name]()
    return dict(made.state_dict()) if isinstance(made, nn.Module) else weights(made)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, str, dict[str, Tensor]]:
    """A system, one of its keys, and its weights with that one left out or of another shape."""
    name = draw(st.sampled_from(sorted(SYSTEMS)))
    state = dict(state_of(name))
    key = draw(st.sampled_from([k for k in state if not k.endswith("num_batches_tracked")]))
    if draw(st.booleans()):
        del state[key]
    else:
        shape = list(state[key].shape)
        axis = draw(st.integers(0, len(shape)))
        if axis == len(shape):
            shape.append(2)
        else:
            shape[axis] += draw(st.integers(1, 3))
        state[key] = torch.zeros(shape)
    return name, key, state


def chosen(name: str) -> str | None:
    return name if name == "unetpp_family" else None


@given(damaged())
@settings(deadline=None, max_examples=40)
def test_a_damaged_checkpoint_is_refused_in_a_few_lines(
    case: tuple[str, str, dict[str, Tensor]],
) -> None:
    name, key, state = case
    told = refusal(name, state)
    assert len(told) <= 10
    assert told or key.startswith(FIRST)


def refusal(name: str, state: dict[str, Tensor]) -> list[str]:
    """The lines of the error; none where the weights are taken."""
    try:
        translated(state, preset=chosen(name))
    except UNetCoreError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_whole_checkpoint_is_taken(name: str) -> None:
    foreign = translated(state_of(name), preset=chosen(name))
    assert foreign.preset == name
