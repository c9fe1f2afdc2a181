"""What the API would not have stored is refused by object and field, and holds up nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from driver.allocation import Decision
from driver.allocation.claims import parse_claim
from driver.errors import AllocationError
from tests.driver.allocation.builders import (
    DRIVER,
    card,
    claim,
    decide,
    exclusive,
    given,
    pool,
    request,
)

REQUESTS = "default/c: spec.devices.requests"


def refusal(decision: Decision) -> tuple[str, str]:
    assert decision.refusal is not None
    assert decision.refusal.message
    return decision.refusal.reason, decision.refusal.field


def option(**more: Any) -> dict[str, Any]:
    return {"deviceClassName": "any", **more}


def subs(count: int) -> list[dict[str, Any]]:
    return [option(name=f"s{number}") for number in range(count)]


def configs(count: int, size: int = 1) -> list[dict[str, Any]]:
    return [{"opaque": {"driver": DRIVER, "parameters": {"a": "x" * size}}} for _ in range(count)]


TOLERATION = {"operator": "Exists"}
TOO_LARGE = [
    (claim(*(request(f"r{number}") for number in range(33))), REQUESTS),
    (claim({"name": "r", "firstAvailable": subs(9)}), f"{REQUESTS}[0].firstAvailable"),
    (claim(request(selectors=["true"] * 33)), f"{REQUESTS}[0].exactly.selectors"),
    (claim(request(tolerations=[TOLERATION] * 17)), f"{REQUESTS}[0].exactly.tolerations"),
    (
        claim(request(selectors=["true", f"{'x' * 10240} == 1"])),
        f"{REQUESTS}[0].exactly.selectors[1].cel.expression",
    ),
    (
        claim({"name": "r", "firstAvailable": [option(name="s", tolerations=[TOLERATION] * 17)]}),
        f"{REQUESTS}[0].firstAvailable[0].tolerations",
    ),
    (
        claim(request(), constraints=[{"matchAttribute": f"{DRIVER}/uuid"}] * 33),
        "default/c: spec.devices.constraints",
    ),
    (
        claim(request(), constraints=[{"matchAttribute": f"{DRIVER}/uuid", "requests": ["r"] * 33}]),
        "default/c: spec.devices.constraints[0].requests",
    ),
    (claim(request(), config=configs(33)), "default/c: spec.devices.config"),
    (
        claim(request(), config=configs(1, size=10240)),
        "default/c: spec.devices.config[0].opaque.parameters",
    ),
]


@pytest.mark.parametrize(("wanted", "field"), TOO_LARGE, ids=[field for _, field in TOO_LARGE])
def test_a_claim_over_the_apis_limits_is_refused_by_its_field(wanted: dict[str, Any], field: str) -> None:
    assert refusal(decide([wanted], slices=[pool(card("a"))])) == ("OverLimit", field)


def test_a_claim_at_the_apis_limits_is_answered() -> None:
    expression = f"{'true || ' * 1279}true"
    wanted = claim(
        *(request(f"r{number}", tolerations=[TOLERATION] * 16) for number in range(31)),
        request("last", selectors=["true"] * 31 + [expression[:10240]]),
        constraints=[{"matchAttribute": f"{DRIVER}/vendor"}] * 32,
        config=configs(32, size=10000),
    )
    cards = [card(f"card-{number:02}") for number in range(32)]
    assert len(given(decide([wanted], slices=[pool(*cards)]))) == 32


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"selectors": [{"cel": {"expression": "true"}}] * 33}, "spec.selectors"),
        ({"config": configs(33)}, "spec.config"),
    ],
)
def test_a_class_over_the_apis_limits_is_refused_where_it_is_used(spec: dict[str, Any], field: str) -> None:
    large = {"metadata": {"name": "large"}, "spec": spec}
    slices = [pool(card("a"))]
    decision = decide([claim(request(deviceClassName="large"))], slices=slices, classes=[large])
    assert refusal(decision) == ("NotSupported", "DeviceClass large")
    assert decision.refusal is not None
    assert field in decision.refusal.message
    assert given(decide([claim(request())], slices=slices, classes=[large])) == ["a"]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (claim(request("r"), request("r")), f"{REQUESTS}[1].name"),
        (claim(request(""), request("s")), f"{REQUESTS}[0].name"),
        (claim(request(count=-1)), f"{REQUESTS}[0].exactly.count"),
        (claim(request(count=1, allocationMode="All")), f"{REQUESTS}[0].exactly.count"),
        (claim(request(tolerations=["all"])), f"{REQUESTS}[0].exactly.tolerations[0]"),
        (
            claim(request(), constraints=[{"matchAttribute": "a/b", "requests": ["other"]}]),
            "default/c: spec.devices.constraints[0].requests",
        ),
        (
            claim(request(), constraints=[{"matchAttribute": 1}]),
            "default/c: spec.devices.constraints[0].matchAttribute",
        ),
        (
            claim(request(), config=[{"requests": ["other"], **configs(1)[0]}]),
            "default/c: spec.devices.config[0].requests",
        ),
        ({"metadata": {"name": "c"}, "spec": {"devices": 1}}, "default/c"),
        ({"metadata": {"name": "c"}, "spec": {"devices": {"requests": ["r"]}}}, "default/c"),
    ],
)
def test_a_claim_that_contradicts_itself_is_refused_by_its_field(wanted: dict[str, Any], field: str) -> None:
    assert refusal(decide([wanted], slices=[pool(card("a"))])) == ("InvalidClaim", field)


def test_a_claim_that_is_read_alone_raises_what_is_wrong_with_it() -> None:
    with pytest.raises(AllocationError, match="there is no DeviceClass"):
        parse_claim(claim(request(deviceClassName="nope")), {})


def test_what_a_scheduler_meets_first_is_told_first() -> None:
    """Mode All is resolved before later requests are read, so its error comes before theirs."""
    half = pool(exclusive("a"))
    half["spec"]["pool"]["resourceSliceCount"] = 2
    wanted = claim(request("all", allocationMode="All"), request("r", deviceClassName="nope"))
    assert refusal(decide([wanted], slices=[half]))[0] == "PoolIncomplete"
    assert refusal(decide([wanted], slices=[pool(exclusive("a"))]))[0] == "DeviceClassNotFound"
    either = {
        "name": "f",
        "firstAvailable": [option(name="s", allocationMode="All"), option(name="t", deviceClassName="nope")],
    }
    assert refusal(decide([claim(either)], slices=[half]))[0] == "PoolIncomplete"


def test_an_attribute_of_an_unknown_type_raises_for_its_device_only() -> None:
    odd = exclusive("odd", attributes={"speed": {"float": 1.5}})
    wanted = claim(request(selectors=["true"]))
    assert refusal(decide([wanted], slices=[pool(odd, exclusive("b"))]))[0] == "SelectorFailed"
    assert given(decide([wanted], slices=[pool(exclusive("a"), odd)])) == ["a"]
    assert given(decide([claim(request())], slices=[pool(odd)])) == ["odd"]


def test_counters_that_contradict_each_other_hold_up_their_pool_only() -> None:
    sets = [{"name": "s", "counters": {"c": {"value": "1"}}}]
    drawing = {"consumesCounters": [{"counterSet": "t", "counters": {"c": {"value": "1"}}}]}
    counters = pool(name="p1", slice_name="counters", sharedCounters=sets)
    del counters["spec"]["devices"]
    broken = pool(exclusive("a", **drawing), name="p1")
    for one in (counters, broken):
        one["spec"]["pool"]["resourceSliceCount"] = 2
    decision = decide([claim(request())], slices=[counters, broken])
    assert refusal(decision)[0] == "PoolInvalid"
    assert decision.refusal is not None
    assert "unknown counter set 't'" in decision.refusal.message
    assert given(decide([claim(request())], slices=[counters, broken, pool(exclusive("b"), name="p2")])) == [
        "b"
    ]


def test_a_broken_claim_holds_up_its_own_pod_only() -> None:
    slices = [pool(card("a"))]
    good, bad = claim(request(ask={"memory": "1Gi"})), claim(request(), request(), name="bad")
    assert refusal(decide([good, bad], slices=slices)) == (
        "InvalidClaim",
        "default/bad: spec.devices.requests[1].name",
    )
    assert given(decide([good], slices=slices)) == ["a"]
