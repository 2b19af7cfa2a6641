"""The settings as JSON schemas: ``python -m unet_core.config.schema`` writes workflow/schemas."""

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from unet_core.config.presets import MODEL_SECTIONS
from unet_core.config.sheet import COLUMNS, FOLDS, REQUIRED
from unet_core.config.workflow import SECTIONS

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_WORKFLOW: dict[str, Any] = {
    "pathvars": {
        "type": "object",
        "description": "Where results, logs and benchmarks go.",
        "additionalProperties": False,
        "properties": {
            "results": {"type": "string", "default": "results"},
            "logs": {"type": "string", "default": "<results>/logs"},
            "benchmarks": {"type": "string", "default": "<results>/benchmarks"},
        },
    },
    "volumes": {
        "type": "string",
        "description": "The volume sheet: one row per volume, tab-separated.",
        "default": "config/volumes.tsv",
    },
    "data": {
        "type": "string",
        "description": "Folder of the relative files in the sheet.",
        "default": ".",
    },
    "models": {
        "type": "array",
        "description": "Presets to train and compare: names of config/models, or paths.",
        "items": {"type": "string"},
        "minItems": 1,
        "default": ["small"],
    },
    "ensembles": {
        "type": ["object", "null"],
        "description": "Name to models whose probabilities are averaged; each is one more model.",
        "additionalProperties": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 2,
            "uniqueItems": True,
        },
        "default": {},
    },
}

_COLUMNS: dict[str, dict[str, Any]] = {
    "name": {
        "description": "Names the volume's folder: letters, digits, - and _.",
        "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$",
    },
    "raw": {"description": "File, folder or glob of a series, or FILE.h5::DATASET."},
    "truth": {"description": "Like raw; empty or - where nobody annotated the volume."},
    "fold": {"description": "What the volume is for.", "enum": list(FOLDS)},
    "voxel_size_nm": {"description": "z,y,x in nanometres, such as 50,4,4; empty: the file's."},
    "sections": {"description": "first:stop, counted from 0, such as 0:24; empty: all."},
    "mask": {
        "description": "Like raw; nothing is computed where it is 0; empty or -: all is computed."
    },
    "batch": {
        "description": "Volumes of one batch are inferred by one job; empty or -: by its own.",
        "pattern": "^([A-Za-z0-9][A-Za-z0-9_-]*|-)?$",
    },
}


def schemas() -> dict[str, str]:
    """File name to text (YAML) of every schema."""
    documents = {
        "config.schema.yaml": _object(_WORKFLOW | _sections(SECTIONS | MODEL_SECTIONS)),
        "model.schema.yaml": _object(_sections(MODEL_SECTIONS)),
        "volumes.schema.yaml": {
            **_object({name: {"type": "string", **_COLUMNS[name]} for name in COLUMNS}),
            "required": list(REQUIRED),
        },
    }
    return {
        name: "# Written by `python -m unet_core.config.schema`; do not edit.\n"
        + yaml.safe_dump({"$schema": DRAFT, **document}, sort_keys=False, width=96)
        for name, document in documents.items()
    }


def _sections(sections: dict[str, Any]) -> dict[str, Any]:
    # A section without any key is null in YAML.
    return {
        name: TypeAdapter(schema).json_schema() | {"type": ["object", "null"]}
        for name, schema in sections.items()
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


if __name__ == "__main__":
    folder = Path(*sys.argv[1:2]) if sys.argv[1:] else Path("workflow/schemas")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in schemas().items():
        (folder / file).write_text(text, encoding="utf-8")
