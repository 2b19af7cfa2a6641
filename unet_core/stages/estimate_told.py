"""The tables of an estimate, for a person."""

from collections.abc import Sequence

from unet_core.stages.estimate import Estimate


def told(found: Estimate) -> str:
    """Stores, stages, bounds and notes, as text."""
    lines = [
        f"{found.volumes} volume(s), {found.voxels:.4g} voxels",
        "",
        *_stores(found),
        "",
        *_stages(found),
        "",
        f"all stages, one after another: {_duration(sum(row.seconds for row in found.rows))}",
        f"rates: {_rates(found)}",
    ]
    if found.cost is not None:
        lines.append(f"cost: {found.cost:,.2f} at {found.price:g} per GPU and hour")
    for limit in found.limits:
        state = "within" if limit.met else "BEYOND"
        value = f"{limit.value:,.0f}" if limit.value >= 10 else f"{limit.value:.2g}"
        lines.append(f"{limit.name}: {value}, {state} {limit.most:,.0f}")
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def _stores(found: Estimate) -> list[str]:
    files = sum(store.files for store in found.stores)
    disk = sum(store.disk_bytes for store in found.stores)
    rows = [
        (
            store.kind,
            str(store.count),
            f"{store.voxels:.4g}",
            f"{store.files:,}",
            _bytes(store.raw_bytes),
            f"{store.ratio:.3g}",
            _bytes(store.disk_bytes),
        )
        for store in found.stores
    ]
    return _table(
        ("store", "number", "voxels", "files", "bytes", "ratio", "on disk"),
        [*rows, ("all", "", "", f"{files:,}", "", "", _bytes(disk))],
    )


def _stages(found: Estimate) -> list[str]:
    return _table(
        ("stage", "jobs", "blocks", "asks RAM", "GPU", "operations", "GPU hours", "wall time"),
        [
            (
                row.stage,
                str(row.jobs),
                f"{row.blocks:,}",
                _bytes(row.memory_mb * 1e6),
                _bytes(row.gpu_mb * 1e6) if row.gpu_mb else "-",
                f"{row.flops:.3g}" if row.flops else "-",
                f"{row.gpu_hours:.3g}" if row.gpu_hours else "-",
                _duration(row.seconds),
            )
            for row in found.rows
        ],
    )


def _rates(found: Estimate) -> str:
    flops = ", ".join(f"{stage} {rate:.3g}" for stage, rate in found.rates["flops_per_s"].items())
    name = found.rates["device"] or "each"
    return f"{name}: {flops} operations/s ({found.rates['source']})"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} PB"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (heads, *rows)
    ]


def _duration(seconds: float) -> str:
    for size, unit in ((365 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
