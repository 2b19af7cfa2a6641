"""One self-contained page of a run: scores, curves, pictures, times, settings."""

import csv
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_core import __version__
from unet_core.config import (
    AugmentConfig,
    CalibrateConfig,
    ConvertConfig,
    InferConfig,
    NetworkConfig,
    ObjectsConfig,
    ReportConfig,
    ScoreConfig,
    StitchConfig,
    TrainConfig,
    TruthConfig,
    WeightsConfig,
)
from unet_core.errors import StoreError
from unet_core.figures.curves import threshold_curves, training_curves
from unet_core.figures.flow import rule_graph
from unet_core.figures.page import drawn, embedded, render
from unet_core.figures.tables import as_tsv, headline, score_table
from unet_core.io.arrays import open_level
from unet_core.io.atomic import write_text
from unet_core.io.ngff import attributes_of, voxel_size_of
from unet_core.metrics.scores import summed
from unet_core.provenance import plain, versions
from unet_core.stages.report_expected import Predict, unpredicted
from unet_core.stages.report_inference import failures, inference_of
from unet_core.stages.report_jobs import duration, jobs_of, times_of
from unet_core.stages.report_parts import number_of

_DEFAULTS = {
    "convert": ConvertConfig,
    "truth": TruthConfig,
    "weights": WeightsConfig,
    "augment": AugmentConfig,
    "model": NetworkConfig,
    "train": TrainConfig,
    "infer": InferConfig,
    "calibrate": CalibrateConfig,
    "objects": ObjectsConfig,
    "stitch": StitchConfig,
    "score": ScoreConfig,
    "report": ReportConfig,
}


_COLUMNS = ("raw", "probability", "objects", "truth", "errors")
"""Of a montage."""

_FOLDS = ("test", "validation", "predict", "train")


def write_report(
    config: ReportConfig,
    *,
    manifest: Mapping[str, Any],
    results: Path,
    out: Path,
    predict: Predict = unpredicted,
) -> None:
    """Write the page `out`, and beside it `scores.tsv` and one `curves.MODEL.svg` per model.

    Parameters
    ----------
    manifest
        ``{"models": [name, …], "ensembles": {name: [model, …]}, "volumes": [{"name", "fold",
        "truth"}, …]}``.
    results
        Folder of the run.
    predict
        What jobs were expected to take.

    Raises
    ------
    StoreError
        If a result of the run is missing.
    """
    volumes, ensembles = manifest["volumes"], manifest["ensembles"]
    models = [*manifest["models"], *ensembles]
    scores = {
        (volume["name"], model): _json(_of(results, volume["name"], model) / "scores.json")
        for volume in volumes
        for model in models
        if volume["truth"] and volume["fold"] != "predict"
    }
    jobs = jobs_of(results, volumes, predict)
    ordered = sorted(volumes, key=lambda volume: _FOLDS.index(volume["fold"]))
    tables = _tables(scores, volumes, models)
    described = [_model(results / "models" / model, model) for model in manifest["models"]]
    shown = [_volume(results, volume, models, scores) for volume in ordered]
    page = render(
        {
            "title": config.title,
            "version": __version__,
            "graph": drawn(rule_graph(times_of(jobs))),
            "total": duration(sum(job["seconds"] or 0 for job in jobs)),
            "cards": _cards(tables),
            "tables": tables,
            "models": described + [_ensemble(results, *of) for of in ensembles.items()],
            "volumes": shown,
            "failures": failures(shown),
            "jobs": jobs,
            "settings": list(_settings(results, volumes, models)),
            "versions": versions(),
        }
    )
    for model in described:
        write_text(out.with_name(f"curves.{model['name']}.svg"), str(model["curves"]))
    write_text(out.with_name("scores.tsv"), _scores_tsv(tables))
    write_text(out, page)


def _tables(
    scores: Mapping[tuple[str, str], Any],
    volumes: Sequence[Mapping[str, Any]],
    models: Sequence[str],
) -> list[dict[str, Any]]:
    """One table per model: folds side by side, test first, each with its volumes added up."""
    tables = []
    for model in models:
        columns: dict[Hashable, Any] = {}
        folds = []
        for fold in _FOLDS:
            names = [
                v["name"] for v in volumes if v["fold"] == fold and (v["name"], model) in scores
            ]
            found = {(fold, name): scores[name, model] for name in names}
            if len(names) > 1:
                found[fold, "all"] = summed(list(found.values()))
            if found:
                folds.append({"name": fold, "columns": len(found)})
                columns |= found
        if columns:
            tables.append({"model": model, "folds": folds, **score_table(columns)})
    return tables


def _cards(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The headline of every model: some measures of its first fold, all volumes added up."""
    return [
        {
            "name": f"{row['name']} {row['better']}",
            "place": f"{table['model']} on {table['folds'][0]['name']}",
            "variant": row["variant"],
            "value": row["values"][table["folds"][0]["columns"] - 1],
        }
        for table in tables
        for row in headline(table["rows"])
    ]


def _model(folder: Path, name: str) -> dict[str, Any]:
    facts = _json(folder / "model.json")
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    history = {key: [number_of(row[key]) for row in rows] for key in (rows[0] if rows else ())}
    model = facts["model"]
    sections, calibration = model["sections"], folder / "calibration.json"
    kind = f"2.5-D, {sections} sections" if sections > 1 else f"{model['dimensions']}-D"
    return {
        "name": name,
        "curves": drawn(training_curves(history)) if rows else "",
        "summary": (
            f"{facts['parameters']:,} parameters; {kind}, {model['width']} "
            f"channels wide, {model['depth']} levels deep, {model['padding']} convolutions, norm "
            f"{model['norm']}; weights of step {facts['step']:,}."
        ),
        "calibration": _calibration(_json(calibration)) if calibration.exists() else None,
    }


def _ensemble(results: Path, name: str, members: Sequence[str]) -> dict[str, Any]:
    calibration = results / "models" / name / "calibration.json"
    return {
        "name": name,
        "curves": "",
        "summary": f"Ensemble: the mean of the probabilities of {', '.join(members)}.",
        "calibration": _calibration(_json(calibration)) if calibration.exists() else None,
    }


def _calibration(chosen: Mapping[str, Any]) -> dict[str, Any]:
    def told(candidate: Mapping[str, Any]) -> str:
        shown = (f"{k} {v:.4g}" for k, v in candidate.items() if k not in ("method", "value"))
        return ", ".join(shown)

    best = chosen["best"]
    candidates = [
        {"method": c["method"], "settings": told(c), "value": c["value"]}
        for c in chosen["candidates"]
    ]
    candidates.sort(key=lambda c: -1 if c["value"] is None else c["value"], reverse=True)
    return {
        "measure": chosen["measure"],
        "variant": chosen["variant"],
        "text": f"{best['method']} with {told(best)}: {chosen['measure']} {best['value']:.4f}.",
        "curve": _tried(chosen),
        "candidates": candidates,
    }


def _tried(chosen: Mapping[str, Any]) -> str | None:
    tried = [c for c in chosen["candidates"] if c["method"] == "threshold"]
    if not tried:
        return None
    values = {chosen["measure"]: [c["value"] for c in tried]}
    title = "thresholds on the validation volumes"
    best = (chosen["best_threshold"] or {}).get("threshold")
    curve = threshold_curves([c["threshold"] for c in tried], values, title=title, chosen=best)
    return drawn(curve)


def _volume(
    results: Path,
    volume: Mapping[str, Any],
    models: Sequence[str],
    scores: Mapping[tuple[str, str], Any],
) -> dict[str, Any]:
    name = volume["name"]
    raw = results / "volumes" / name / "raw.ome.zarr"
    pictures = []
    for model in models:
        folder = _of(results, name, model)
        made = attributes_of(folder / "labels.ome.zarr")["unet"]
        isbi = scores[name, model]["isbi"] if (name, model) in scores else None
        pictures.append(
            {
                "model": model,
                "objects": made["objects"],
                "method": made["method"],
                "columns": (*_COLUMNS[:3], *(_COLUMNS[3:] if volume["truth"] else ())),
                "inference": inference_of(results, name, model),
                "source": embedded(folder / "montage.jpg"),
                "thresholds": drawn(_thresholds(isbi)) if isbi else None,
            }
        )
    return {
        "name": name,
        "fold": volume["fold"],
        "annotated": volume["truth"],
        "shape": " x ".join(str(n) for n in open_level(raw).shape[-3:]),
        "voxel_size": " x ".join(f"{size:g}" for size in voxel_size_of(raw)),
        "pictures": pictures,
    }


def _thresholds(isbi: Mapping[str, Any]) -> str:
    curves = {
        "V_rand": isbi["v_rand"]["curve"],
        "V_info": isbi["v_info"]["curve"],
        "1 - Rand error": [_rest(v) for v in isbi["rand_error"]["curve"]],
        "1 - pixel error": [_rest(v) for v in isbi["pixel_error"]["curve"]],
    }
    title = "scores over the threshold of the probability"
    chosen = isbi.get("calibrated_threshold")
    return threshold_curves(isbi["thresholds"], curves, title=title, chosen=chosen)


def _rest(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _settings(
    results: Path, volumes: Sequence[Mapping[str, Any]], models: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Settings as results record them: of one volume, with truth if there is any, and of models."""
    name = next((v["name"] for v in volumes if v["fold"] == "train"), volumes[0]["name"])
    stores = [results / "volumes" / name / f"{image}.ome.zarr" for image in ("raw", "truth")]
    stores += [results / "volumes" / name / "weights.ome.zarr", results / "patches" / "train.zarr"]
    for model in models:
        stores += [results / "models" / model / "model.json"]
        stores += [_of(results, name, model) / "probabilities.ome.zarr"]
        stores += [results / "models" / model / "calibration.json"]
        stores += [_of(results, name, model) / "labels.ome.zarr"]
        stores += [_of(results, name, model) / "scores.json"]
    for path in stores:
        metadata = path if path.suffix == ".json" else path / "zarr.json"
        if not metadata.exists():
            continue
        record = _json(metadata)
        record = record.get("attributes", record).get("provenance")
        if record:
            yield {
                "stage": record["stage"],
                "name": str(path.relative_to(results)),
                "rows": list(_rows(record["settings"])),
            }


def _rows(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for section, values in settings.items():
        if not isinstance(values, Mapping):
            continue
        schema = _DEFAULTS.get(section)
        defaults = plain({section: schema()})[section] if schema else {}
        for key, value in values.items():
            yield {
                "key": f"{section}.{key}",
                "value": json.dumps(value),
                "changed": key in defaults and defaults[key] != value,
            }


def _scores_tsv(tables: Sequence[Mapping[str, Any]]) -> str:
    lines: list[Sequence[Any]] = [("model", "fold", "volume", "measure", "variant", "value")]
    for table in tables:
        for row in table["rows"]:
            for place, value in zip(table["columns"], row["values"], strict=True):
                lines.append((table["model"], *place, row["name"], row["variant"], value))
    return as_tsv(lines)


def _of(results: Path, volume: str, model: str) -> Path:
    return results / "volumes" / volume / model


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: run the workflow to its end, then report") from None
    except json.JSONDecodeError as error:
        raise StoreError(
            f"{path} is not JSON ({error}): delete it and rerun the workflow"
        ) from None
