"""What a cluster has switched on decides what can be asked and what is given."""

from __future__ import annotations

from typing import Any

import pytest

from driver.allocation import Decision, Features, Profile, Snapshot, allocate, error_kind
from driver.errors import InvalidInputError
from tests.driver.allocation.builders import (
    DRIVER,
    NODE,
    allocated,
    card,
    claim,
    decide,
    device_class,
    exclusive,
    given,
    pool,
    reasons,
    request,
)

FIRST = {"name": "r", "firstAvailable": [{"name": "s", "deviceClassName": "any"}]}
TAINTED = {"taints": [{"key": "k", "effect": "NoSchedule"}]}


def without(feature: str, *claims: dict[str, Any], slices: list[Any], held: Any = ()) -> Decision:
    snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=held)
    return allocate(snapshot, node=NODE, claims=list(claims), features=Features(**{feature: False}))


def kind(decision: Decision) -> str | None:
    assert decision.refusal is not None
    return error_kind(decision.refusal)


@pytest.mark.parametrize(
    ("feature", "asked", "name"),
    [
        ("prioritized_list", FIRST, "prioritized-list-disabled"),
        ("consumable_capacity", request(ask={"memory": "1Gi"}), "capacity-disabled"),
        ("admin_access", request(adminAccess=False), "admin-access-disabled"),
    ],
)
def test_a_claim_that_uses_what_is_switched_off_is_refused_even_without_any_device(
    feature: str, asked: dict[str, Any], name: str
) -> None:
    decision = without(feature, claim(asked), slices=[])
    assert kind(decision) == name
    assert decision.refusal is not None
    assert decision.refusal.field.startswith("default/c: spec.devices.requests[0].")


def test_amounts_in_a_sub_request_are_refused_where_amounts_are_off() -> None:
    sub = {"name": "s", "deviceClassName": "any", "capacity": {"requests": {"memory": "1Gi"}}}
    decision = without("consumable_capacity", claim({"name": "r", "firstAvailable": [sub]}), slices=[])
    assert kind(decision) == "capacity-disabled"


def test_without_amounts_a_shareable_device_is_given_and_held_as_a_whole() -> None:
    slices = [pool(card("a"), card("b"))]
    shared = decide([claim(request(ask={"memory": "1Gi"}))], slices=slices)
    decision = without("consumable_capacity", claim(request()), slices=slices, held=[allocated({}, shared)])
    assert given(decision) == ["b"]
    assert decision.allocations is not None
    result = decision.allocations[0]["devices"]["results"][0]
    assert not {"shareID", "consumedCapacity"} & set(result)


def test_without_taints_a_tainted_device_is_given() -> None:
    slices = [pool(exclusive("a", **TAINTED))]
    assert given(without("device_taints", claim(request()), slices=slices)) == ["a"]


def test_without_binding_conditions_a_device_that_has_some_is_not_given() -> None:
    slices = [pool(exclusive("a", bindingConditions=["ready"]))]
    assert given(decide([claim(request())], slices=slices)) == ["a"]
    decision = without("device_binding_and_status", claim(request()), slices=slices)
    assert reasons(decision) == {"a": "FeatureDisabled"}


def test_without_partitions_a_device_that_draws_on_counters_is_not_given() -> None:
    drawing = {"consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": "1"}}}]}
    decision = without("partitionable_devices", claim(request()), slices=[pool(exclusive("a", **drawing))])
    assert reasons(decision) == {"a": "FeatureDisabled"}


def test_the_stable_allocator_does_not_know_distinct_attributes() -> None:
    features = Features.named(["adminAccess", "prioritizedList"])
    assert Profile.of("1.36", features).channel == "stable"
    snapshot = Snapshot.build(slices=[], classes=[device_class()])
    wanted = claim(request(), constraints=[{"distinctAttribute": f"{DRIVER}/uuid"}])
    assert kind(allocate(snapshot, node=NODE, claims=[wanted], features=features)) == "unknown-constraint"


def test_the_stable_allocator_tries_slices_in_the_order_that_they_come() -> None:
    features = Features.named(["adminAccess", "prioritizedList"])
    slices = [pool(exclusive(name), name="p", slice_name=name) for name in ("z", "a")]
    for one in slices:
        one["spec"]["pool"]["resourceSliceCount"] = 2
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    assert given(allocate(snapshot, node=NODE, claims=[claim(request())], features=features)) == ["z"]
    assert given(allocate(snapshot, node=NODE, claims=[claim(request())])) == ["a"]


def test_features_are_named_as_kubernetes_code_names_them() -> None:
    on = Features.named(["adminAccess", "listTypeAttributes"])
    assert on.admin_access
    assert on.list_type_attributes
    assert not on.consumable_capacity
    with pytest.raises(InvalidInputError, match="warp_drive"):
        Features.named(["warpDrive"])


@pytest.mark.parametrize("release", ["1.34", "1.35", "1.36", "1.37"])
def test_each_release_gives_shares_by_the_same_rules(release: str) -> None:
    slices = [pool(card("a"))]
    claims = [claim(request(count=1, ask={"memory": "30Gi"}), name=name) for name in ("one", "two")]
    assert given(decide(claims, slices=slices, release=release)) == ["a", "a"]
    two = claim(request(count=2, ask={"memory": "1Gi"}))
    assert decide([two], slices=slices, release=release).refusal is not None


LINKS = f"{DRIVER}/links"


def links(name: str, **value: Any) -> dict[str, Any]:
    return exclusive(name, attributes={"links": value})


def with_lists(constraint: str, *devices: dict[str, Any], count: int = 2, release: str = "1.36") -> Decision:
    names = ["consumableCapacity", "listTypeAttributes", "prioritizedList"]
    snapshot = Snapshot.build(slices=[pool(*devices)], classes=[device_class()])
    wanted = claim(request(count=count), constraints=[{constraint: LINKS}])
    return allocate(snapshot, node=NODE, claims=[wanted], features=Features.named(names), release=release)


def test_lists_match_where_all_have_one_element_in_common() -> None:
    devices = [links("a", strings=["x", "y"]), links("b", strings=["y", "z"]), links("c", strings=["z", "x"])]
    assert given(with_lists("matchAttribute", *devices)) == ["a", "b"]
    assert kind(with_lists("matchAttribute", *devices, count=3)) is None


def test_a_scalar_matches_the_lists_that_have_it() -> None:
    devices = [links("a", strings=["x", "y"]), links("b", string="z"), links("c", string="y")]
    assert given(with_lists("matchAttribute", *devices)) == ["a", "c"]


def test_lists_are_distinct_where_no_two_have_an_element_in_common() -> None:
    devices = [links("a", ints=[1, 2]), links("b", ints=[2, 3]), links("c", ints=[3])]
    assert given(with_lists("distinctAttribute", *devices)) == ["a", "c"]


def test_lists_of_different_types_have_nothing_in_common() -> None:
    devices = [links("a", strings=["1"]), links("b", ints=[1]), links("c", bools=[True])]
    assert kind(with_lists("matchAttribute", *devices)) is None
    assert given(with_lists("distinctAttribute", *devices, count=3)) == ["a", "b", "c"]


@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_what_lists_had_in_common_is_restored_when_a_device_is_put_back(release: str) -> None:
    devices = [
        links("a", strings=["x", "y"]),
        links("b", strings=["x"]),
        links("c", strings=["y"]),
        links("d", strings=["y"]),
    ]
    assert given(with_lists("matchAttribute", *devices, count=3, release=release)) == ["a", "c", "d"]


def test_without_the_feature_a_list_may_stand_alone_and_matches_nothing() -> None:
    devices = [links("a", strings=["x"]), links("b", strings=["x"])]
    alone = claim(request(), constraints=[{"matchAttribute": LINKS}])
    assert given(decide([alone], slices=[pool(*devices)])) == ["a"]
    both = claim(request(count=2), constraints=[{"matchAttribute": LINKS}])
    assert reasons(decide([both], slices=[pool(*devices)])) == {"b": "ConstraintUnmet"}


def test_steps_are_exact_to_a_thousandth_from_1_37_on() -> None:
    policy = {"default": "1", "validRange": {"min": "500m", "step": "250m"}}
    slices = [pool(card("a", capacity={"cores": {"value": "4", "requestPolicy": policy}}))]
    decision = decide([claim(request(ask={"cores": "600m"}))], slices=slices, release="1.37")
    assert decision.allocations is not None
    assert decision.allocations[0]["devices"]["results"][0]["consumedCapacity"] == {"cores": "750m"}


def test_an_amount_finer_than_a_thousandth_is_refused_where_steps_are() -> None:
    policy = {"default": "1", "validRange": {"min": "500m", "step": "250m"}}
    slices = [pool(card("a", capacity={"cores": {"value": "4", "requestPolicy": policy}}))]
    decision = decide([claim(request(ask={"cores": "600500u"}))], slices=slices, release="1.37")
    assert kind(decision) == "capacity-not-representable"


def test_a_rounded_amount_is_written_in_the_form_of_the_step_from_1_37_on() -> None:
    policy = {"default": "1G", "validRange": {"min": "1G", "step": "1G"}}
    slices = [pool(card("a", capacity={"memory": {"value": "80G", "requestPolicy": policy}}))]
    written = []
    for release in ("1.36", "1.37"):
        decision = decide([claim(request(ask={"memory": "2500M"}))], slices=slices, release=release)
        assert decision.allocations is not None
        written.append(decision.allocations[0]["devices"]["results"][0]["consumedCapacity"]["memory"])
    assert written == ["3000000000", "3G"]


@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_a_negative_amount_ends_the_attempt_where_it_would_be_charged_and_is_raised_where_there_is_a_minimum(
    release: str,
) -> None:
    plain = card("a", capacity={"memory": {"value": "80Gi"}})
    asked = [claim(request(ask={"memory": "-1"}))]
    decision = decide(asked, slices=[pool(plain)], release=release)
    assert kind(decision) == "capacity-negative"
    assert decision.refusal is not None
    assert decision.refusal.field == "default/c: spec.devices.requests[0].exactly.capacity.requests[memory]"
    raised = decide(asked, slices=[pool(card("b"))], release=release)
    assert raised.allocations is not None
    assert raised.allocations[0]["devices"]["results"][0]["consumedCapacity"]["memory"] == "1Mi"


def test_mode_all_counts_a_full_card_from_1_37_on() -> None:
    slices = [pool(card("a"), card("b"))]
    first = decide([claim(request(ask={"memory": "80Gi"}))], slices=slices)
    everything = claim(request(allocationMode="All", ask={"memory": "1Gi"}))
    held = [allocated({}, first)]
    assert given(decide([everything], slices=slices, held=held, release="1.36")) == ["b"]
    assert reasons(decide([everything], slices=slices, held=held, release="1.37")) == {"a": "CapacityInUse"}
