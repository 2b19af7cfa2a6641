"""Processes that train one network together: who they are, and the sums that they share.

Each has the whole network and a part of every batch. What a step changes is the same in all of
them, as every process gets the same sums.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

Value = TypeVar("Value")

_SILENT = timedelta(hours=2)
"""A process that says nothing for so long is lost; who started it sees long before that it
ended."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; by default it is alone."""

    rank: int = 0
    count: int = 1
    on_host: Any = None
    """Group whose sums are those of CPU tensors, and do not wait for a GPU."""

    @property
    def first(self) -> bool:
        """The one that writes."""
        return self.rank == 0

    def part(self, items: Sequence[Value]) -> list[Value]:
        """Those of `items` that this process sees."""
        return list(items[self.rank :: self.count])

    def sum(self, tensor: Tensor) -> Tensor:
        """Over all processes; the same bits in each."""
        if self.count == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def total(self, part: Tensor) -> Tensor:
        """Sum over all processes, as a step of the network: its gradient is the sum of theirs."""
        return part if self.count == 1 else _sum(part)

    def any(self, asked: bool) -> bool:
        """Is it so in any process?"""
        if self.count == 1:
            return asked
        number = torch.tensor(int(asked))
        dist.all_reduce(number, group=self.on_host)
        return bool(number)

    def meet(self) -> None:
        """Wait for all processes."""
        self.any(False)

    def from_first(self, value: Value) -> Value:
        """What the first process has; the others give anything."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.on_host)
        return box[0]

    def sum_gradients(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Sum the gradients of all processes, in place, and their losses."""
        if self.count == 1:
            return loss.detach()
        parts = [p.grad for p in network.parameters() if p.grad is not None]
        whole = torch.cat([*(part.reshape(-1) for part in parts), loss.detach().reshape(1)])
        dist.all_reduce(whole)
        at = 0
        for part in parts:
            part.copy_(whole[at : at + part.numel()].view(part.shape))
            at += part.numel()
        return whole[-1]


ALONE = Ranks()


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Among the processes that were started together, if so; GPUs speak by nccl, CPUs by gloo.

    Environment variables say so: ``UNET_RANKS`` (how many), ``UNET_RANKS_MEET`` (where),
    ``UNET_RANK`` (who this is). Returns when the others are there.
    """
    if (count := int(os.environ.get("UNET_RANKS", "1"))) == 1:
        yield ALONE
        return
    cuda = device.type == "cuda"
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=os.environ["UNET_RANKS_MEET"],
        rank=int(os.environ["UNET_RANK"]),
        world_size=count,
        timeout=_SILENT,
        device_id=device if cuda else None,
    )
    try:
        on_host = dist.new_group(backend="gloo", timeout=_SILENT)
        yield Ranks(dist.get_rank(), dist.get_world_size(), on_host)
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Number of this process among those on its node."""
    return int(os.environ.get("UNET_LOCAL_RANK", "0"))


def share_norms(network: nn.Module, ranks: Ranks) -> None:
    """Let batch normalisation see the whole batch, of which each process has a part."""
    if ranks.count == 1:
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, _SharedNorm.of(child))


def _sum(part: Tensor) -> Tensor:
    """Over all processes, as a step of the network: its gradient is the sum of theirs."""
    total: Tensor = all_reduce(part)  # type: ignore[no-untyped-call]
    return total


class _SharedNorm(_BatchNorm):
    """Batch normalisation by mean and variance over the processes: (n, c, ...) -> (n, c, ...)."""

    @classmethod
    def of(cls, norm: _BatchNorm) -> "_SharedNorm":
        """With the parameters of `norm`, which stay the same objects."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, affine=norm.affine)
        shared.weight, shared.bias = norm.weight, norm.bias
        shared.running_mean, shared.running_var = norm.running_mean, norm.running_var
        shared.num_batches_tracked = norm.num_batches_tracked
        return shared.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        return

    def forward(self, input: Tensor) -> Tensor:
        """As torch's, whose statistics over processes are for GPUs alone."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        others = [axis for axis in range(x.ndim) if axis != 1]
        count = float(x.numel() // x.shape[1] * dist.get_world_size())
        column = [1, -1, *[1] * (x.ndim - 2)]
        mean = _sum(x.sum(others)) / count
        away = x - mean.view(column)
        variance = _sum((away * away).sum(others)) / count
        self._follow(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        scale = torch.rsqrt(variance + self.eps)
        if not self.affine:
            return (away * scale.view(column)).to(input.dtype)
        y: Tensor = away * (scale * self.weight).view(column) + self.bias.view(column)
        return y.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
