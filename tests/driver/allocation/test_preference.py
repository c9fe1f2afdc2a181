"""A preference orders what is tried, and changes nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st

from driver.allocation import Decision, InUse, Preference, Snapshot, allocate
from driver.allocation.models import Device
from driver.allocation.requests import Option
from tests.driver.allocation.builders import NODE, card, claim, device_class, exclusive, given, pool, request

NUMA = "resource.kubernetes.io/numaNode"


class By:
    """Prefers devices in the order of their names in a list; leaves out what is not in it."""

    def __init__(self, *names: str, requests: Sequence[str] = ()) -> None:
        self._names = names
        self._requests = requests

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        assert not in_use.whole
        if self._requests and option.label not in self._requests:
            return devices
        by_name = {one.id.device: one for one in devices}
        return [by_name[name] for name in self._names if name in by_name]


def decide(
    preference: Preference | None, *devices: dict[str, object], claims: list[dict[str, object]]
) -> Decision:
    snapshot = Snapshot.build(slices=[pool(*devices)], classes=[device_class()])
    return allocate(snapshot, node=NODE, claims=claims, preference=preference)


def test_the_preferred_device_is_taken_first() -> None:
    decision = decide(By("c", "b", "a"), card("a"), card("b"), card("c"), claims=[claim(request(count=2))])
    assert given(decision) == ["c", "b"]


def test_each_request_has_its_own_order() -> None:
    decision = decide(
        By("b", "a", requests=["two"]),
        exclusive("a"),
        exclusive("b"),
        exclusive("c"),
        claims=[claim(request("one"), request("two"))],
    )
    assert given(decision) == ["a", "b"]


def test_devices_that_a_preference_leaves_out_are_tried_last() -> None:
    assert given(decide(By("b"), exclusive("a"), exclusive("b"), claims=[claim(request(count=2))])) == [
        "b",
        "a",
    ]


def test_a_device_that_a_preference_repeats_is_given_once() -> None:
    decision = decide(
        By("a", "a"), card("a"), card("b"), claims=[claim(request(count=2, ask={"memory": "1Gi"}))]
    )
    assert given(decision) == ["a", "b"]


def test_a_device_that_a_preference_makes_up_is_not_given() -> None:
    stranger = Snapshot.build(slices=[pool(card("z"))], classes=[]).slices[0].devices[0]

    class Stranger:
        def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
            return [stranger, *devices]

    assert given(decide(Stranger(), card("a"), claims=[claim(request())])) == ["a"]


def test_all_devices_are_all_devices_in_their_own_order() -> None:
    wanted = claim(request(allocationMode="All"))
    assert given(decide(By("b", "a"), exclusive("a"), exclusive("b"), claims=[wanted])) == ["a", "b"]


@settings(max_examples=60, deadline=None)
@generated(
    numa=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    names=st.permutations("abcde"),
    matching=st.booleans(),
)
@pytest.mark.parametrize("kind", ["exclusive", "shared"])
def test_a_preference_never_changes_whether_claims_can_be_met(
    kind: str, numa: list[int], counts: list[int], names: list[str], matching: bool
) -> None:
    make = exclusive if kind == "exclusive" else card
    devices = [
        make(name, attributes={NUMA: {"int": node}}) for name, node in zip("abcde", numa, strict=False)
    ]
    more = {"constraints": [{"matchAttribute": NUMA}]} if matching else {}
    ask = {} if kind == "exclusive" else {"memory": "50Gi"}
    claims = [claim(request(count=count, ask=ask), name=f"c{count}", **more) for count in counts]
    plain = decide(None, *devices, claims=claims)
    preferred = decide(By(*names), *devices, claims=claims)
    assert (plain.allocations is None) == (preferred.allocations is None)
