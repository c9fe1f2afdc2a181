"""What is taken without a search is what a search over all combinations would find first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from driver.allocation.cluster.take import take
from driver.allocation.constraints import Constraint

PATTERNS = st.lists(st.integers(-1, 3), min_size=1, max_size=7).map(tuple)
KINDS = st.lists(st.booleans(), max_size=2)


def first_combination(
    places: Sequence[int], count: int, rules: Sequence[tuple[bool, tuple[int, ...]]]
) -> tuple[int, ...] | None:
    for some in itertools.combinations(places, count):
        if all(
            min(values[one] for one in some) >= 0
            and len({values[one] for one in some}) == (count if distinct else 1)
            for distinct, values in rules
        ):
            return some
    return None


@given(data=st.data(), pattern=PATTERNS, other=PATTERNS, kinds=KINDS, count=st.integers(1, 5))
def test_the_first_devices_that_do_together_are_taken(
    data: st.DataObject, pattern: tuple[int, ...], other: tuple[int, ...], kinds: list[bool], count: int
) -> None:
    size = min(len(pattern), len(other))
    patterns = {"d/a": pattern, "d/b": other}
    places = sorted(data.draw(st.sets(st.integers(0, size - 1))))
    rules = list(zip(kinds, patterns, strict=False))
    constraints = [Constraint(name, distinct, frozenset()) for distinct, name in rules]
    found = take(places, count, constraints=constraints, pattern=patterns.__getitem__)
    wanted = first_combination(places, count, [(distinct, patterns[name]) for distinct, name in rules])
    if count > 1 and len(constraints) > 1:
        assert found is None
    else:
        assert (tuple(found) if found is not None else None) == wanted


def test_what_cannot_be_compared_is_left_to_the_allocator() -> None:
    rule = [Constraint("d/a", distinct=False, requests=frozenset())]
    assert take([0, 1], 1, constraints=rule, pattern=lambda _: (-2, 0)) is None
    assert take([1], 1, constraints=rule, pattern=lambda _: (-2, 0)) == [1]
    lists = [Constraint("d/a", distinct=False, requests=frozenset(), lists=True)]
    assert take([0], 1, constraints=lists, pattern=lambda _: (0,)) is None


def test_the_first_of_several_that_do_are_taken() -> None:
    match = [Constraint("d/a", distinct=False, requests=frozenset())]
    distinct = [Constraint("d/a", distinct=True, requests=frozenset())]
    assert take([0, 1, 2, 3], 2, constraints=match, pattern=lambda _: (1, 0, 0, 0)) == [1, 2]
    assert take([0, 1, 2, 3], 2, constraints=distinct, pattern=lambda _: (0, 0, 1, 2)) == [0, 2]
    assert take([0, 1, 2], 3, constraints=distinct, pattern=lambda _: (0, 0, 1)) is None
