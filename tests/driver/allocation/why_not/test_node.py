"""One node, card by card."""

from __future__ import annotations

import json
from typing import Any

from driver.allocation import Snapshot
from driver.allocation.cluster import Cluster
from driver.allocation.why_not import CardAnswer, why_not_on
from tests.driver.allocation.builders import card, claim, device_class, exclusive, pool, request

JSON = dict[str, Any]


def ask(claim_: JSON, *slices: JSON, held: Any = ()) -> dict[str, tuple[str, str]]:
    snapshot = Snapshot.build(slices=slices, classes=[device_class()], claims=held)
    answers = why_not_on(snapshot, node="n1", claims=[claim_])
    assert why_not_on(Cluster.build(snapshot), node="n1", claims=[claim_]) == answers
    return {one.device: (one.reason, one.text) for one in answers}


def n1(*cards: JSON, **more: Any) -> JSON:
    return pool(*cards, node="n1", **more)


def share(device: str, memory: str) -> JSON:
    result = {
        "request": "r",
        "driver": "dragoman.dev",
        "pool": "n1",
        "device": device,
        "shareID": "s",
        "consumedCapacity": {"memory": memory, "cores": "0"},
    }
    return {"metadata": {"name": "h"}, "status": {"allocation": {"devices": {"results": [result]}}}}


def test_each_card_has_its_own_reason_and_figures() -> None:
    tainted = card("c", taints=[{"key": "k", "effect": "NoSchedule"}])
    cards = [card("a"), card("b", memory="24Gi"), tainted, exclusive("d")]
    wanted = claim(request(selectors=["device.allowMultipleAllocations"], ask={"memory": "40Gi"}))
    assert ask(wanted, n1(*cards), held=[share("a", "50Gi")]) == {
        "a": ("CapacityInUse", "memory: asks 40Gi, free 30Gi of 80Gi"),
        "b": ("CapacityTooSmall", "memory: asks 40Gi, the card has 24Gi"),
        "c": ("Tainted", "taint k:NoSchedule is not tolerated"),
        "d": (
            "SelectorFalse",
            "device.allowMultipleAllocations is false (allowMultipleAllocations is false)",
        ),
    }


def test_a_card_that_would_do_has_no_reason_though_there_are_too_few() -> None:
    found = ask(claim(request(ask={"memory": "40Gi"}, count=2)), n1(card("a"), card("b", memory="1Gi")))
    assert found["a"] == ("", "")
    assert found["b"][0] == "CapacityTooSmall"


def test_cards_of_pools_that_cannot_be_used_are_listed_too() -> None:
    missing = n1(card("x"), name="p", pool={"name": "p", "generation": 1, "resourceSliceCount": 2})
    found = ask(claim(request(ask={"memory": "90Gi"})), n1(card("a")), missing)
    assert found["x"] == ("PoolIncomplete", "slices of its pool are missing")
    assert found["a"][0] == "CapacityTooSmall"


def test_where_requests_do_not_fit_together_it_is_the_search_that_says_why() -> None:
    found = ask(claim(request("x"), request("y")), n1(exclusive("a")))
    assert found == {"a": ("TakenByPod", "another request of the pod has it")}


def test_where_the_claims_fit_or_cannot_be_read_no_card_is_to_blame() -> None:
    assert ask(claim(request(ask={"memory": "1Gi"})), n1(card("a"))) == {"a": ("", "")}
    assert ask(claim(request(deviceClassName="ghost")), n1(card("a"))) == {"a": ("", "")}


def test_a_node_without_cards_has_no_answers() -> None:
    assert ask(claim(request())) == {}


def test_an_answer_is_json() -> None:
    answer = CardAnswer(driver="d", pool="p", device="x", reason="InUse", passing=True)
    assert json.loads(json.dumps(answer.to_json()))["passing"] is True
