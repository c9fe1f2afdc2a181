"""What somebody hostile, or an API server in trouble, can do to the allocator: little."""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
from typing import Any

import pytest

from controller.allocating.turns import FACTOR, FREE_S
from controller.allocating.views import claim_view
from controller.allocating.waiting import TURN
from driver.api.share_allocation import GivenShare, config_entry
from driver.kube.client import ApiError, error_for
from tests.controller.allocating.world import World

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def whole_card(**spec: Any) -> dict[str, Any]:
    """A claim that holds all of a card, as kube-scheduler gives out what cannot be shared."""
    result = {"request": "gpu", "driver": "dragoman.dev", "pool": "n1/dragoman", "device": "card-0"}
    return {
        "metadata": {"name": "c", "namespace": "default", "uid": "uid-c"},
        "spec": {"devices": {"requests": [{"name": "gpu"}], **spec}},
        "status": {"allocation": {"devices": {"results": [result]}}},
    }


def brought(memory: str) -> dict[str, Any]:
    share = GivenShare(request="gpu", pool="n1/dragoman", device="card-0", memory=memory, cores="0")
    return config_entry([share])


@pytest.mark.parametrize("memory", ["1Mi", "a lot", "1e5000", "-1Gi"])
async def test_a_claim_that_brought_a_share_allocation_holds_the_whole_card_in_the_books(memory: str) -> None:
    world = World()
    found = whole_card(config=[brought(memory)])
    found["status"]["allocation"]["devices"]["config"] = [brought(memory)]
    world.store(found)
    assert not claim_view(found).ours
    world.ask("p", "100Mi")
    await world.reconcile("p")
    assert world.allocation("p") is None
    assert world.reason() == "NoDevice"


@pytest.mark.parametrize("memory", ["a lot", "1e5000", "-1Gi"])
async def test_an_amount_that_cannot_be_read_is_a_whole_card_and_stops_no_decision(memory: str) -> None:
    world = World(nodes=("n1", "n2"))
    found = whole_card()
    found["status"]["allocation"]["devices"]["results"][0] |= {
        "shareID": "6c1f2b0e-0000-0000-0000-000000000001",
        "consumedCapacity": {"memory": memory, "cores": "0"},
    }
    world.store(found)
    world.ask("p", "100Mi")
    await world.reconcile("p")
    assert world.node_of("p") == "n2"


async def test_while_the_server_does_not_answer_those_who_wait_ask_it_together() -> None:
    world = World()
    for number in range(50):
        world.ask(f"p{number}")
    world.refuse = lambda request: error_for(429, message="slowly") if request.method == "GET" else None
    for number in range(50):
        with pytest.raises(ApiError):
            await world.reconcile(f"p{number}")
    assert len(world.transport.requests) == 1
    world.refuse = lambda _request: None
    await asyncio.sleep(1)
    await world.reconcile("p0")
    assert world.allocation("p0")


class Costly(World):
    """A world in which each decision takes as much processor time as a test says."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        books, place = self.part.books, self.part.books.place

        async def costly(*claims: Any, **more: Any) -> Any:
            try:
                return await place(*claims, **more)
            finally:
                books.took_s = seconds

        books.place = costly  # type: ignore[method-assign]

    def pod_of(self, namespace: str, name: str, *claims: str) -> None:
        entries = [{"name": one, "resourceClaimName": one} for one in claims]
        metadata = {"name": name, "namespace": namespace, "uid": f"pod-{namespace}-{name}"}
        self._put(self.pods, {"metadata": metadata, "spec": {"containers": [{}], "resourceClaims": entries}})


async def test_a_namespace_whose_pods_cost_much_and_get_nothing_rests_while_others_wait() -> None:
    world = Costly(FREE_S)
    world.pod_of("other", "waits", "missing")
    for name in ("a", "b"):
        world.ask(name, "5000Mi")
    await world.reconcile("a")
    assert world.reason() == "NoDevice"
    world.answers.clear()
    await world.reconcile("b")
    assert world.answers == []
    await asyncio.sleep(FREE_S * FACTOR + 0.01)
    await world.part.reconcile(f"{TURN}default")
    await world.reconcile("b")
    assert world.reason() == "NoDevice"


async def test_pods_that_rest_come_back_in_the_order_in_which_they_should_be_tried() -> None:
    world = Costly(FREE_S)
    world.pod_of("other", "waits", "missing")
    world.ask("first", "5000Mi", priority=10)
    for name in ("c", "b", "a"):
        world.ask(name, "5000Mi", priority={"a": 3, "b": 2, "c": 1}[name])
    await world.reconcile("first", "c", "b", "a")
    assert world.part.allocator.waiting.refused_pods("default") == [
        "pod/default/first",
        "pod/default/a",
        "pod/default/b",
        "pod/default/c",
    ]
    assert world.part.allocator.waiting.refused_pods("other") == []


@pytest.mark.parametrize("alone", [True, False])
async def test_nobody_rests_who_waits_alone_or_costs_little(alone: bool) -> None:
    world = Costly(FREE_S if alone else FREE_S / 10)
    if not alone:
        world.pod_of("other", "waits", "missing")
    for name in ("a", "b"):
        world.ask(name, "5000Mi")
    await world.reconcile("a")
    world.answers.clear()
    await world.reconcile("b")
    assert world.reason() == "NoDevice"


async def test_claims_of_a_pod_that_do_not_fit_beside_each_other_are_decided_together_anew() -> None:
    """The first was stored, the write of the second failed, and what was left for it went to another pod."""
    world = World(nodes=("n1", "n2"))
    world.claim("one", "600Mi")
    world.claim("two", "300Mi")
    world.pod("p", "one", "two")
    world.refuse = lambda request: (
        error_for(422, message="no") if request.method == "PUT" and "/two" in request.path else None
    )
    with pytest.raises(ApiError):
        await world.reconcile("p")
    assert (world.node_of("one"), world.node_of("two")) == ("n1", "")
    world.refuse = lambda _request: None
    world.ask("other", "400Mi")
    await world.reconcile("other")
    assert world.node_of("other") == "n1"
    await asyncio.sleep(61)
    await world.reconcile("p")
    await world.part.reconcile("claim/default/one")
    assert world.node_of("one") == "n1"
    await asyncio.sleep(61)
    await world.part.reconcile("claim/default/one")
    assert world.node_of("one") == ""
    await world.reconcile("p")
    assert (world.node_of("one"), world.node_of("two")) == ("n2", "n2")


async def test_a_claim_that_another_pod_is_about_to_start_with_is_not_taken_back() -> None:
    world = World()
    world.claim("shared", "600Mi")
    world.claim("large", "600Mi")
    world.pod("a", "shared")
    await world.reconcile("a")
    world.pod("b", "shared", "large")
    await world.reconcile("b")
    await asyncio.sleep(300)
    await world.part.reconcile("claim/default/shared")
    assert world.node_of("shared") == "n1"


async def test_a_class_that_does_not_exist_is_told_by_name_and_is_not_taken_for_anothers() -> None:
    world = World()
    missing = {"name": "x", "exactly": {"deviceClassName": "missing", "count": 1}}
    world.claim("c", more=(missing,))
    world.pod("p", "c")
    await world.reconcile("p")
    assert world.reason() == "DeviceClassNotFound"


async def test_writing_what_changes_nothing_brings_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.ask("p", "5000Mi")
    added: list[str] = []
    monkeypatch.setattr(world.part.queue, "add", lambda key, **_: added.append(key))
    for number in range(3):
        claim = copy.deepcopy(world.stored["p"])
        claim["metadata"]["annotations"] = {"touched": str(number)}
        world.store(claim)
        world.pod("p", "p", status={"message": str(number)})
    assert added == []
    world.take_back("p")
    assert added == []
    world.pod("p", "p", priority=7)
    assert added == ["pod/default/p"]


async def test_a_claim_whose_pods_all_wait_for_something_else_is_taken_back() -> None:
    world = World()
    world.claim("shared", "600Mi")
    world.claim("large", "600Mi")
    world.pod("a", "shared")
    await world.reconcile("a")
    for name in ("a", "b"):
        world.pod(name, "shared", "large")
    await world.reconcile("a", "b")
    await asyncio.sleep(61)
    await world.part.reconcile("claim/default/shared")
    assert world.node_of("shared") == ""


async def test_a_node_affinity_that_takes_long_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.ask("waits", "5000Mi")
    used: list[float] = []
    monkeypatch.setattr(world.part._turns, "used", lambda _namespace, seconds, **_: used.append(seconds))
    ticks = itertools.count(step=3)
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))
    world.ask("p", nodeSelector={"disk": "ssd"})
    await world.reconcile("p")
    assert world.reason() == "NoNode"
    assert used == [3.0]


async def test_what_has_to_be_read_for_a_pod_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.claim("long", "5000Mi", selectors=[f'device.driver != "{number:0>900}"' for number in range(6)])
    world.pod("p", "long")
    used: list[float] = []
    monkeypatch.setattr(world.part._turns, "used", lambda _namespace, seconds, **_: used.append(seconds))
    allocator = world.part.allocator
    read = allocator._reading.long_texts

    async def slowly(*arguments: Any) -> Any:
        await asyncio.sleep(2)
        return await read(*arguments)

    monkeypatch.setattr(allocator._reading, "long_texts", slowly)
    await world.reconcile("p")
    assert used[0] >= 2
