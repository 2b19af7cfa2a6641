"""One step, one validation, and the state that a run goes on from."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unet_core.config import NetworkConfig, TrainConfig
from unet_core.errors import ConfigError
from unet_core.net.checkpoint import fill
from unet_core.net.device import memory_format
from unet_core.net.initial import initialise
from unet_core.net.network import Network
from unet_core.net.objective import Objective, Sums
from unet_core.net.optimisers import freeze, groups, optimiser
from unet_core.net.overlap import Counts, overlap, tally
from unet_core.net.patches import Batch
from unet_core.net.ranks import ALONE, Ranks, share_norms
from unet_core.net.schedule import Plateau, learning_rate


@dataclass
class Training:
    """A network being trained: everything that a step changes."""

    config: TrainConfig
    network: Network
    optimiser: torch.optim.Optimizer
    objective: Objective
    dtype: torch.dtype
    ranks: Ranks = ALONE
    """Each sees a part of every batch, and takes the same step as the others."""

    affinities: bool = False
    """Whether these are learnt, one by each output, instead of a class per voxel."""

    plateau: Plateau = field(default_factory=Plateau)

    steps_done: int = 0

    losses: list[Tensor] = field(default_factory=list)
    """Of the steps since the last validation."""

    def step(self, batch: Batch) -> None:
        """One optimiser step; the loss goes to `losses`, unread, so that a GPU need not wait.

        `batch`: of several ranks, the part of this one.
        """
        # Dropout of step k depends on the seed, k and the rank alone: a run can go on from any
        # step.
        torch.manual_seed(_seed(self.config.seed, self.steps_done, self.ranks.rank))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(self.steps_done) * group["factor"]
        batch = self._moved(batch)
        loss = self.objective.loss(self._outputs(batch.raw), batch, self.ranks)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = self.ranks.sum_gradients(self.network, loss)
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimiser.step()
        self.losses.append(loss)
        self.steps_done += 1

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.objective.class_weights.device

    def rate(self, step: int) -> float:
        """Learning rate of a step, from what is known of the validations before it."""
        return learning_rate(self.config, step, factor=self.plateau.factor)

    def follow(self, scores: Mapping[str, Any]) -> None:
        """Let the steps to come heed the scores of a validation."""
        self.plateau.follow(self.config, scores)

    def check(self) -> None:
        """Refuse to go on after a loss that is not a number.

        Raises
        ------
        ConfigError
            Naming the first such step and what helps.
        """
        for i, loss in enumerate(self.read_losses()):
            if not math.isfinite(loss):
                step = self.steps_done - len(self.losses) + i + 1
                raise self._diverged(f"the loss of step {step} is {loss}")

    def check_weights(self) -> None:
        """Refuse weights that are no numbers: a step with a finite loss can make them so.

        Raises
        ------
        ConfigError
            Saying what helps.
        """
        weights = self.network.state_dict().values()
        if not all(bool(torch.isfinite(weight).all()) for weight in weights):
            raise self._diverged(f"weights after step {self.steps_done} are not finite")

    def _diverged(self, what: str) -> ConfigError:
        return ConfigError(
            f"{what}: training diverged; lower train.learning_rate (now "
            f"{self.config.learning_rate}), set train.clip_norm (1.0) or train.warmup_steps (500), "
            "or check the raw data for NaN"
        )

    def read_losses(self) -> list[float]:
        """Losses since the last validation, as numbers."""
        if not self.losses:
            return []
        return [float(loss) for loss in torch.stack(self.losses).cpu()]

    @torch.inference_mode()
    def validate(self, batches: Iterable[Batch]) -> dict[str, Any]:
        """Loss and overlap on `batches` of all ranks, summed over all their voxels that count.

        The loss is that of the main head; its Dice part, if any, is the mean over the batches.

        Returns
        -------
        dict
            ``loss``; ``iou``, one per class, null where the class occurs neither in the target
            nor in the prediction (of affinities class 0 never does); ``dice`` of all classes above
            0 together.
        """
        self.network.eval()
        classes = self.network.config.classes
        sigmoid = self.objective.sigmoid
        kinds = (classes - 1, 2, 2) if self.affinities else (classes, classes)
        counts = np.zeros(kinds, np.int64)
        sums = Sums()
        for batch in batches:
            batch = self._moved(batch)
            logits = self._forward(batch.raw)
            self.objective.add(sums, logits, batch)
            counts += tally(logits, batch.target, classes=classes, sigmoid=sigmoid)
        freeze(self.config, self.network.train())
        sums = sums.over(self.ranks, self.device)
        return {"loss": self.objective.mean(sums), **overlap(self._of_all(counts))}

    def _of_all(self, counts: Counts) -> Counts:
        """Sum of a validation over the ranks."""
        if self.ranks.count == 1:
            return counts
        numbers = self.ranks.sum(torch.tensor(counts, device=self.device))
        return np.array(numbers.tolist(), np.int64)

    def _outputs(self, raw: Tensor) -> list[Tensor]:
        """Logits of all heads."""
        with self._cast(raw):
            return self.network.outputs(raw)

    def _forward(self, raw: Tensor) -> Tensor:
        """Logits of the main head."""
        with self._cast(raw):
            logits: Tensor = self.network(raw)
        return logits

    def _cast(self, raw: Tensor) -> torch.autocast:
        mixed = self.dtype != torch.float32
        return torch.autocast(raw.device.type, dtype=self.dtype, enabled=mixed)

    def _moved(self, batch: Batch) -> Batch:
        return Batch(*(part.to(self.device, non_blocking=True) for part in batch))

    def state(self) -> dict[str, Any]:
        """All that `resume` needs, on the CPU."""
        return {
            "steps_done": self.steps_done,
            "network": weights_of(self.network),
            "optimiser": self.optimiser.state_dict(),
            "plateau": self.plateau.state(),
            "losses": self.read_losses(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        fill(self.network, state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.plateau = Plateau(**state["plateau"])
        self.steps_done = state["steps_done"]
        self.losses = [torch.tensor(loss, device=self.device) for loss in state["losses"]]


def begin(
    config: TrainConfig,
    model: NetworkConfig,
    *,
    class_weights: Sequence[float],
    device: torch.device,
    dtype: torch.dtype,
    ranks: Ranks = ALONE,
    initial: Mapping[str, Tensor] | None = None,
    affinities: bool = False,
) -> Training:
    """A network, with fresh weights or those of `initial`, on its device, ready for step 0.

    Raises
    ------
    ConfigError
        If settings of network and recipe contradict each other.
    """
    network = initialise(Network.of(model), seed=config.seed)
    if initial is not None:
        fill(network, initial)
    network = network.to(device, memory_format=memory_format(model.dimensions))  # type: ignore[call-overload]
    share_norms(network, ranks)
    freeze(config, network.train())
    weights = torch.tensor(list(class_weights), dtype=torch.float32, device=device)
    objective = Objective.of(config, model, network.graph, weights)
    steps = optimiser(config, groups(config, network))
    return Training(config, network, steps, objective, dtype, ranks, affinities)


def weights_of(network: Network) -> dict[str, Tensor]:
    """A copy of the weights on the CPU, laid out channels first."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def class_weights(config: TrainConfig, counts: Sequence[int]) -> list[float]:
    """w_c of the loss, one per class, from the voxels of each class in the training bank.

    Of affinities one for 0 and one for 1, from the pairs of voxels of all offsets.

    Inverse frequency: ``N / (K N_c)``, 1 on average over the voxels; a class that does not occur
    gets 0.

    Raises
    ------
    ConfigError
        If the settings name another number of classes.
    """
    if config.class_weights == "uniform":
        return [1.0] * len(counts)
    if config.class_weights == "inverse_frequency":
        return [sum(counts) / (len(counts) * n) if n else 0.0 for n in counts]
    if len(config.class_weights) != len(counts):
        raise ConfigError(
            f"train.class_weights has {len(config.class_weights)} values, the network has "
            f"{len(counts)} classes (model.classes; of affinities apart and together); give one "
            "per class"
        )
    return list(config.class_weights)


def _seed(seed: int, step: int, rank: int) -> int:
    """One number of 63 bits per (seed, step, rank)."""
    words = [seed, step, rank] if rank else [seed, step]
    low, high = np.random.SeedSequence(words).generate_state(2)
    return int(low) | (int(high) & 0x7FFFFFFF) << 32
