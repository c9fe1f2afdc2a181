"""What is kept of a claim is small, whatever the claim is, and never charges less than the claim itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cards import Card
from driver.quota.asks import (
    MAX_CHARACTERS,
    MAX_PACKED,
    MAX_SELECTORS,
    Ask,
    Option,
    Request,
    _whole_cards,
    ask_of,
    packed,
    unpacked,
)
from driver.quota.charging import Scope, charge_of
from driver.quota.stock import Stock

NVIDIA, OTHER = "nvidia.dragoman.dev", "gpu.example.com"


def stock() -> Stock:
    made = Stock(class_is_ours=lambda one: one["metadata"]["name"] == NVIDIA)
    for name, driver in ((NVIDIA, "dragoman.dev"), (OTHER, OTHER)):
        selector = {"cel": {"expression": f'device.driver == "{driver}"'}}
        made.put_class({"metadata": {"name": name}, "spec": {"selectors": [selector]}})
    for number, gib in enumerate((16, 80)):
        card = Card(name=f"c{number}", vendor="nvidia", model=f"M{number}", memory_bytes=gib << 30)
        made.put(f"n{number}", [card])
    return made


STOCK = stock()


def claim(*requests: Any) -> dict[str, Any]:
    return {"spec": {"devices": {"requests": list(requests)}}}


def exactly(name: str, **option: Any) -> dict[str, Any]:
    return {"name": name, "exactly": {"deviceClassName": NVIDIA, "count": 1, **option}}


def selectors(*texts: str) -> list[dict[str, Any]]:
    return [{"cel": {"expression": text}} for text in texts]


def largest(of_class: Any, *, characters: int = 9_000) -> dict[str, Any]:
    """As many requests as the API allows, each as long as it allows."""
    requests = []
    for number in range(32):
        name = f"{number:03d}".ljust(63, "n")
        subs = [
            {
                "name": f"s{sub}",
                "deviceClassName": of_class(8 * number + sub),
                "count": 2 + sub,
                "capacity": {"requests": {"memory": f"{8 * number + sub + 1}Mi", "cores": str(sub)}},
                "selectors": selectors(f"'{number}-{sub}' == '{'x' * characters}'"),
            }
            for sub in range(8)
        ]
        requests.append({"name": name, "firstAvailable": subs})
    return claim(*requests)


@pytest.mark.parametrize(
    "of_class",
    [lambda _n: NVIDIA, lambda n: f"{n:03d}".ljust(253, "c"), lambda n: NVIDIA if n == 255 else OTHER],
)
def test_what_is_kept_of_the_largest_claim_is_small(of_class: Any) -> None:
    assert len(packed(ask_of(largest(of_class), carried=True))) <= MAX_PACKED


def test_of_many_or_long_selectors_only_the_first_are_kept() -> None:
    many = claim(exactly("a", selectors=selectors(*(f"true || {n} == 0" for n in range(32)))))
    assert len(ask_of(many, carried=False).requests[0].options[0].selectors) == MAX_SELECTORS
    long = claim(exactly("a", selectors=selectors("x" * (MAX_CHARACTERS + 1), "true")))
    assert ask_of(long, carried=False).requests[0].options[0].selectors == ("true",)


def test_a_class_does_not_hide_behind_very_many_others_from_the_quota_that_is_about_it() -> None:
    hidden = largest(lambda n: NVIDIA if n == 255 else f"{n:03d}".ljust(253, "c"))
    found = charge_of(ask_of(hidden, carried=False), scope=Scope(classes=frozenset({NVIDIA})), stock=STOCK)
    assert found.charge.cards >= 9


def test_a_large_claim_of_another_drivers_class_takes_nothing() -> None:
    found = charge_of(ask_of(largest(lambda _n: OTHER), carried=False), scope=Scope(), stock=STOCK)
    assert not found.charge


OPTIONS = st.builds(
    Option,
    class_name=st.sampled_from([NVIDIA, OTHER, "missing"]),
    selectors=st.sampled_from([(), ('device.attributes["dragoman.dev"].model == "M0"',)]),
    count=st.integers(1, 3),
    memory_mib=st.none() | st.integers(1, 100 << 10),
    cores=st.none() | st.integers(0, 100),
    everything=st.booleans(),
)
ASKS = st.lists(OPTIONS, min_size=1, max_size=4).map(
    lambda some: Ask((Request("r", tuple(some)), Request("s", tuple(some[:1]))))
)
SCOPES = st.sampled_from(
    [Scope(), Scope(classes=frozenset({NVIDIA})), Scope(models=frozenset({"m0"})), Scope(whole_card_mib=1024)]
)


@given(ask=ASKS)
def test_a_packed_ask_is_read_as_it_was(ask: Ask) -> None:
    assert unpacked(packed(ask)) == ask


@given(ask=ASKS, scope=SCOPES, is_by_class=st.booleans())
def test_what_stands_for_a_claim_that_is_too_long_is_charged_no_less(
    ask: Ask, scope: Scope, is_by_class: bool
) -> None:
    least = charge_of(ask, scope=scope, stock=STOCK).charge
    most = charge_of(_whole_cards(ask, is_by_class=is_by_class), scope=scope, stock=STOCK).charge
    assert least.worst(most) == most
