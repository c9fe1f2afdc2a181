"""Cards with a fault: what the slices say of them, and what our own allocator makes of that."""

from __future__ import annotations

from typing import Any

import pytest

from driver.allocation import Snapshot, allocate
from driver.cards import Card, Fault, TaintEffect
from driver.slices import MAX_DEVICES_WITH_TAINTS, publication_of, with_generation
from tests.support.node_world import claim

FAULT = Fault(reason="CardLost", message="Lost.", since="2026-01-01T00:00:00Z")


def card(name: str, fault: Fault | None = None) -> Card:
    return Card(name=name, vendor="nvidia", model="A100", memory_bytes=1 << 34, fault=fault)


def devices(*cards: Card, taints: bool = True) -> list[dict[str, Any]]:
    found = publication_of(cards, node="n1", taints=taints)
    return [device for one in found.slices for device in one["spec"]["devices"]]


def fault(effect: TaintEffect) -> Fault:
    return Fault(reason="CardLost", message="Lost.", since="2026-01-01T00:00:00Z", effect=effect)


@pytest.mark.parametrize("effect", [TaintEffect.NO_SCHEDULE, TaintEffect.NO_EXECUTE])
def test_a_fault_is_one_taint_with_its_own_time(effect: TaintEffect) -> None:
    (device,) = devices(card("a", fault(effect)))
    assert device["taints"] == [
        {
            "key": "dragoman.dev/unhealthy",
            "value": "CardLost",
            "effect": effect.value,
            "timeAdded": "2026-01-01T00:00:00Z",
        }
    ]


def test_well_cards_and_faults_that_are_only_told_have_no_taint() -> None:
    assert all("taints" not in one for one in devices(card("a"), card("b", fault(TaintEffect.NONE))))


def test_where_taints_are_dropped_the_card_is_left_out_and_named() -> None:
    found = publication_of([card("a", FAULT), card("b")], node="n1", taints=False)
    assert [one["name"] for one in found.slices[0]["spec"]["devices"]] == ["b"]
    assert found.problems == ("Card a is withdrawn: CardLost.",)


def test_where_taints_are_dropped_a_fault_that_is_only_told_withdraws_nothing() -> None:
    assert len(devices(card("a", fault(TaintEffect.NONE)), taints=False)) == 1


def test_one_taint_makes_all_slices_of_the_node_smaller() -> None:
    cards = [card(f"c-{number:03d}") for number in range(MAX_DEVICES_WITH_TAINTS + 1)]
    assert len(publication_of(cards, node="n1").slices) == 1
    assert len(publication_of([card("a", FAULT), *cards], node="n1").slices) == 2


CLASS = {
    "metadata": {"name": "any"},
    "spec": {"selectors": [{"cel": {"expression": 'device.driver == "dragoman.dev"'}}]},
}


def allocated(*cards: Card, tolerations: list[dict[str, str]] | None = None, fenced: bool) -> Any:
    slices = [with_generation(one, 1) for one in publication_of(cards, node="n1", fenced=fenced).slices]
    labels = {"dragoman.dev/allocated-by": "kube-scheduler"} if fenced else {}
    snapshot = Snapshot.build(
        slices=slices, classes=[CLASS], nodes=[{"metadata": {"name": "n1", "labels": labels}}]
    )
    exactly: dict[str, Any] = {"deviceClassName": "any"}
    if tolerations:
        exactly["tolerations"] = tolerations
    wanted = claim("claim")
    wanted["spec"] = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
    return allocate(snapshot, node="n1", claims=[wanted])


def given(decision: Any) -> list[str]:
    return [one["device"] for one in decision.allocations[0]["devices"]["results"]]


@pytest.mark.parametrize("fenced", [False, True])
def test_the_allocator_gives_a_well_card_rather_than_the_first(fenced: bool) -> None:
    assert given(allocated(card("a", FAULT), card("b"), fenced=fenced)) == ["b"]


@pytest.mark.parametrize("fenced", [False, True])
def test_the_allocator_gives_no_card_with_a_fault_and_names_the_taint(fenced: bool) -> None:
    decision = allocated(card("a", FAULT), fenced=fenced)
    assert decision.allocations is None


@pytest.mark.parametrize(
    ("toleration", "given_out"),
    [
        ({"key": "dragoman.dev/unhealthy", "operator": "Exists"}, True),
        ({"key": "dragoman.dev/unhealthy", "operator": "Equal", "value": "CardLost"}, True),
        ({"key": "dragoman.dev/unhealthy", "operator": "Equal", "value": "RowRemapPending"}, False),
        ({"key": "dragoman.dev/unhealthy", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
@pytest.mark.parametrize("fenced", [False, True])
def test_the_allocator_honours_tolerations_and_writes_them_into_the_result(
    toleration: dict[str, str], given_out: bool, fenced: bool
) -> None:
    decision = allocated(card("a", FAULT), tolerations=[toleration], fenced=fenced)
    assert (decision.allocations is not None) == given_out
    if given_out:
        (result,) = decision.allocations[0]["devices"]["results"]
        assert result["tolerations"] == [toleration]
