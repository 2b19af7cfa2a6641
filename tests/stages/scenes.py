"""A small volume, a network, and the command `unet-core infer` on them as a process of its own."""

import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.stages.faults import Job, files_of, finished, ledger_of, started
from tests.stages.test_infer import checkpoint_file, noise, raw_store
from unet_core.config import InferConfig, Resources
from unet_core.stages.infer import infer_probabilities

CONFIG = {"tile_px": 16, "precision": "float32"}
SHAPE, SHARD = (1, 40, 64, 64), (1, 64, 64)
BLOCKS = 40
"""Of about a tenth of a second each."""


@dataclass
class Scene:
    """A volume, a network, and the files of a run that nobody disturbed."""

    folder: Path
    raw: Path
    checkpoint: Path
    expected: dict[str, bytes] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.folder / "out" / "probabilities.ome.zarr"

    def start(
        self, *options: str, threads: int = 2, out: Path | None = None, **settings: Any
    ) -> AbstractContextManager[Job]:
        """The real command, in a session of its own."""
        store = out or self.out
        store.parent.mkdir(exist_ok=True)
        return started(
            [
                *("infer", "--config", json.dumps({"infer": CONFIG | settings})),
                *("--raw", str(self.raw / "zarr.json"), "--checkpoint", str(self.checkpoint)),
                *("--out", str(store / "zarr.json"), "--threads", str(threads), *options),
            ],
            store=store,
            log=self.folder / "log",
        )

    def finish(self, *options: str, kept: int | None = None, **how: Any) -> str:
        """Run to the end: `kept` blocks (default: all of the ledger) are not computed again."""
        kept = finished(how.get("out") or self.out) if kept is None else kept
        with self.start(*options, **how) as job:
            assert job.wait() == 0, job.text()
            assert resumed_of(job.text()) == (kept, BLOCKS - kept)
            return job.text()

    def check(self, out: Path | None = None) -> None:
        """The store is whole and the same to the byte; nothing else was left."""
        out = out or self.out
        assert files_of(out) == self.expected
        assert {path.name for path in out.parent.iterdir()} == {out.name, ledger_of(out).name}


def resumed_of(log: str) -> tuple[int, int]:
    """Blocks taken over, blocks computed."""
    ((resumed, computed),) = re.findall(r"infer: resumed (\d+), computed (\d+)", log)
    return int(resumed), int(computed)


def undisturbed(folder: Path) -> Scene:
    """The scene with what a run makes that nobody disturbs."""
    raw = raw_store(folder / "raw.ome.zarr", noise(SHAPE), SHARD)
    checkpoint, out = checkpoint_file(folder / "best.pt"), folder / "out.ome.zarr"
    config, threads = InferConfig(**CONFIG), torch.get_num_threads()
    infer_probabilities(
        config, raw=raw, checkpoint=checkpoint, out=out, resources=Resources(threads=1)
    )
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    return Scene(folder, raw, checkpoint, files_of(out))
