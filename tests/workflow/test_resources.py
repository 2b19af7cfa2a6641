"""What jobs ask for: by volume and settings, by attempt, and what a profile says."""

import re
from collections.abc import Callable

import numpy as np
import tifffile

from tests.workflow.conftest import Project

Fresh = Callable[[], Project]


def asked(project: Project, *arguments: str, real: bool = False) -> dict[str, set[str]]:
    """Rule to the memories (MB) that its jobs ask for in a dry run."""
    run = project.snakemake("-n", *arguments, real=real)
    assert run.returncode == 0, run.stdout
    found: dict[str, set[str]] = {}
    for rule, resources in re.findall(
        r"^(?:local)?(?:rule|checkpoint) (\w+):\n(?:    .*\n)*?    resources: (.*)",
        run.stdout,
        re.M,
    ):
        memory = re.search(r"mem_mb=([^,]*)", resources)
        found.setdefault(rule, set()).add(memory[1] if memory else "")
    return found


def test_what_is_not_known_yet_is_asked_for_later(fresh: Fresh) -> None:
    found = asked(fresh())  # the stand-in of `unet-core check` tells no headers
    assert found["infer"] == {"<TBD>"}
    assert found["train"] != {"<TBD>"}


def test_a_larger_volume_asks_for_more_and_a_profile_has_the_last_word(fresh: Fresh) -> None:
    project = fresh()
    name = "data/large.tif"
    (project.folder / "data").mkdir(exist_ok=True)
    tifffile.imwrite(project.folder / name, np.zeros((40, 700, 700), np.uint8))
    project.sheet([[v, name, name, fold] for v, fold in (("a", "train"), ("b", "test"))])
    found = asked(project, "--config", "data=.", real=True)
    (stitch,) = found["stitch"]
    assert int(stitch) > 1500  # of two workers
    (infer,) = found["infer"]
    assert int(infer) > 1000
    again = asked(project, "--config", "data=.", "--set-resources", "infer:mem_mb=4321", real=True)
    assert again["infer"] == {"4321"}
    assert again["stitch"] == {stitch}
