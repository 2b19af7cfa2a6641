"""Copies between this machine's memory and a GPU, made while it computes."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


class Transfers:
    """To one device and back; a GPU's on streams of their own, from and to pinned memory.

    On the stream that computes they would wait for the tiles before them, and the next tile for
    them. On a CPU nothing is copied.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        there = device.type == "cuda"
        self._to = torch.cuda.Stream(device) if there else None  # type: ignore[no-untyped-call]
        self._from = torch.cuda.Stream(device) if there else None  # type: ignore[no-untyped-call]

    def sent(self, values: npt.NDArray[Any]) -> Tensor:
        """`values` on the device; what is computed after this waits for them."""
        here = torch.from_numpy(values)
        if self._to is None:
            return here
        pinned = torch.empty(here.shape, dtype=here.dtype, pin_memory=True).copy_(here)
        with torch.cuda.stream(self._to):
            there = pinned.to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._to)
        # Its memory is that of the copying stream, and would be written to again while it is read.
        there.record_stream(computing)
        return there

    def fetched(self, results: Sequence[Tensor]) -> tuple[list[Tensor], torch.cuda.Event | None]:
        """`results` in this machine's memory, there once the event has happened; None: already."""
        if self._from is None:
            return list(results), None
        self._from.wait_stream(torch.cuda.current_stream(self.device))
        here = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in results]
        with torch.cuda.stream(self._from):
            for host, x in zip(here, results, strict=True):
                host.copy_(x, non_blocking=True)
                x.record_stream(self._from)  # not given away before it is copied
        # Who waits for it sleeps; by default a core would look at it all the time.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._from)
        return here, event
