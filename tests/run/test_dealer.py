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


@given(total=st.integers(20, 300), ahead=st.integers(0, 2), many=st.integers(1, 5))
def test_a_worker_ten_times_slower_costs_less_than_one_of_its_units(
    total: int, ahead: int, many: int
) -> None:
    run = simulate(total, [1.0] * many + [10.0], ahead=ahead)
    assert run.end <= max(total / many, 10.0) + 1


@given(
    total=st.integers(1, 200),
    paces=paces,
    ahead=st.integers(0, 2),
    late=st.dictionaries(st.integers(0, 5), st.floats(0, 100)),
)
def test_workers_that_come_late_get_units_too(
    total: int, paces: list[float], ahead: int, late: dict[int, float]
) -> None:
    names = {f"w{number}": at for number, at in late.items() if number < len(paces)}
    run = simulate(total, paces, ahead=ahead, late=names)
    assert sorted(unit for units in run.by.values() for unit in units) == list(range(total))
    least = max(names.values(), default=0.0) + total / sum(1 / pace for pace in paces)
    dealt = 1 + ahead  # what others had when the last one came stays with them
    assert run.end <= (least + dealt * max(paces)) * (1 + 1e-9)


def test_equal_workers_keep_to_their_own_part() -> None:
    run = simulate(30, [1.0, 1.0, 1.0], ahead=2)
    assert run.by == {f"w{n}": list(range(10 * n, 10 * n + 10)) for n in range(3)}


def test_the_first_of_two_gets_nothing_ahead_before_its_pace_is_known() -> None:
    dealer = Dealer(10, workers=["a", "b"], ahead=2)
    assert [dealer.deal("a", 0.0), dealer.deal("a", 0.0)] == [0, None]
    assert dealer.end("a", 0, 1.0) == 1.0
    assert [dealer.deal("a", 1.0) for _ in range(4)] == [1, 2, 3, None]


def test_what_a_lost_worker_had_left_is_taken_over() -> None:
    dealer = Dealer(8, workers=["a", "b"], ahead=0)
    assert dealer.deal("a", 0.0) == 0
    assert dealer.leave("a") == [0]
    dealer.join("c")
    assert [dealer.deal("c", 0.0), dealer.left] == [1, 6]


def test_a_unit_that_is_tried_alone_waits_for_a_free_worker_and_keeps_it() -> None:
    dealer = Dealer(20, workers=["a"], ahead=2)
    dealer.end("a", dealer.deal("a", 0.0) or 0, 1.0)
    assert [dealer.deal("a", 1.0) for _ in range(2)] == [1, 2]
    dealer.again(0, at=1.0, alone=True)
    assert dealer.deal("a", 1.0) is None, "nothing more until it is free"
    dealer.end("a", 1, 2.0)
    dealer.end("a", 2, 3.0)
    assert [dealer.deal("a", 3.0), dealer.deal("a", 3.0)] == [0, None]
    dealer.end("a", 0, 4.0)
    assert dealer.deal("a", 4.0) == 3


def test_a_unit_is_tried_again_later_and_by_another_worker() -> None:
    dealer = Dealer(2, workers=["a", "b"], ahead=0)
    assert [dealer.deal("a", 0.0), dealer.deal("b", 0.0)] == [0, 1]
    dealer.end("a", 0, 1.0)
    dealer.again(0, at=3.0, not_by="a")
    dealer.end("b", 1, 2.0)
    assert [dealer.deal("b", 2.0), dealer.deal("a", 4.0), dealer.deal("b", 4.0)] == [None, None, 0]
    dealer.end("b", 0, 5.0)
    dealer.leave("b")
    dealer.again(0, at=5.0, not_by="a")
    assert dealer.deal("a", 5.0) == 0, "by the same where there is no other"


def test_nobody_counts_on_a_worker_that_is_going() -> None:
    dealer = Dealer(10, workers=["slow", "fast"], ahead=0)
    assert [dealer.deal("slow", 0.0), dealer.deal("fast", 0.0)] == [0, 5]
    dealer.end("fast", 5, 1.0)
    dealer.end("slow", 0, 10.0)
    assert dealer.deal("slow", 10.0) is None, "the other would do them all meanwhile"
    dealer.dismiss("fast")
    assert [dealer.deal("fast", 10.0), dealer.deal("slow", 10.0)] == [None, 1]
    dealer.end("slow", 1, 20.0)
    dealer.again(1, at=20.0, not_by="slow")
    assert dealer.deal("slow", 20.0) == 1, "nor for another try"
