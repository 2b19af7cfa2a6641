"""Checkpoints of mmsegmentation give what the originals give."""

import pytest
import torch

from tests.net.imports.same import WITHIN, assert_same
from tests.net.originals.fill import filled, image
from tests.net.originals.mmseg import Segmentor
from unet_core.net.imports import translated

HEADS = {"fcn": "mmseg_fcn", "psp": "mmseg_pspnet", "aspp": "mmseg_deeplabv3"}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("auxiliary", [True, False])
def test_the_same_logits(head: str, auxiliary: bool) -> None:
    original = Segmentor(head, auxiliary=auxiliary, w=8)
    checkpoint = {"meta": {"epoch": 9}, "state_dict": filled(original), "optimizer": {}}
    assert translated(checkpoint).preset == HEADS[head]
    assert_same(original, checkpoint, image(2, 3, 64, 48))


def test_the_auxiliary_logits_are_the_same() -> None:
    original = Segmentor("psp", channels=1, classes=4, w=8)
    network = translated(filled(original)).network()
    x = image(2, 1, 48, 32)
    with torch.inference_mode():
        main, auxiliary = network.outputs(x)
        torch.testing.assert_close(main, original(x), rtol=0, atol=WITHIN)
        torch.testing.assert_close(auxiliary, original.auxiliary(x), rtol=0, atol=WITHIN)


@pytest.mark.parametrize(("head", "entries"), [("fcn", 148), ("psp", 172), ("aspp", 178)])
def test_a_file_has_as_many_entries_as_was_published(head: str, entries: int) -> None:
    with torch.device("meta"):
        assert len(Segmentor(head).state_dict()) == entries
