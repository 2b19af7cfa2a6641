"""What each start of Snakemake pays for our Snakefile: on a cluster every job pays it twice.

    python benchmarks/parse.py

Measured are `snakemake --list` with our Snakefile and with an empty one, ten volumes (VOLUMES), in
CPU seconds; the difference is ours. The last line is a JSON list of {name, value, target, met,
against, how}.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Rounds

SNAKEFILE = Path(__file__).parents[1] / "workflow/Snakefile"
VOLUMES = int(os.environ.get("VOLUMES", "10"))


def start(snakefile: Path, folder: Path) -> None:
    """Start Snakemake once."""
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--list", "--snakefile", str(snakefile)],
        cwd=folder,
        check=True,
        capture_output=True,
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
        for i in range(VOLUMES):
            rows.append(f"v{i}\tx.tif\tx.tif\ttrain")
            for image in ("raw", "truth"):
                store = folder / f"results/volumes/v{i}/{image}.ome.zarr/zarr.json"
                store.parent.mkdir(parents=True)
                store.touch()
        (folder / "x.tif").touch()
        (folder / "config/volumes.tsv").write_text("\n".join(rows) + "\n")
        rounds = Rounds(
            {
                "ours": lambda: start(SNAKEFILE, folder),
                "empty": lambda: start(folder / "empty", folder),
            }
        )
        row = rounds.ratio(
            "our Snakefile read, CPU seconds above those of an empty one",
            lambda seconds: seconds["ours"] - seconds["empty"],
            1.0,
            at_least=False,
            against="an empty Snakefile",
            how=f"snakemake --list, {VOLUMES} volumes",
        )
    print(json.dumps([row]))


if __name__ == "__main__":
    main()
