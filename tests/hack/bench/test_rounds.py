"""The order of measurements."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tooling.bench.rounds import Step, alternating

NAMES = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=4, unique=True)
LEVELS = st.lists(st.integers(0, 1000), min_size=1, max_size=4, unique=True)


def test_two_drivers_alternate_and_take_turns_at_going_first() -> None:
    found = [(one.round, one.name) for one in alternating(["go", "ours"], levels=[0], rounds=3)]
    assert found == [(0, "go"), (0, "ours"), (1, "ours"), (1, "go"), (2, "go"), (2, "ours")]


def test_levels_ascend_whatever_their_order() -> None:
    assert [one.level for one in alternating(["ours"], levels=[1000, 0, 100], rounds=1)] == [0, 100, 1000]


@given(names=NAMES, levels=LEVELS, rounds=st.integers(1, 5))
def test_everything_is_measured_once_in_each_round(names: list[str], levels: list[int], rounds: int) -> None:
    found = Counter(alternating(names, levels=levels, rounds=rounds))
    assert found == Counter(
        Step(level=level, round=number, name=name)
        for level in levels
        for number in range(rounds)
        for name in names
    )


@given(names=NAMES, rounds=st.integers(1, 9))
def test_nobody_goes_first_more_than_once_more_than_others(names: list[str], rounds: int) -> None:
    steps = alternating(names, levels=[0], rounds=rounds)
    firsts = Counter(steps[number * len(names)].name for number in range(rounds))
    counts = [firsts[name] for name in names]
    assert max(counts) - min(counts) <= 1
