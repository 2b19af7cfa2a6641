"""The version of what each stage computes.

Raise a stage's number when a change of code can change its results: the number is part of the
settings that Snakemake compares and of every fingerprint, so stale results are made anew.
`tests/workflow/test_code_lock.py` fails when the code changed and nobody decided.
"""

RESULT_VERSION = {
    "convert": 1,
    "weights": 2,
    "augment": 2,
    "import": 1,
    "train": 3,
    "infer": 3,
    "calibrate": 1,
    "stitch": 2,
    "score": 2,
    "montage": 3,
    "report": 3,
}
