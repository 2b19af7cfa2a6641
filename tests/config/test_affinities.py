"""Offsets that a network can learn are those of which a step sees pairs."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_core.config import NetworkConfig
from unet_core.config.affinities import check_affinities
from unet_core.config.networks.geometry import nearest_patch
from unet_core.errors import ConfigError
from unet_core.net.patches import Bank, read_batch
from unet_core.ops.affinities import affinities_of

LEARNS = {"width": 2, "depth": 1, "output": "sigmoid"}

networks = st.one_of(
    st.builds(
        NetworkConfig,
        **{key: st.just(value) for key, value in LEARNS.items()},
        sections=st.sampled_from([1, 3, 5]),
        padding=st.sampled_from(["valid", "same"]),
    ),
    st.builds(
        NetworkConfig,
        **{key: st.just(value) for key, value in LEARNS.items()},
        dimensions=st.just(3),
        padding=st.sampled_from(["valid", "same"]),
    ),
)


@settings(deadline=None, max_examples=60)
@given(net=networks, offset=st.tuples(*[st.integers(-18, 18)] * 3), size=st.integers(1, 20))
def test_an_offset_is_refused_if_no_step_sees_a_pair_of_it(
    net: NetworkConfig, offset: Any, size: int
) -> None:
    patch = nearest_patch(net, (size, 18, 18))
    ids = np.ones(patch, np.uint32)
    bank = Bank(np.zeros((1, 1, *patch)), affinities_of(ids, [offset])[None], np.zeros((1, *patch)))
    seen = bool((read_batch(bank, [0], net, pin=False).target != 255).any())
    with nullcontext() if seen else pytest.raises(ConfigError, match="leads out"):
        check_affinities([offset], net, patch, of="it")


def test_the_offsets_that_fit_are_told() -> None:
    net = NetworkConfig(width=2, depth=1, output="sigmoid", sections=3)
    check_affinities([(1, 0, 0)], net, (3, 20, 20), of="model one")
    with pytest.raises(
        ConfigError, match=r"\[-2, 0, 0\] leads out.*model one.*up to \[1, 11, 11\]"
    ):
        check_affinities([(-2, 0, 0)], net, (3, 20, 20), of="model one")
