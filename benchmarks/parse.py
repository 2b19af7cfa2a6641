"""What each start of Snakemake pays for our Snakefile: on a cluster every job pays it twice.

    python benchmarks/parse.py            CPU seconds, median of five starts

Measured are `snakemake --list` with our Snakefile and with an empty one; the difference is ours.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SNAKEFILE = Path(__file__).parents[1] / "workflow/Snakefile"


def cpu_seconds(snakefile: Path, folder: Path) -> float:
    """CPU time of one start, children included."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--list", "--snakefile", str(snakefile)],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    after = os.times()
    return (
        after.children_user - before.children_user + after.children_system - before.children_system
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").write_text("rule all:\n")
        (folder / "config").mkdir()
        repository = SNAKEFILE.parents[1]
        (folder / "config/config.yaml").write_bytes(
            (repository / "config/config.yaml").read_bytes()
        )
        # Converted volumes: their files are not looked at, as in a job on a cluster.
        rows = ["name\traw\ttruth\tfold"]
        for i in range(int(os.environ.get("VOLUMES", "10"))):
            rows.append(f"v{i}\tx.tif\tx.tif\ttrain")
            for image in ("raw", "truth"):
                store = folder / f"results/volumes/v{i}/{image}.ome.zarr/zarr.json"
                store.parent.mkdir(parents=True)
                store.touch()
        (folder / "x.tif").touch()
        (folder / "config/volumes.tsv").write_text("\n".join(rows) + "\n")
        ours, empty = (
            statistics.median(cpu_seconds(snakefile, folder) for _ in range(5))
            for snakefile in (SNAKEFILE, folder / "empty")
        )
    print(f"our Snakefile {ours:.2f} s, an empty one {empty:.2f} s: ours {ours - empty:.2f} s CPU")


if __name__ == "__main__":
    main()
