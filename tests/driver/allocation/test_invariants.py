"""What must hold whatever is asked."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.allocation.capacity import Shortage, consumption
from driver.allocation.models import Capacity, Policy
from driver.quantities import MAX_AMOUNT, Quantity, parse_quantity
from tests.driver.allocation.builders import DRIVER, allocated, card, claim, decide, exclusive, pool, request

AMOUNTS = st.integers(0, 1 << 40) | st.integers(0, MAX_AMOUNT)
REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "memory": st.sampled_from([None, "1Mi", "1500k", "10Gi", "39Gi", "40Gi", "41Gi", "81Gi"]),
            "cores": st.sampled_from([None, "0", "30", "99", "100", "500m"]),
            "count": st.integers(1, 3),
        }
    ),
    min_size=1,
    max_size=3,
)


def build(drawn: list[dict[str, Any]], name: str) -> dict[str, Any]:
    requests = [
        request(
            f"r{place}",
            count=one["count"],
            ask={key: one[key] for key in ("memory", "cores") if one[key] is not None},
        )
        for place, one in enumerate(drawn)
    ]
    return claim(*requests, name=name)


@given(
    request=AMOUNTS,
    minimum=st.none() | AMOUNTS,
    step=st.none() | st.integers(1, 1 << 50),
    fraction=st.booleans(),
)
def test_what_is_taken_is_never_less_than_what_is_asked(
    request: int, minimum: int | None, step: int | None, fraction: bool
) -> None:
    asked = Quantity(request * 10**9 + (5 if fraction else 0))
    policy = Policy(
        default=Quantity.whole(1),
        minimum=None if minimum is None else Quantity.whole(minimum),
        step=None if step is None else Quantity.whole(step),
    )
    for keep_form in (False, True):
        taken = consumption(Capacity(Quantity.whole(1 << 62), policy), asked, keep_form=keep_form)
        assert not isinstance(taken, Shortage)
        assert taken >= asked
        if step is not None and not (minimum is not None and asked < Quantity.whole(minimum)):
            assert (taken.rounded_up - (minimum or 0)) % step == 0
            assert taken.rounded_up - asked.rounded_up < step


@given(request=AMOUNTS, values=st.lists(AMOUNTS, min_size=1, max_size=5))
def test_of_valid_values_the_smallest_that_is_enough_is_taken(request: int, values: list[int]) -> None:
    policy = Policy(values=tuple(sorted(map(Quantity.whole, values))))
    taken = consumption(Capacity(Quantity.whole(1 << 62), policy), Quantity.whole(request), keep_form=False)
    enough = [value for value in values if value >= request]
    if enough:
        assert taken == Quantity.whole(min(enough))
    else:
        assert isinstance(taken, Shortage)


@settings(max_examples=60, deadline=None)
@given(pods=st.lists(st.lists(REQUESTS, min_size=1, max_size=2), min_size=1, max_size=5))
def test_no_card_is_ever_over_committed(pods: list[list[list[dict[str, Any]]]]) -> None:
    slices = [pool(card("a"), exclusive("x"), card("b", memory="40Gi"), card("c"))]
    capacity = {
        ("a", "memory"): 80 << 30,
        ("b", "memory"): 40 << 30,
        ("c", "memory"): 80 << 30,
    } | {(name, "cores"): 100 for name in "abc"}
    held: list[dict[str, Any]] = []
    for number, pod in enumerate(pods):
        claims = [build(drawn, f"c{number}-{place}") for place, drawn in enumerate(pod)]
        decision = decide(claims, slices=slices, held=held)
        if decision.allocations is None:
            assert decision.refusal is not None
            continue
        for place, (one, drawn) in enumerate(zip(claims, pod, strict=True)):
            held.append(allocated(one, decision, place))
            results = decision.allocations[place]["devices"]["results"]
            assert len(results) == sum(wanted["count"] for wanted in drawn)
    sums: dict[tuple[str, str], int] = defaultdict(int)
    whole: list[str] = []
    for one in held:
        for result in one["status"]["allocation"]["devices"]["results"]:
            assert result["driver"] == DRIVER
            if "shareID" not in result:
                whole.append(result["device"])
                continue
            for name, amount in result["consumedCapacity"].items():
                sums[result["device"], name] += parse_quantity(amount).rounded_up
    assert all(total <= capacity[key] for key, total in sums.items())
    assert len(whole) == len(set(whole))


@settings(max_examples=40, deadline=None)
@given(pod=st.lists(REQUESTS, min_size=1, max_size=2), order=st.permutations(range(3)))
@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_the_same_question_has_the_same_answer_in_whatever_order_slices_come(
    pod: list[list[dict[str, Any]]], order: list[int], release: str
) -> None:
    slices = [
        pool(card("a"), exclusive("x"), name="p1"),
        pool(card("b"), name="p2"),
        pool(card("c"), name="p0"),
    ]
    claims = [build(drawn, f"c{place}") for place, drawn in enumerate(pod)]
    first = decide(claims, slices=slices, release=release)
    assert decide(claims, slices=[slices[place] for place in order], release=release) == first
