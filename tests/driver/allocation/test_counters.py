"""Counters: who draws on them, over nodes, shares and releases."""

from __future__ import annotations

from typing import Any

import pytest

from driver.allocation import Decision, error_kind
from tests.driver.allocation.builders import (
    DRIVER,
    NODE,
    card,
    claim,
    decide,
    exclusive,
    given,
    pool,
    reasons,
    request,
)

NUMA = "resource.kubernetes.io/numaNode"


def drawing(name: str = "s", amount: str = "1") -> dict[str, Any]:
    return {"consumesCounters": [{"counterSet": name, "counters": {"slots": {"value": amount}}}]}


def counters(
    amount: str = "2", *, node: str = NODE, name: str = "counters", slots: str = "s"
) -> dict[str, Any]:
    made = pool(node=node, name="p", slice_name=name)
    made["spec"]["sharedCounters"] = [{"name": slots, "counters": {"slots": {"value": amount}}}]
    del made["spec"]["devices"]
    return made


def one_pool(*slices: dict[str, Any]) -> list[dict[str, Any]]:
    for one in slices:
        one["spec"]["pool"] = {"name": "p", "generation": 1, "resourceSliceCount": len(slices)}
    return list(slices)


def holding(device: str, **more: Any) -> dict[str, Any]:
    result = {"request": "r", "driver": DRIVER, "pool": "p", "device": device, **more}
    return {"status": {"allocation": {"devices": {"results": [result]}}}}


def kind(decision: Decision) -> str | None:
    assert decision.refusal is not None
    return error_kind(decision.refusal)


def bare(name: str, **more: Any) -> dict[str, Any]:
    """A device without capacities that any number of claims can share."""
    return {"name": name, "allowMultipleAllocations": True, **more}


def test_partitions_are_given_as_long_as_their_counters_last() -> None:
    devices = [exclusive(name, **drawing()) for name in "abc"]
    slices = one_pool(counters(), pool(*devices, name="p", slice_name="devices"))
    assert given(decide([claim(request(count=2))], slices=slices)) == ["a", "b"]
    assert reasons(decide([claim(request())], slices=slices, held=[holding("a"), holding("c")])) == {
        "a": "InUse",
        "b": "CountersExhausted",
        "c": "InUse",
    }


def test_a_device_on_another_node_draws_on_the_counters_of_its_pool() -> None:
    here = pool(exclusive("a", **drawing()), name="p", slice_name="here")
    there = pool(exclusive("b", **drawing()), node="other", name="p", slice_name="there")
    slices = one_pool(counters("1"), here, there)
    assert given(decide([claim(request())], slices=slices)) == ["a"]
    assert reasons(decide([claim(request())], slices=slices, held=[holding("b")])) == {
        "a": "CountersExhausted"
    }


@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_counters_may_be_in_a_slice_of_another_node(release: str) -> None:
    here = pool(exclusive("a", **drawing()), name="p", slice_name="here")
    slices = one_pool(counters(node="other"), here)
    assert given(decide([claim(request())], slices=slices, release=release)) == ["a"]


def test_what_a_device_of_another_node_draws_has_to_exist() -> None:
    here = pool(exclusive("a", **drawing()), name="p", slice_name="here")
    there = pool(exclusive("b", **drawing("t")), node="other", name="p", slice_name="there")
    slices = one_pool(counters(), here, there)
    assert kind(decide([claim(request())], slices=slices)) == "invalid-pool"


def test_two_sets_of_one_name_contradict_each_other() -> None:
    slices = one_pool(counters(), counters(name="again"), pool(exclusive("a"), name="p"))
    assert kind(decide([claim(request())], slices=slices)) == "invalid-pool"


def test_a_shared_device_takes_its_counters_once() -> None:
    slices = one_pool(counters("1"), pool(card("a", **drawing()), name="p", slice_name="devices"))
    claims = [claim(request(ask={"memory": "1Gi"}), name=name) for name in ("one", "two")]
    assert given(decide(claims, slices=slices)) == ["a", "a"]
    share = holding("a", shareID="s", consumedCapacity={"memory": "1Gi", "cores": "0"})
    assert given(decide(claims[:1], slices=slices, held=[share])) == ["a"]


@pytest.mark.parametrize(("release", "fits"), [("1.36", False), ("1.37", True)])
def test_a_held_share_without_amounts_has_paid_from_1_37_on(release: str, fits: bool) -> None:
    slices = one_pool(counters("1"), pool(bare("a", **drawing()), name="p", slice_name="devices"))
    decision = decide([claim(request())], slices=slices, held=[holding("a", shareID="s")], release=release)
    assert (decision.allocations is not None) == fits


def test_admin_access_to_a_shareable_device_that_is_held_as_a_whole_needs_counters() -> None:
    slices = one_pool(counters("1"), pool(bare("a", **drawing()), name="p", slice_name="devices"))
    admin = claim(request(adminAccess=True))
    assert given(decide([admin], slices=slices)) == ["a"]
    assert reasons(decide([admin], slices=slices, held=[holding("a")])) == {"a": "CountersExhausted"}


def test_with_mode_all_a_constraint_is_asked_before_what_is_left_of_a_card() -> None:
    cards = [card(name, attributes={NUMA: {"int": number}}) for number, name in enumerate("ab")]
    share = holding("b", shareID="s", consumedCapacity={"memory": "80Gi", "cores": "0"})
    everything = claim(
        request(allocationMode="All", ask={"memory": "1Gi"}), constraints=[{"matchAttribute": NUMA}]
    )
    decision = decide([everything], slices=[pool(*cards, name="p")], held=[share], release="1.37")
    assert kind(decision) == "all-constraint"
