"""One self-contained page of a run: scores, curves, pictures, times, settings."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_core import __version__
from unet_core.config import (
    AugmentConfig,
    CalibrateConfig,
    ConvertConfig,
    InferConfig,
    ObjectsConfig,
    ReportConfig,
    ScoreConfig,
    StitchConfig,
    TrainConfig,
    TruthConfig,
    UNetConfig,
    WeightsConfig,
)
from unet_core.errors import StoreError
from unet_core.figures.curves import threshold_curves, training_curves
from unet_core.figures.page import drawn, embedded, render
from unet_core.figures.tables import as_tsv, score_table
from unet_core.io.arrays import open_level
from unet_core.io.atomic import write_text
from unet_core.io.ngff import attributes_of, voxel_size_of
from unet_core.metrics.scores import summed
from unet_core.provenance import plain, versions

_STAGES = (
    *("convert", "weights", "augment", "train", "infer"),
    *("calibrate", "stitch", "score", "montage"),
)

_DEFAULTS = {
    "convert": ConvertConfig,
    "truth": TruthConfig,
    "weights": WeightsConfig,
    "augment": AugmentConfig,
    "model": UNetConfig,
    "train": TrainConfig,
    "infer": InferConfig,
    "calibrate": CalibrateConfig,
    "objects": ObjectsConfig,
    "stitch": StitchConfig,
    "score": ScoreConfig,
    "report": ReportConfig,
}


def write_report(
    config: ReportConfig, *, manifest: Mapping[str, Any], results: Path, out: Path
) -> None:
    """Write the page `out`, and beside it `scores.tsv` and one `curves.MODEL.svg` per model.

    Parameters
    ----------
    manifest
        ``{"models": [name, …], "volumes": [{"name", "fold", "truth"}, …]}``.
    results
        Folder of the run.

    Raises
    ------
    StoreError
        If a result of the run is missing.
    """
    volumes, models = manifest["volumes"], manifest["models"]
    scores = {
        (volume["name"], model): _json(_of(results, volume["name"], model) / "scores.json")
        for volume in volumes
        for model in models
        if volume["truth"]
    }
    jobs = list(_jobs(results, volumes))
    tables = _tables(scores, volumes, models)
    described = [_model(results / "models" / model, model) for model in models]
    page = render(
        {
            "title": config.title,
            "version": __version__,
            "stages": _flow(jobs),
            "cards": _cards(tables),
            "tables": tables,
            "models": described,
            "volumes": [_volume(results, volume, models, scores) for volume in volumes],
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
    """One table per model and fold, test first; the last column adds the fold's volumes up."""
    tables = []
    for model in models:
        for fold in ("test", "validation", "train"):
            names = [
                v["name"] for v in volumes if v["fold"] == fold and (v["name"], model) in scores
            ]
            if not names:
                continue
            columns = {name: scores[name, model] for name in names}
            if len(names) > 1:
                columns["all"] = summed(list(columns.values()))
            title = f"{model} on {fold}"
            tables.append({"title": title, "model": model, "fold": fold, **score_table(columns)})
    return tables


def _cards(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The headline: some measures of the first table's last column."""
    if not tables:
        return []
    wanted = (
        "V_rand of the labels",
        "V_info of the labels",
        "adapted Rand error",
        "average precision at IoU 0.5",
        "foreground Dice",
    )
    cards: dict[str, Any] = {}
    for row in tables[0]["rows"]:
        if row["name"] in wanted:
            cards.setdefault(row["name"], row["values"][-1])
    return [{"name": f"{n}, {tables[0]['title']}", "value": v} for n, v in cards.items()]


def _model(folder: Path, name: str) -> dict[str, Any]:
    facts = _json(folder / "model.json")
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    history = {key: [_number(row[key]) for row in rows] for key in (rows[0] if rows else ())}
    model = facts["model"]
    calibration = folder / "calibration.json"
    return {
        "name": name,
        "curves": drawn(training_curves(history)) if rows else "",
        "summary": (
            f"{facts['parameters']:,} parameters; {model['dimensions']}-D, {model['width']} "
            f"channels wide, {model['depth']} levels deep, {model['padding']} convolutions, norm "
            f"{model['norm']}; weights of step {facts['step']:,}."
        ),
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
        "text": f"{best['method']} with {told(best)}: {chosen['measure']} {best['value']:.4f}.",
        "candidates": candidates,
    }


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
        isbi = scores[name, model]["isbi"] if volume["truth"] else None
        pictures.append(
            {
                "model": model,
                "objects": made["objects"],
                "method": made["method"],
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
    return threshold_curves(isbi["thresholds"], curves, title="thresholds of the probability")


def _rest(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _jobs(results: Path, volumes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the benchmark files say, in stage order; rates where a job belongs to one volume."""
    voxels = {}
    for volume in volumes:
        raw = open_level(results / "volumes" / volume["name"] / "raw.ome.zarr")
        voxels[volume["name"]] = raw.size // raw.shape[0]
    for stage in _STAGES:
        for path in sorted((results / "benchmarks" / stage).glob("*.tsv")):
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            if not rows:
                continue
            row, count = rows[-1], voxels.get(path.stem.split(".")[0])
            seconds = _number(row["s"])
            yield {
                "stage": stage,
                "name": path.stem,
                "seconds": seconds,
                "cpu": _number(row.get("cpu_time", "")),
                "memory": _number(row.get("max_rss", "")),
                "voxels": count,
                "rate": count / seconds / 1e6 if count and seconds else None,
            }


def _flow(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    flow = []
    for stage in _STAGES:
        times = [job["seconds"] or 0 for job in jobs if job["stage"] == stage]
        if times:
            total = sum(times)
            time = f"{total:.0f} s" if total < 120 else f"{total / 60:.1f} min"
            flow.append({"name": stage, "jobs": len(times), "time": time})
    return flow


def _settings(
    results: Path, volumes: Sequence[Mapping[str, Any]], models: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Settings as results record them: of one volume and of every model."""
    name = volumes[0]["name"]
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
            for column, value in zip(table["columns"], row["values"], strict=True):
                place = (table["model"], table["fold"], column)
                lines.append((*place, row["name"], row["variant"], value))
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


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
