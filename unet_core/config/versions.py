"""The version of what each stage computes.

Raise a stage's number when a change of code can change its results: the number is part of the
settings that Snakemake compares and of every fingerprint, so stale results are made anew.
`tests/workflow/test_code_lock.py` fails when the code changed and nobody decided.
"""

RESULT_VERSION = {
    "convert": 1,
    "weights": 1,
    "augment": 1,
    "import": 1,
    "train": 2,
    "infer": 2,
    "calibrate": 1,
    "stitch": 1,
    "score": 1,
    "montage": 2,
    "report": 2,
}
