"""The dealer in simulated time; a worker does its units one after the other, at its pace."""

import heapq
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from unet_core.run.dealer import Dealer


@dataclass
class Run:
    """What came of a simulated step."""

    end: float = 0.0
    by: dict[str, list[int]] = field(default_factory=dict)
    most: int = 0


def simulate(
    total: int, paces: list[float], *, ahead: int, late: dict[str, float] | None = None
) -> Run:
    names = [f"w{number}" for number in range(len(paces))]
    pace = dict(zip(names, paces, strict=True))
    late = late or {}
    dealer = Dealer(total, workers=[name for name in names if name not in late], ahead=ahead)
    ends = [(at, name, None) for name, at in late.items()]
    free = dict.fromkeys(names, 0.0)
    run, now = Run(by={name: [] for name in names}), 0.0
    while True:
        for name in dealer.workers:
            while (unit := dealer.deal(name, now)) is not None:
                free[name] = max(free[name], now) + pace[name]
                heapq.heappush(ends, (free[name], name, unit))
                run.by[name].append(unit)
        run.most = max(run.most, dealer.running)
        if not ends:
            break
        now, name, unit = heapq.heappop(ends)
        if unit is None:
            dealer.join(name)
        else:
            dealer.end(name, unit, now)
            run.end = now
    assert not dealer.left
    return run


paces = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)


@given(total=st.integers(0, 200), paces=paces, ahead=st.integers(0, 2))
def test_every_unit_is_done_once_and_few_are_under_way(
    total: int, paces: list[float], ahead: int
) -> None:
    run = simulate(total, paces, ahead=ahead)
    assert sorted(unit for units in run.by.values() for unit in units) == list(range(total))
    assert run.most <= (1 + ahead) * len(paces)


@given(total=st.integers(1, 300), paces=paces, ahead=st.integers(0, 2))
def test_the_end_is_at_most_one_unit_of_the_slowest_later_than_it_could_be(
    total: int, paces: list[float], ahead: int
) -> None:
    least = total / sum(1 / pace for pace in paces)
    assert simulate(total, paces, ahead=ahead).end <= (least + max(paces)) * (1 + 1e-9)
