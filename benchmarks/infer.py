"""Inference against its targets: work, speed, memory, from store to store, peers, workers.

    python benchmarks/infer.py [PART ...]     all, or some; under 15 minutes on two quiet cores

Ratios within one run, one thread, medians of interleaved rounds; a ratio whose spread hides whether
it meets its target says so instead. Real sections are those of UNET_TEST_DATA, else made up. The
last line is a JSON list of {name, value, target, met, against, how, ...}.
"""

import argparse
import importlib
import json
import sys
import time
import traceback

import measure

PARTS = {
    "waste": "infer_forward.waste",
    "balance": "infer_forward.balanced",
    "forward": "infer_forward.forward",
    "memory": "infer_forward.memory",
    "peers": "infer_peers.peers",
    "end-to-end": "infer_pipeline.end_to_end",
    "busy": "infer_pipeline.device_busy",
    "scaling": "infer_workers.scaling",
    "dealing": "infer_workers.dealing",
    "gpu": "infer_gpu.gpu",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    chosen = parser.parse_args().parts or list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    rows: list[measure.Row] = []
    for name in chosen:
        began = time.monotonic()
        print(f"-- {name}", file=sys.stderr, flush=True)
        module, function = PARTS[name].split(".")
        try:
            for each in getattr(importlib.import_module(module), function)():
                rows.append(each)
        except Exception as error:  # the other parts are of worth without this one
            traceback.print_exc()
            told = f"{type(error).__name__}: {error}"
            rows.append(measure.row(name, None, None, against="", how=told) | {"met": False})
        print(f"   {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(rows))
    return 1 if any(row["met"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
