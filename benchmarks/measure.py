"""How benchmarks measure: variants take turns, CPU seconds and wall, medians, spread, load.

Import it before numpy and torch: it gives them one thread. Other programs on the machine disturb
all variants of a round alike, so ratios are taken round by round. A ratio whose spread exceeds its
distance from the target is "not resolved", after up to three times the rounds asked for.
"""

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, Self

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

ROUNDS = 5
_PATIENCE = 3
"""Times the rounds asked for that are made where a ratio is not resolved."""

Row = dict[str, Any]
"""name, value, target, met, against, how; value and met are None where nothing was resolved."""


@dataclass(frozen=True)
class Cost:
    """What one call took."""

    cpu: float
    """Seconds of CPU time, of threads and of children that have ended too."""

    wall: float
    """Seconds."""


def cost_of(function: Callable[[], object]) -> Cost:
    """What a call takes."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    function()
    return Cost(_cpu_seconds() - cpu, time.perf_counter() - wall)


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


Variants = Mapping[str, Callable[[], object]]
"""What is compared, by name; a variant may return the `Cost` it has taken itself elsewhere."""

Of = Literal["cpu", "wall"]


class Rounds:
    """Costs of some variants, round by round; each variant has run once before, unmeasured.

    Use as a context manager where variants are elsewhere, which it ends.

    Parameters
    ----------
    rounds
        At least this many; a ratio that is not resolved asks for more.
    """

    def __init__(self, variants: Variants, *, rounds: int = ROUNDS, warm: bool = True) -> None:
        self.variants = dict(variants)
        self.rounds = rounds
        self.costs: dict[str, list[Cost]] = {name: [] for name in variants}
        if warm:
            for function in variants.values():
                function()
        for _ in range(rounds):
            self.round()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for function in self.variants.values():
            if isinstance(function, Elsewhere):
                function.close()

    def round(self) -> None:
        """Every variant once more."""
        for name, function in self.variants.items():
            found: list[object] = []
            cost = cost_of(lambda f=function, into=found: into.append(f()))  # type: ignore[misc]
            (own,) = found
            self.costs[name].append(own if isinstance(own, Cost) else cost)

    def each(self, name: str, of: Of = "cpu") -> list[float]:
        """Seconds of a variant, by round."""
        return [getattr(cost, of) for cost in self.costs[name]]

    def seconds(self, name: str, of: Of = "cpu") -> float:
        """Median seconds of a variant."""
        return statistics.median(self.each(name, of))

    def ratio(
        self,
        name: str,
        value: Callable[[Mapping[str, float]], float],
        target: float | None,
        *,
        at_least: bool = True,
        of: Of = "cpu",
        against: str,
        how: str,
        digits: int = 3,
        **parts: Any,
    ) -> Row:
        """A row: the median over the rounds of `value` of their seconds.

        Parameters
        ----------
        value
            Seconds by variant, of one round -> the ratio.
        parts
            What else the row says.
        """
        found = [value(seconds) for seconds in self._by_round(of)]

        def another() -> float:
            self.round()
            return value(self._by_round(of)[-1])

        told = {variant: rounded(self.seconds(variant, of), 4) for variant in self.variants}
        unit = "CPU s" if of == "cpu" else "s"
        how = f"{how}; variants take turns, 1 thread, {unit}"
        return settled(
            name,
            found,
            another,
            target,
            at_least=at_least,
            against=against,
            how=how,
            digits=digits,
            seconds=told,
            **parts,
        )

    def _by_round(self, of: Of) -> list[dict[str, float]]:
        each = {name: self.each(name, of) for name in self.variants}
        count = min(map(len, each.values()))
        return [{name: values[i] for name, values in each.items()} for i in range(count)]


def medians(*functions: Callable[[], object], rounds: int = ROUNDS, of: Of = "cpu") -> list[float]:
    """Median seconds of each function; they take turns."""
    measured = Rounds({str(n): function for n, function in enumerate(functions)}, rounds=rounds)
    return [measured.seconds(name, of) for name in measured.variants]


def settled(
    name: str,
    found: Sequence[float],
    another: Callable[[], float],
    target: float | None,
    **told: Any,
) -> Row:
    """A row: the median of `found`, and of `another` as long as that is not resolved."""
    values = list(found)
    while True:
        middle, spread = statistics.median(values), spread_of(values)
        clear = target is None or spread <= abs(middle - target)
        if clear or len(values) >= _PATIENCE * len(found):
            break
        values.append(another())
    told |= {"spread": rounded(spread), "rounds": len(values)}
    if not clear:
        told["not_resolved"] = f"{middle:.3g} +- {spread:.2g}"
    return row(name, middle if clear else None, target, **told)


def spread_of(values: Sequence[float]) -> float:
    """Half the distance between the quartiles."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2


def row(
    name: str,
    value: float | None,
    target: float | None,
    *,
    at_least: bool = True,
    against: str,
    how: str,
    digits: int = 3,
    **parts: Any,
) -> Row:
    """One line of the list that a benchmark ends with, shown on standard error at once."""
    met = None
    if value is not None and target is not None:
        met = bool(value >= target if at_least else value <= target)
    shown = rounded(value, digits) if value is not None else None
    found = {
        **{"name": name, "value": shown, "target": target, "met": met, "against": against},
        **{"how": how, **parts, "load": round(os.getloadavg()[0], 2)},
    }
    mark = {True: "met", False: "MISSED", None: "-"}[met]
    if value is None:
        mark = "not resolved" if "not_resolved" in parts else "not run"
    goal = "" if target is None else f"  ({'>=' if at_least else '<='} {target:g})"
    value_told = parts.get("not_resolved", "") if value is None else f"{shown:g}"
    print(f"{mark:12}  {name}: {value_told}{goal}", file=sys.stderr, flush=True)
    return found


def rounded(value: float, digits: int = 3) -> float:
    """To so many digits that count."""
    return float(f"{value:.{digits}g}")


class Elsewhere:
    """A variant in a process of its own, so that no setting of another touches it.

    `setup(*args)` makes the function there; both must be picklable. A call runs it once.
    """

    def __init__(self, setup: Callable[..., Callable[[], object]], *args: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, setup, args), daemon=True)
        self._process.start()
        there.close()

    def __call__(self) -> Cost:
        self._pipe.send("again")
        found: Cost = self._pipe.recv()
        return found

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=60)


def _serve(pipe: Connection, setup: Callable[..., Callable[[], object]], args: Any) -> None:
    function = setup(*args)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(cost_of(function))


def fresh(function: Callable[..., Any], *args: object) -> Any:
    """What `function(*args)` returns in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()
