"""Each refusal names its reason, and each device the first thing that ruled it out."""

from __future__ import annotations

from typing import Any

import pytest

from driver.allocation import Decision, Snapshot, allocate
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

UUID = f'device.attributes["{DRIVER}"].uuid'


def refused(decision: Decision) -> str:
    assert decision.refusal is not None
    assert decision.refusal.message
    return decision.refusal.reason


def test_each_device_has_the_first_reason_against_it() -> None:
    taint: dict[str, Any] = {"taints": [{"key": "broken", "value": "yes", "effect": "NoSchedule"}]}
    slices = [
        pool(
            card("asked-out", attributes={"uuid": {"string": "x"}}),
            card("small", memory="2Gi"),
            card("full"),
            card("held"),
            card("tainted", **taint),
            {"name": "plain"},
        )
    ]
    share = {"request": "r", "driver": DRIVER, "pool": NODE, "shareID": "s"}
    held = [
        {"status": {"allocation": {"devices": {"results": [one]}}}}
        for one in (
            share | {"device": "full", "consumedCapacity": {"memory": "78Gi"}},
            {"request": "r", "driver": DRIVER, "pool": NODE, "device": "held"},
        )
    ]
    selector = f'!has({UUID}) || {UUID} != "x"'
    decision = decide([claim(request(selectors=[selector], ask={"memory": "4Gi"}))], slices=slices, held=held)
    assert refused(decision) == "NoDevice"
    assert reasons(decision) == {
        "asked-out": "SelectorFalse",
        "small": "CapacityTooSmall",
        "full": "CapacityInUse",
        "held": "InUse",
        "tainted": "Tainted",
        "plain": "CapacityUnknown",
    }
    assert decision.refusal is not None
    messages = {one.device: one.message for one in decision.refusal.devices}
    assert messages["full"] == "memory: asked 4Gi, free 2Gi of 80Gi"
    assert messages["small"] == "memory: asked 4Gi, the device has 2Gi"
    assert messages["asked-out"] == f"false: {selector}"
    assert decision.refusal.request == "r"
    assert "1 CapacityInUse" in decision.refusal.summary()


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        ("8Ei", "CapacityNotRepresentable"),
        ("1e30", "CapacityNotRepresentable"),
        ("much", "InvalidCapacityRequest"),
    ],
)
@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_an_amount_that_means_nothing_is_refused_with_its_field(
    amount: str, reason: str, release: str
) -> None:
    decision = decide([claim(request(ask={"memory": amount}))], slices=[pool(card("a"))], release=release)
    assert refused(decision) == reason
    assert decision.refusal is not None
    assert decision.refusal.field == ("default/c: spec.devices.requests[0].exactly.capacity.requests[memory]")


def test_more_cores_than_a_card_has_are_too_many() -> None:
    decision = decide([claim(request(ask={"memory": "1Gi", "cores": "101"}))], slices=[pool(card("a"))])
    assert reasons(decision) == {"a": "CapacityRequestTooLarge"}


def test_a_name_with_a_domain_is_another_capacity() -> None:
    decision = decide([claim(request(ask={"dragoman.dev/memory": "1Gi"}))], slices=[pool(card("a"))])
    assert reasons(decision) == {"a": "CapacityUnknown"}


def test_a_missing_class_is_named() -> None:
    decision = decide([claim(request(deviceClassName="nope"))], slices=[])
    assert refused(decision) == "DeviceClassNotFound"


def test_a_selector_that_raises_or_does_not_compile_ends_the_attempt() -> None:
    for expression, reason in ((f"{UUID} > 1", "SelectorFailed"), ("nonsense(", "SelectorInvalid")):
        decision = decide([claim(request(selectors=[expression]))], slices=[pool(card("a"))])
        assert refused(decision) == reason
        assert decision.refusal is not None
        assert expression in decision.refusal.message
        assert decision.refusal.field == (
            "default/c: spec.devices.requests[0].exactly.selectors[0].cel.expression"
        )


@pytest.mark.parametrize(("expression", "reason"), [("1", "SelectorInvalid"), (UUID, "SelectorFailed")])
def test_a_selector_that_gives_something_other_than_true_or_false_is_refused(
    expression: str, reason: str
) -> None:
    assert refused(decide([claim(request(selectors=[expression]))], slices=[pool(card("a"))])) == reason


def test_a_selector_of_a_class_is_named_with_its_class() -> None:
    classes = [device_class("mine", "true", f"{UUID} > 1")]
    wanted = claim(request(deviceClassName="mine"))
    decision = decide([wanted], slices=[pool(card("a"))], classes=classes)
    assert refused(decision) == "SelectorFailed"
    assert decision.refusal is not None
    assert decision.refusal.field == "DeviceClass mine: spec.selectors[1].cel.expression"
    assert given(decide([claim(request())], slices=[pool(card("a"))], classes=classes)) == ["a"]


def test_a_false_selector_of_the_class_shields_that_of_the_request() -> None:
    classes = [device_class("none", "false")]
    wanted = claim(request(deviceClassName="none", selectors=[f"{UUID} > 1"]))
    assert reasons(decide([wanted], slices=[pool(card("a"))], classes=classes)) == {"a": "SelectorFalse"}


def test_an_error_of_a_later_claim_shows_only_if_the_earlier_ones_found_devices() -> None:
    raising = claim(request(selectors=[f"{UUID} > 1"]), name="later")
    asked = [claim(request(selectors=["false"]), name="first"), raising]
    assert refused(decide(asked, slices=[pool(card("a"))])) == "NoDevice"
    asked = [claim(request(ask={"memory": "1Gi"}), name="first"), raising]
    assert refused(decide(asked, slices=[pool(card("a"))])) == "SelectorFailed"


def test_a_device_after_the_one_that_is_taken_cannot_raise() -> None:
    slices = [pool(card("a"), exclusive("b"))]
    assert given(decide([claim(request(selectors=[f'{UUID} == "uuid-a"']))], slices=slices)) == ["a"]


def test_a_selector_that_is_not_supported_yet_is_refused_as_that() -> None:
    decision = decide(
        [claim(request(selectors=["google.protobuf.Struct{} == null"]))], slices=[pool(card("a"))]
    )
    assert refused(decision) == "SelectorNotSupported"


@pytest.mark.parametrize(
    ("requests", "more"),
    [
        ([request(newField=1)], {}),
        ([request(allocationMode="Some")], {}),
        ([{"name": "r", "another": {}}], {}),
        ([request()], {"newPart": []}),
    ],
)
def test_a_field_that_is_not_supported_yet_is_refused_by_name(
    requests: list[Any], more: dict[str, Any]
) -> None:
    assert refused(decide([claim(*requests, **more)], slices=[pool(card("a"))])) == "NotSupported"


def test_a_constraint_of_a_kind_that_is_not_known_is_refused_by_name() -> None:
    wanted = claim(request(), constraints=[{"newKind": "x"}])
    decision = decide([wanted], slices=[pool(card("a"))])
    assert refused(decision) == "ConstraintUnknown"
    assert decision.refusal is not None
    assert decision.refusal.field == "default/c: spec.devices.constraints[0]"


def test_a_device_with_a_field_that_is_not_known_is_not_given_away() -> None:
    decision = decide([claim(request())], slices=[pool(card("a", compatibilityGroups=["x"]))])
    assert reasons(decision) == {"a": "NotSupported"}


@pytest.mark.parametrize(
    "broken", [{"spec": {"devices": {"requests": [{}]}}}, {"spec": [1]}, claim(request(count=-1))]
)
def test_a_claim_that_cannot_be_read_is_refused(broken: Any) -> None:
    assert refused(decide([broken], slices=[])) == "InvalidClaim"


def test_more_than_32_devices_for_a_claim_are_too_many() -> None:
    assert refused(decide([claim(request(count=33))], slices=[])) == "TooManyDevices"


def test_an_incomplete_pool_gives_nothing_and_says_so() -> None:
    half = pool(exclusive("a"))
    half["spec"]["pool"]["resourceSliceCount"] = 2
    assert refused(decide([claim(request())], slices=[half])) == "NoDevice"
    assert reasons(decide([claim(request())], slices=[half])) == {"a": "PoolIncomplete"}
    assert refused(decide([claim(request(allocationMode="All"))], slices=[half])) == "PoolIncomplete"


def test_a_pool_that_contradicts_itself_gives_nothing_and_others_go_on() -> None:
    double = pool(exclusive("a"), exclusive("a"), name="p1")
    assert refused(decide([claim(request())], slices=[double])) == "PoolInvalid"
    assert given(decide([claim(request())], slices=[double, pool(exclusive("b"), name="p2")])) == ["b"]


def test_a_slice_with_an_unreadable_quantity_makes_its_pool_invalid_and_no_other() -> None:
    broken = pool(exclusive("a", capacity={"memory": {"value": "lots"}}), name="p1")
    assert given(decide([claim(request())], slices=[broken, pool(exclusive("b"), name="p2")])) == ["b"]


@pytest.mark.parametrize(
    "broken",
    [
        {"metadata": {"name": "x"}},
        {"metadata": {"name": "x"}, "spec": {"driver": 3, "pool": {"name": "p"}}},
        {"metadata": {"name": "x"}, "spec": {"driver": DRIVER, "pool": {"name": "p", "generation": "1"}}},
    ],
)
def test_what_is_no_slice_at_all_is_named_and_holds_up_nothing(broken: dict[str, Any]) -> None:
    snapshot = Snapshot.build(slices=[broken, pool(exclusive("a"))], classes=[device_class()])
    assert [one.field for one in snapshot.problems] == ["ResourceSlice x"]
    assert given(allocate(snapshot, node=NODE, claims=[claim(request())])) == ["a"]
    assert snapshot.with_slices(removed=["x"]).problems == ()


SELECTOR_WITHOUT_OPERATOR = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone"}]}]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"skipNodeOperations": ["*"]}, "the field skipNodeOperations is not supported yet"),
        ({"devices": ["a"]}, "cannot be read"),
        ({"devices": [{"name": ["a"]}]}, "is no name of a device"),
        ({"devices": [exclusive("a", bindingConditions="ready")]}, "bindingConditions of device 'a'"),
        ({"nodeName": None, "nodeSelector": SELECTOR_WITHOUT_OPERATOR}, "cannot be read: 'operator'"),
    ],
)
def test_a_slice_with_a_part_that_cannot_be_read_makes_its_pool_invalid_and_no_other(
    more: dict[str, Any], message: str
) -> None:
    broken = pool(name="p1", **more)
    snapshot = Snapshot.build(slices=[broken], classes=[device_class()])
    assert message in snapshot.slices[0].problem
    assert given(decide([claim(request())], slices=[broken, pool(exclusive("b"), name="p2")])) == ["b"]


def test_a_device_of_a_compatibility_group_is_not_given_away() -> None:
    drawing = {"counterSet": "s", "counters": {"c": {"value": "1"}}, "compatibilityGroups": ["x"]}
    sets = pool(slice_name="sets", sharedCounters=[{"name": "s", "counters": {"c": {"value": "1"}}}])
    del sets["spec"]["devices"]
    listed = pool(exclusive("a", consumesCounters=[drawing]))
    for one in (sets, listed):
        one["spec"]["pool"]["resourceSliceCount"] = 2
    assert reasons(decide([claim(request())], slices=[sets, listed], release="1.37")) == {"a": "NotSupported"}


@pytest.mark.parametrize("spec", [{"selectors": [1]}, {"selectors": [{"cel": None}]}, {"config": 1}, [1]])
def test_a_class_that_cannot_be_read_holds_up_only_those_who_use_it(spec: Any) -> None:
    broken = {"metadata": {"name": "broken"}, "spec": spec}
    slices = [pool(exclusive("a"))]
    decision = decide([claim(request(deviceClassName="broken"))], slices=slices, classes=[broken])
    assert refused(decision) == "NotSupported"
    assert decision.refusal is not None
    assert decision.refusal.field == "DeviceClass broken"
    assert given(decide([claim(request())], slices=slices, classes=[broken])) == ["a"]


def test_an_allocation_that_cannot_be_read_stops_everything_by_name() -> None:
    claim_x = {"metadata": {"name": "x"}, "status": {"allocation": {"devices": {"results": [{}]}}}}
    with pytest.raises(InvalidInputError, match="ResourceClaim x"):
        Snapshot.build(slices=[], classes=[], claims=[claim_x])


def test_requests_that_each_fit_but_not_together_are_told_apart() -> None:
    wanted = [request(name, selectors=[f'device.driver == "{DRIVER}"']) for name in ("one", "two")]
    decision = decide([claim(*wanted)], slices=[pool(exclusive("a"))])
    assert refused(decision) == "NoCombination"
    assert decision.refusal is not None
    assert decision.refusal.request == "two"
    assert reasons(decision) == {"a": "TakenByPod"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"count": True}, "a count of true means nothing"),
        ({"allocationMode": True}, "allocation mode true is not supported yet"),
        ({"capacity": {"requests": {"cores": True}}}, "'true' is not a quantity"),
        ({"capacity": {"requests": {"memory": None}}}, "'null' is not a quantity"),
    ],
)
def test_what_a_request_says_is_shown_in_the_words_of_yaml(more: dict[str, Any], message: str) -> None:
    decision = decide([claim(request(**more))], slices=[pool(card("a"))])
    assert decision.refusal is not None
    assert message in decision.refusal.message


def test_attributes_that_differ_are_shown_in_the_words_of_yaml() -> None:
    devices = [exclusive(name, attributes={"nvlink": {"bool": name == "a"}}) for name in ("a", "b")]
    decision = decide(
        [claim(request(count=2), constraints=[{"matchAttribute": f"{DRIVER}/nvlink"}])],
        slices=[pool(*devices)],
    )
    assert "nvlink is false, but must match true" in str(decision.refusal)


def test_all_devices_that_a_constraint_keeps_apart_are_refused() -> None:
    same = {"attributes": {"model": {"string": "x"}}}
    decision = decide(
        [claim(request(allocationMode="All"), constraints=[{"distinctAttribute": f"{DRIVER}/model"}])],
        slices=[pool(exclusive("a", **same), exclusive("b", **same))],
    )
    assert refused(decision) == "AllConstraintUnmet"


def test_a_class_with_a_part_that_is_not_supported_yet_is_refused_by_name() -> None:
    decision = decide(
        [claim(request(deviceClassName="new"))],
        slices=[pool(card("a"))],
        classes=[device_class("new", suitability="x")],
    )
    assert refused(decision) == "NotSupported"


def test_a_search_that_would_explode_is_given_up_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.allocation.search.MAX_STEPS", 20_000)
    # Cards and amounts that are all different: whether they can be packed is hard to say for anybody.
    slices = [pool(*(card(f"card-{number}", memory=f"{100 + 7 * number}Gi") for number in range(12)))]
    claims = [
        claim(request(ask={"memory": f"{31 + 2 * number}Gi"}), name=f"c{number}") for number in range(36)
    ]
    decision = decide(claims, slices=slices)
    assert refused(decision) == "SearchLimit"
    assert decision.refusal is not None
    assert decision.refusal.remedy


def test_what_no_device_can_meet_is_found_before_the_search() -> None:
    slices = [pool(*(card(f"card-{number}") for number in range(16)))]
    claims = [claim(request(ask={"memory": "41Gi"}), name=f"c{number}") for number in range(8)]
    decision = decide([*claims, claim(request(ask={"memory": "81Gi"}), name="last")], slices=slices)
    assert refused(decision) == "NoDevice"
    assert decision.steps == 0


def test_a_held_share_of_a_card_that_is_exclusive_by_now_keeps_it() -> None:
    first = decide([claim(request(ask={"memory": "1Gi"}))], slices=[pool(card("a"))])
    held = [allocated(claim(request()), first)]
    assert reasons(decide([claim(request())], slices=[pool(exclusive("a"))], held=held)) == {"a": "InUse"}


def test_waiting_helps_only_where_something_can_be_released() -> None:
    slices = [pool(card("a"))]
    share = {"request": "r", "driver": DRIVER, "pool": NODE, "device": "a", "shareID": "s"}
    held = [
        {
            "status": {
                "allocation": {"devices": {"results": [share | {"consumedCapacity": {"memory": "60Gi"}}]}}
            }
        }
    ]
    full = decide([claim(request(ask={"memory": "40Gi"}))], slices=slices, held=held)
    small = decide([claim(request(ask={"memory": "81Gi"}))], slices=slices, held=held)
    assert full.refusal is not None
    assert full.refusal.retriable
    assert small.refusal is not None
    assert not small.refusal.retriable
