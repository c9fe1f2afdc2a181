"""The search tries nothing twice that is alike, and answers as if it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import settings, target
from hypothesis import strategies as st

from driver.allocation import (
    Decision,
    Features,
    InUse,
    Preference,
    Profile,
    Snapshot,
    error_kind,
    gather,
    prepare,
)
from driver.allocation.attempt import Attempt
from driver.allocation.models import Device
from driver.allocation.requests import Option
from driver.errors import AllocationError
from tests.driver.allocation.builders import (
    DRIVER,
    NODE,
    card,
    claim,
    decide,
    device_class,
    exclusive,
    given,
    pool,
    request,
)

NUMA = "resource.kubernetes.io/numaNode"
IMPOSSIBLE = request("none", selectors=['device.attributes["dragoman.dev"].vendor == "none"'])


def sixteen(**more: Any) -> list[dict[str, Any]]:
    return [pool(*(card(f"card-{number:02}", **more) for number in range(16)))]


def steps(decision: Decision) -> int:
    assert decision.refusal is not None
    assert decision.refusal.reason in {"NoDevice", "NoCombination"}
    return decision.steps


@pytest.mark.parametrize("counts", [(8,), (2, 2), (4, 4), (5, 3, 4)])
def test_what_no_device_can_meet_is_found_before_the_search(counts: tuple[int, ...]) -> None:
    requests = [request(f"r{number}", count=count) for number, count in enumerate(counts)]
    assert steps(decide([claim(*requests, IMPOSSIBLE)], slices=sixteen())) == 0


@pytest.mark.parametrize("counts", [(8,), (2, 2), (4, 4), (5, 3, 4)])
def test_equal_cards_are_not_permuted_before_a_request_that_only_the_pod_itself_makes_impossible(
    counts: tuple[int, ...],
) -> None:
    whole = [request(f"r{number}", count=count) for number, count in enumerate(counts)]
    rest = request("rest", count=17 - sum(counts))
    assert steps(decide([claim(*whole, rest)], slices=sixteen())) < 600


def test_four_one_card_claims_before_an_impossible_fifth_are_few_steps() -> None:
    claims = [claim(request(), name=f"c{number}") for number in range(4)]
    last = claim(request(count=13), name="last")
    assert steps(decide([*claims, last], slices=sixteen())) < 200


def test_six_half_card_claims_are_few_steps() -> None:
    claims = [claim(request(ask={"memory": "40Gi"}), name=f"c{number}") for number in range(6)]
    last = claim(request(count=14), name="last")
    assert steps(decide([*claims, last], slices=sixteen())) < 400


def test_claims_that_differ_on_cards_of_two_kinds_are_few_steps() -> None:
    cards = [card(f"a-{number}") for number in range(8)]
    cards += [card(f"b-{number}", memory="120Gi") for number in range(8)]
    claims = [
        claim(request(ask={"memory": f"{41 + number % 3}Gi"}), name=f"c{number}") for number in range(20)
    ]
    last = claim(request(count=12), name="last")
    assert steps(decide([*claims, last], slices=[pool(*cards)])) < 25_000


def test_cards_that_differ_by_a_serial_number_only_are_alike_even_where_that_must_be_distinct() -> None:
    wanted = claim(
        *(request(f"r{number}", count=2, ask={"memory": "1Gi"}) for number in range(4)),
        request("rest", count=9, ask={"memory": "1Gi"}),
        constraints=[{"distinctAttribute": f"{DRIVER}/uuid"}],
    )
    assert steps(decide([wanted], slices=sixteen())) < 600


def test_a_claim_that_cannot_be_met_by_itself_is_not_tried_after_each_choice_for_the_others() -> None:
    # All cards differ, and any two on one NUMA node are of one model.
    cards = [
        card(
            f"card-{number:02}",
            memory=f"{100 + number}Gi",
            attributes={NUMA: {"int": number % 5}, "model": {"string": f"m{number % 5}"}},
        )
        for number in range(20)
    ]
    contradiction = [{"matchAttribute": NUMA}, {"distinctAttribute": f"{DRIVER}/model"}]
    claims = [claim(request(count=4), name=f"c{number}") for number in range(3)]
    last = claim(request(count=2, ask={"memory": "1Gi"}), constraints=contradiction, name="last")
    assert steps(decide([*claims, last], slices=[pool(*cards)])) < 3_000


def test_partitions_of_equal_cards_are_alike() -> None:
    counters = {
        "metadata": {"name": "counters"},
        "spec": {
            "driver": DRIVER,
            "nodeName": NODE,
            "pool": {"name": NODE, "generation": 1, "resourceSliceCount": 2},
            "sharedCounters": [
                {"name": f"card-{number}", "counters": {"memory": {"value": "40Gi"}}} for number in range(4)
            ],
        },
    }
    devices = [
        exclusive(
            f"card-{number}-part-{part}",
            consumesCounters=[{"counterSet": f"card-{number}", "counters": {"memory": {"value": "10Gi"}}}],
        )
        for number in range(4)
        for part in range(5)
    ]
    parts = pool(*devices)
    parts["spec"]["pool"]["resourceSliceCount"] = 2
    wanted = claim(*(request(f"r{number}", count=5) for number in range(2)), request("rest", count=6))
    given(decide([wanted], slices=[counters, parts]))
    again = claim(request("rest"), name="again")
    assert steps(decide([wanted, again], slices=[counters, parts])) < 4_000


# Small worlds of a few kinds of devices, each several times, in any order: what is alike is mixed with what
# is not, and most questions fail only after something was tried.
RAISES = 'device.attributes["dragoman.dev"].maybe == 1'
ONLY_X = 'device.attributes["dragoman.dev"].model == "x"'


def mostly(usual: Any, *others: Any, times: int = 6) -> st.SearchStrategy[Any]:
    return st.sampled_from([*[usual] * times, *others])


KINDS = st.fixed_dictionaries(
    {
        "shared": st.booleans(),
        "memory": st.sampled_from(["2Gi", "4Gi"]),
        "model": st.sampled_from(["x", "y"]),
        "numa": st.sampled_from([0, 0, 1, 1, 1, 2, None]),
        "links": st.sampled_from([["a"], ["a", "b"], ["b", "c"]]),
        "tainted": mostly(False, True, times=20),
        "part": mostly(None, "card-0", "card-1", times=8),
        "held": mostly(None, "1Gi", times=12),
    }
)
OPTIONS = st.fixed_dictionaries(
    {
        "count": st.sampled_from([1, 2, 2, 2, 3]),
        "memory": st.sampled_from(["1Gi", "2Gi", "2Gi", "3Gi"]),
        "selector": mostly(None, ONLY_X, ONLY_X, ONLY_X, RAISES, times=30),
        "all": mostly(False, True, times=30),
        "admin": mostly(False, True, times=20),
    }
)
REQUESTS = st.lists(st.lists(OPTIONS, min_size=1, max_size=2), min_size=1, max_size=2)
CONSTRAINTS = st.lists(
    st.tuples(
        st.sampled_from(["matchAttribute", "distinctAttribute"]),
        st.sampled_from([NUMA, NUMA, f"{DRIVER}/uuid", f"{DRIVER}/links", f"{DRIVER}/model"]),
    ),
    max_size=1,
)
CLAIMS = st.lists(st.tuples(REQUESTS, CONSTRAINTS), min_size=1, max_size=2)
WORLDS = st.lists(KINDS, min_size=1, max_size=3).flatmap(
    lambda kinds: st.lists(st.sampled_from(kinds), min_size=3, max_size=7)
)


def build_device(drawn: dict[str, Any], name: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "model": {"string": drawn["model"]},
        "uuid": {"string": name},
        "links": {"strings": drawn["links"]},
    }
    if drawn["numa"] is not None:
        attributes[NUMA] = {"int": drawn["numa"]}
    more: dict[str, Any] = {"attributes": attributes}
    if drawn["tainted"]:
        more["taints"] = [{"key": "k", "effect": "NoSchedule"}]
    if drawn["part"]:
        more["consumesCounters"] = [
            {"counterSet": drawn["part"], "counters": {"memory": {"value": drawn["memory"]}}}
        ]
    if drawn["shared"]:
        return card(name, memory=drawn["memory"], **more)
    return {"name": name, "capacity": {"memory": {"value": drawn["memory"]}}, **more}


def build_slices(drawn: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    devices, held = [], []
    for number, one in enumerate(drawn):
        name = f"d{number}"
        devices.append(build_device(one, name))
        if one["held"]:
            result: dict[str, Any] = {"request": "r", "driver": DRIVER, "pool": NODE, "device": name}
            if one["shared"]:
                result |= {"shareID": "s", "consumedCapacity": {"memory": one["held"], "cores": "0"}}
            held.append({"status": {"allocation": {"devices": {"results": [result]}}}})
    listed = pool(*devices)
    listed["spec"]["pool"]["resourceSliceCount"] = 2
    counters = pool(slice_name="counters")
    counters["spec"] |= {
        "pool": listed["spec"]["pool"],
        "sharedCounters": [
            {"name": name, "counters": {"memory": {"value": "4Gi"}}} for name in ("card-0", "card-1")
        ],
    }
    del counters["spec"]["devices"]
    return [listed, counters], held


def build_option(drawn: dict[str, Any]) -> dict[str, Any]:
    option: dict[str, Any] = {"deviceClassName": "any"}
    if drawn["all"]:
        option["allocationMode"] = "All"
    else:
        option["count"] = drawn["count"]
    if drawn["memory"]:
        option["capacity"] = {"requests": {"memory": drawn["memory"]}}
    if drawn["selector"]:
        option["selectors"] = [{"cel": {"expression": drawn["selector"]}}]
    return option


def build_claim(requests: list[list[dict[str, Any]]], constraints: list[tuple[str, str]], name: str) -> Any:
    built: list[dict[str, Any]] = []
    for number, options in enumerate(requests):
        if len(options) == 1:
            exactly = build_option(options[0])
            if options[0]["admin"]:
                exactly["adminAccess"] = True
            built.append({"name": f"r{number}", "exactly": exactly})
        else:
            subs = [{"name": f"s{place}", **build_option(one)} for place, one in enumerate(options)]
            built.append({"name": f"r{number}", "firstAvailable": subs})
    return claim(*built, name=name, constraints=[{kind: attribute} for kind, attribute in constraints])


class Backwards:
    """Prefers the last devices for every second request."""

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        assert in_use is not None
        return list(reversed(devices)) if "r1" in option.label else devices


def attempted(attempt: Attempt) -> tuple[list[tuple[int, str, str]], str]:
    """What was chosen, or why nothing was."""
    try:
        chosen = attempt.run()
    except AllocationError as error:
        refusal = attempt.refusal(error)
        return [], "SearchLimit" if refusal.reason == "SearchLimit" else str(error_kind(refusal))
    return [(one.claim, one.option.label, one.device.id.device) for one in chosen], ""


@settings(max_examples=200, deadline=None)
@generated(
    devices=WORLDS,
    drawn=CLAIMS,
    lists=st.booleans(),
    preference=st.sampled_from([None, Backwards()]),
    release=st.sampled_from(["1.36", "1.37"]),
)
def test_shortcuts_change_neither_the_answer_nor_the_error(
    devices: list[dict[str, Any]],
    drawn: list[tuple[list[list[dict[str, Any]]], list[tuple[str, str]]]],
    lists: bool,
    preference: Preference | None,
    release: str,
) -> None:
    slices, held = build_slices(devices)
    snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=held)
    names = [
        "adminAccess",
        "consumableCapacity",
        "deviceBindingAndStatus",
        "deviceTaints",
        "partitionableDevices",
        "prioritizedList",
    ]
    profile = Profile.of(release, Features.named([*names, "listTypeAttributes"] if lists else names))
    claims = [
        build_claim(requests, constraints, f"c{place}") for place, (requests, constraints) in enumerate(drawn)
    ]
    prepared = prepare(claims, classes=snapshot.classes, profile=profile)
    node = snapshot.node(NODE)
    pools = gather(snapshot, node, profile)
    short, long = (
        Attempt(
            prepared,
            node=node,
            pools=pools,
            in_use=snapshot.in_use,
            preference=preference,
            shortcuts=shortcuts,
        )
        for shortcuts in (True, False)
    )
    with pytest.MonkeyPatch.context() as patch:
        # So that small worlds are long searches, which are looked at in parts.
        patch.setattr("driver.allocation.search._LONG", 15)
        found, exhaustive = attempted(short), attempted(long)
    # Questions that take a real search are what this is about.
    target(float(long.steps if exhaustive[0] else 0))
    if exhaustive[1] != "SearchLimit":
        assert found == exhaustive
