"""Inference against its targets: work, speed, memory, from store to store, peers, workers.

    python benchmarks/infer.py [PART ...]     all, or some; under 15 minutes on two quiet cores

Ratios within one run, one thread, medians of interleaved rounds; a ratio whose spread hides whether
it meets its target says so instead. Real sections are those of UNET_TEST_DATA, else made up. The
last line is a JSON list of {name, value, target, met, against, how, ...}.
"""

import argparse
import json
import sys
import time

import infer_forward
import infer_peers
import infer_pipeline

PARTS = {
    "waste": infer_forward.waste,
    "balance": infer_forward.balanced,
    "forward": infer_forward.forward,
    "memory": infer_forward.memory,
    "peers": infer_peers.peers,
    "end-to-end": infer_pipeline.end_to_end,
    "busy": infer_pipeline.device_busy,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=str(list(PARTS))
    )
    chosen = parser.parse_args().parts or list(PARTS)
    rows = []
    for name in chosen:
        began = time.monotonic()
        print(f"-- {name}", file=sys.stderr, flush=True)
        rows += list(PARTS[name]())
        print(f"   {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(rows))
    return 1 if any(row["met"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
