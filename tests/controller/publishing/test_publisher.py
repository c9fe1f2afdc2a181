"""What the publisher writes, and when it does not."""

import asyncio
import copy
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.lease import LeadershipLostError
from controller.metrics import Metrics
from controller.mode import ModeState, Verdict
from controller.publishing.publisher import Publisher, Rights
from controller.publishing.stores import Stores
from controller.publishing.taints import AGAIN_S
from controller.publishing.views import NodeView, agent_view, inventory_view, slice_view
from driver.api.node import AgentStatus, status_of
from driver.api.policy import effective_policy
from driver.cards import Card, Fault, TaintEffect
from driver.kube.client import ApiError, KubeClient, error_for
from driver.slices import content_digest
from tests.support.scripted_api import Request, ScriptedTransport

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

POSSIBLE = ModeState(verdict=Verdict.POSSIBLE)
TOO_OLD = ModeState(verdict=Verdict.IMPOSSIBLE, reason="KubernetesTooOld", message="Too old.")
SILENT = ModeState(verdict=Verdict.UNKNOWN, reason="ProbeFailed", message="No answer.")


def _node(document: Any) -> NodeView:
    return NodeView(uid=str(document["metadata"].get("uid") or ""))


class FakeStore:
    """A store without a server behind it: what a test puts in, and what the publisher observes."""

    def __init__(self, project: Any) -> None:
        self.objects: dict[str, Any] = {}
        self.handlers: list[Any] = []
        self.project = project

    def get(self, key: str) -> Any:
        return self.objects.get(key)

    def keys(self) -> list[str]:
        return list(self.objects)

    def values(self) -> Any:
        return iter(self.objects.values())

    def subscribe(self, handler: Any) -> None:
        self.handlers.append(handler)

    def observe(self, document: Any) -> None:
        self.put(document)

    def put(self, document: Any) -> None:
        self._set(document["metadata"]["name"], self.project(document))

    def remove(self, key: str) -> None:
        self._set(key, None)

    def _set(self, key: str, view: Any) -> None:
        before = self.objects.pop(key, None)
        if view is not None:
            self.objects[key] = view
        for handler in self.handlers:
            handler(key, before, view)


class World:
    """One node with a publisher; `refuse` and `mangle` script the server's answers."""

    def __init__(self, *, fenced: bool = False) -> None:
        self.transport = ScriptedTransport(self._answer)
        self.changed: list[str] = []
        self.inventories, self.nodes = FakeStore(inventory_view), FakeStore(_node)
        self.agents, self.slices = FakeStore(agent_view), FakeStore(slice_view)
        self.stores = Stores(
            inventories=self.inventories,
            nodes=self.nodes,
            agents=self.agents,
            slices=self.slices,
            changed=self.changed.append,
        )
        self.mode = POSSIBLE
        self.held = True
        self.reported: list[Any] = []
        self.unnumbered: dict[str, int] = {}
        self.metrics = Metrics()
        self.allocator(fenced=fenced)
        self.refuse: ApiError | None = None
        self.mangle: Any = lambda document: document
        self._versions = itertools.count(1)
        self.nodes.put({"metadata": {"name": "n1", "uid": "node-uid"}})
        self.agent()
        self.cards(2)

    def allocator(self, *, fenced: bool) -> None:
        """Starts a controller in which our own allocator decides, or kube-scheduler."""
        self.publisher = Publisher(
            KubeClient(self.transport),
            self.stores,
            rights=Rights(
                held=lambda: self.held,
                mode=lambda: self.mode,
                report_dropped=self.reported.append,
                fenced=fenced,
                unnumbered=lambda _node: self.unnumbered,
            ),
            metrics=self.metrics,
            wall_clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )

    def _answer(self, request: Request) -> Any:
        if self.refuse is not None and (request.method != "PATCH" or self.refuse.status >= 500):
            return self.refuse
        if request.method == "DELETE":
            self.slices.remove(request.path.rpartition("/")[2])
            return {}
        if request.method == "PATCH":
            stored = copy.deepcopy(self.inventory)
            stored["status"]["conditions"] = request.body["status"]["conditions"]
            return stored
        version = str(next(self._versions))
        stored = self.mangle(copy.deepcopy(request.body))
        stored["metadata"].update(resourceVersion=version, uid=f"uid-{version}")
        return stored

    def agent(self, *, ready: bool = True) -> None:
        conditions = [{"type": "Ready", "status": str(ready)}]
        self.agents.put(
            {"metadata": {"name": "agent"}, "spec": {"nodeName": "n1"}, "status": {"conditions": conditions}}
        )

    def cards(self, count: int, **fields: Any) -> None:
        cards = [
            Card(**{"name": f"c-{index}", "vendor": "v", "model": "M", "memory_bytes": 1 << 34, **fields})
            for index in range(count)
        ]
        policy = effective_policy([], node_labels={})
        status = status_of(cards, agent=AgentStatus(version="1"), policy=policy)
        self.inventory = {
            "metadata": {"name": "n1"},
            "status": json.loads(status.model_dump_json(by_alias=True)),
        }
        self.inventories.put(self.inventory)

    async def reconcile(self) -> float | None:
        return await self.publisher.reconcile("n1")

    @property
    def written(self) -> list[tuple[str, str]]:
        return [(sent.method, sent.path) for sent in self.transport.writes() if "resourceslices" in sent.path]

    @property
    def condition(self) -> tuple[str, str]:
        published = self.inventories.objects["n1"].published
        return (published.status, published.reason)


SLICE = "/apis/resource.k8s.io/v1/resourceslices"
NAME = "dragoman.dev-n1-00000"


async def test_cards_of_a_ready_agent_become_a_slice_and_the_condition_says_so() -> None:
    world = World()
    await world.reconcile()
    assert world.written == [("POST", SLICE)]
    assert world.condition == ("True", "Published")
    assert "2 of 2 cards" in world.inventories.objects["n1"].published.message


async def test_the_condition_is_applied_to_the_status_under_a_field_manager_of_its_own() -> None:
    world = World()
    await world.reconcile()
    (patch,) = [sent for sent in world.transport.writes() if sent.method == "PATCH"]
    assert patch.path == "/apis/dragoman.dev/v1alpha1/acceleratornodes/n1/status"
    assert patch.content_type == "application/apply-patch+yaml"
    assert patch.query["fieldManager"] == "dragoman-controller"
    assert set(patch.body["status"]) == {"conditions"}
    assert patch.body["status"]["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


async def test_a_second_look_at_an_unchanged_node_writes_nothing() -> None:
    world = World()
    await world.reconcile()
    before = len(world.transport.requests)
    for _ in range(3):
        assert await world.reconcile() is None
    assert len(world.transport.requests) == before


async def test_only_slices_and_the_status_of_acceleratornodes_are_ever_written() -> None:
    world = World()
    await world.reconcile()
    world.cards(200)
    await world.reconcile()
    world.mode = TOO_OLD
    await world.reconcile()
    kinds = {sent.path.split("/")[4] for sent in world.transport.writes()}
    assert kinds == {"resourceslices", "acceleratornodes"}
    assert all(
        sent.path.endswith("/status") for sent in world.transport.writes() if "acceleratornodes" in sent.path
    )


async def test_changed_cards_update_the_slice_in_its_generation() -> None:
    world = World()
    await world.reconcile()
    world.cards(3)
    await world.reconcile()
    assert world.written[1:] == [("PUT", f"{SLICE}/{NAME}")]
    assert world.transport.writes()[-2].body["spec"]["pool"]["generation"] == 1


async def test_slices_of_an_agent_that_is_not_ready_are_neither_made_nor_changed_nor_taken_away() -> None:
    world = World()
    world.agent(ready=False)
    await world.reconcile()
    assert world.written == []
    assert world.condition == ("False", "AgentNotReady")
    world.agent()
    await world.reconcile()
    world.agent(ready=False)
    world.cards(3)
    await world.reconcile()
    assert world.written == [("POST", SLICE)]


async def test_one_ready_agent_of_two_is_enough_during_a_rolling_update() -> None:
    world = World()
    world.agent(ready=False)
    world.agents.put(
        {
            "metadata": {"name": "newer"},
            "spec": {"nodeName": "n1"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
    )
    await world.reconcile()
    assert world.written == [("POST", SLICE)]


async def test_slices_that_vanish_are_made_again_after_5_s_and_later_while_they_keep_vanishing() -> None:
    world = World()
    await world.reconcile()
    for expected in (5, 10, 20):
        world.slices.remove(NAME)
        count = len(world.written)
        wait = await world.reconcile()
        assert wait == pytest.approx(expected)
        assert len(world.written) == count
        await asyncio.sleep(expected)
        assert await world.reconcile() is None
        assert world.written[count:] == [("POST", SLICE)]


async def test_slices_are_made_at_once_when_the_agent_comes_back_from_not_ready() -> None:
    world = World()
    await world.reconcile()
    world.agent(ready=False)
    await world.reconcile()
    world.slices.remove(NAME)
    world.agent()
    assert await world.reconcile() is None
    assert world.written == [("POST", SLICE)] * 2


@pytest.mark.parametrize("gone", ["nodes", "inventories"])
async def test_slices_of_a_node_or_an_inventory_that_is_gone_are_deleted(gone: str) -> None:
    world = World()
    await world.reconcile()
    getattr(world, gone).remove("n1")
    await world.reconcile()
    assert world.written[1:] == [("DELETE", f"{SLICE}/{NAME}")]
    assert await world.reconcile() is None
    assert len(world.written) == 2


async def test_a_slice_that_is_deleted_is_named_by_uid_and_version() -> None:
    world = World()
    await world.reconcile()
    world.nodes.remove("n1")
    await world.reconcile()
    body = world.transport.writes()[-1].body
    assert set(body["preconditions"]) == {"uid", "resourceVersion"}


async def test_slices_of_our_driver_that_nobody_wants_are_deleted() -> None:
    world = World()
    spec = {"driver": "dragoman.dev", "nodeName": "n1", "pool": {"name": "n1/dragoman", "generation": 4}}
    world.slices.put({"metadata": {"name": "stray", "uid": "u", "resourceVersion": "1"}, "spec": spec})
    await world.reconcile()
    assert world.written == [("DELETE", f"{SLICE}/stray"), ("POST", SLICE)]


async def test_where_shares_cannot_be_native_slices_are_withdrawn_and_the_condition_says_why() -> None:
    world = World()
    await world.reconcile()
    world.mode = TOO_OLD
    await world.reconcile()
    assert world.written[1:] == [("DELETE", f"{SLICE}/{NAME}")]
    assert world.condition == ("False", "KubernetesTooOld")


async def test_while_it_is_not_known_what_is_possible_nothing_is_made_and_nothing_is_taken_away() -> None:
    world = World()
    await world.reconcile()
    world.mode = SILENT
    world.cards(5)
    await world.reconcile()
    assert world.written == [("POST", SLICE)]
    assert world.condition == ("False", "ProbeFailed")


async def test_where_our_allocator_decides_slices_are_published_on_any_release() -> None:
    world = World(fenced=True)
    world.mode = TOO_OLD
    world.mangle = without_sharing
    await world.reconcile()
    await world.reconcile()
    assert world.written == [("POST", SLICE)]
    assert world.condition == ("True", "Published")
    assert world.reported == []


@pytest.mark.parametrize("fenced", [True, False])
async def test_slices_change_over_to_the_other_allocator_by_being_made_again_at_once(fenced: bool) -> None:
    world = World(fenced=not fenced)
    await world.reconcile()
    world.allocator(fenced=fenced)
    assert await world.reconcile() is None
    assert world.written == [("POST", SLICE), ("DELETE", f"{SLICE}/{NAME}"), ("POST", SLICE)]
    posts = [sent.body["spec"] for sent in world.transport.writes() if sent.method == "POST"]
    assert ["nodeSelector" in spec for spec in posts] == [not fenced, fenced]


async def test_a_card_that_kube_scheduler_would_miscount_stays_out_until_the_last_such_claim_is_gone() -> (
    None
):
    world = World()
    world.unnumbered = {"c-0": 2}
    await world.reconcile()
    assert offered(world) == ["c-1"]
    assert "1 card waits" in world.inventories.objects["n1"].published.message
    world.unnumbered = {}
    await world.reconcile()
    assert offered(world) == ["c-0", "c-1"]


async def test_a_card_that_cannot_be_shared_is_counted_rightly_and_stays() -> None:
    world = World()
    world.cards(2, shareable=False)
    world.unnumbered = {"c-0": 1}
    await world.reconcile()
    assert offered(world) == ["c-0", "c-1"]


def offered(world: World) -> list[str]:
    sent = [one for one in world.transport.writes() if one.method in ("POST", "PUT")][-1]
    return [device["name"] for device in sent.body["spec"]["devices"]]


def without_sharing(document: Any) -> Any:
    for device in document["spec"]["devices"]:
        device.pop("allowMultipleAllocations", None)
        for capacity in device["capacity"].values():
            capacity.pop("requestPolicy", None)
    return document


async def test_a_slice_that_lost_its_sharing_is_reported_and_looked_at_again_at_once() -> None:
    world = World()
    world.mangle = without_sharing
    assert await world.reconcile() == pytest.approx(0.1)
    ((lost, *_),) = world.reported
    assert lost.gate == "DRAConsumableCapacity"
    assert world.metrics.registry.get_sample_value(
        "dragoman_controller_fields_dropped_total", {"gate": "DRAConsumableCapacity"}
    ) == pytest.approx(6)


async def test_a_lost_field_without_consequences_for_limits_is_told_and_not_written_again() -> None:
    world = World()
    world.mangle = lambda document: document

    def without_taints(document: Any) -> Any:
        document["spec"]["devices"][0].pop("attributes")
        document["spec"]["devices"][0]["taints"] = []
        return document

    world.mangle = without_taints
    await world.reconcile()
    # A loss that no known gate explains may concern limits, so it counts as one that does.
    assert world.reported
    count = len(world.written)
    await world.reconcile()
    assert len(world.written) == count


async def test_a_server_that_stores_a_slice_otherwise_is_not_written_to_for_ever() -> None:
    world = World()

    def defaulted(document: Any) -> Any:
        document["spec"]["addedByTheServer"] = True
        return document

    world.mangle = defaulted
    for _ in range(4):
        await world.reconcile()
    assert world.written == [("POST", SLICE)]


async def test_nothing_is_written_once_the_lease_is_not_held() -> None:
    world = World()
    world.held = False
    with pytest.raises(LeadershipLostError):
        await world.reconcile()
    assert world.transport.writes() == []


def _stray(index: int) -> Any:
    spec = {"driver": "dragoman.dev", "nodeName": "n1", "pool": {"name": "n1/dragoman", "generation": 1}}
    name = f"dragoman.dev-n1-{index:05}"
    return {"metadata": {"name": name, "uid": f"late-{index}", "resourceVersion": "900"}, "spec": spec}


@pytest.mark.parametrize("index", [0, 1])
async def test_a_slice_that_a_leader_of_before_writes_late_is_set_right_when_it_is_seen(index: int) -> None:
    world = World()
    await world.reconcile()
    world.changed.clear()
    world.slices.put(_stray(index))
    assert world.changed == ["n1"]
    await world.reconcile()
    stray = f"{SLICE}/dragoman.dev-n1-{index:05}"
    assert world.written[-1] == (("PUT" if index == 0 else "DELETE"), stray)
    assert [one.existing.name for one in world.slices.values()] == [NAME]


async def test_a_condition_that_a_leader_of_before_writes_late_is_set_right_when_it_is_seen() -> None:
    world = World()
    await world.reconcile()
    late = copy.deepcopy(world.inventory)
    late["status"]["conditions"] = [
        {"type": "Published", "status": "False", "reason": "AgentNotReady", "message": "An hour ago."}
    ]
    world.changed.clear()
    world.inventories.put(late)
    assert world.changed == ["n1"]
    await world.reconcile()
    assert world.condition == ("True", "Published")


async def test_a_slice_that_is_changed_is_named_by_uid_and_version() -> None:
    world = World()
    await world.reconcile()
    world.cards(3)
    await world.reconcile()
    (sent,) = [one for one in world.transport.writes() if one.method == "PUT"]
    assert sent.body["metadata"]["uid"] == "uid-1"
    assert sent.body["metadata"]["resourceVersion"] == "1"


async def test_the_lease_is_asked_before_each_single_write() -> None:
    world = World()
    world.cards(300)
    answers = iter([True, True, False])
    world.publisher._rights.held = lambda: next(answers)
    with pytest.raises(LeadershipLostError):
        await world.reconcile()
    assert len(world.transport.writes()) == 2


async def test_a_write_that_is_refused_is_raised_so_that_the_queue_tries_again() -> None:
    world = World()
    world.refuse = error_for(500, message="etcd is busy")
    with pytest.raises(ApiError):
        await world.reconcile()
    world.refuse = None
    await world.reconcile()
    assert world.condition == ("True", "Published")


async def test_a_slice_that_the_server_does_not_take_is_told_on_the_node_and_tried_again() -> None:
    world = World()
    world.refuse = error_for(422, message="spec.devices[0].capacity: Invalid value")
    with pytest.raises(ApiError):
        await world.reconcile()
    assert world.condition == ("False", "WriteRefused")
    assert "Invalid value" in world.inventories.objects["n1"].published.message


async def test_an_inventory_that_cannot_be_read_leaves_slices_alone_and_names_the_field() -> None:
    world = World()
    await world.reconcile()
    world.inventory["status"]["cards"][0]["memroyMiB"] = 1
    world.inventories.put(world.inventory)
    await world.reconcile()
    assert world.written == [("POST", SLICE)]
    assert world.condition == ("False", "InvalidConfig")
    assert "memroyMiB" in world.inventories.objects["n1"].published.message


async def test_an_agent_that_has_not_reported_yet_is_waited_for() -> None:
    world = World()
    world.inventories.put({"metadata": {"name": "n1"}})
    world.inventory = {"metadata": {"name": "n1"}, "status": {}}
    await world.reconcile()
    assert world.condition == ("False", "NoInventory")


async def test_a_node_without_offered_cards_has_no_slice_and_says_so() -> None:
    world = World()
    await world.reconcile()
    world.cards(2, unpublished="MIG mode")
    await world.reconcile()
    assert world.written[1:] == [("DELETE", f"{SLICE}/{NAME}")]
    assert world.condition == ("False", "NothingOffered")


async def test_the_time_of_the_condition_changes_only_with_its_status() -> None:
    world = World()
    await world.reconcile()
    world.publisher._wall_clock = lambda: datetime(2027, 1, 1, tzinfo=UTC)
    world.cards(3)
    world.inventory["status"]["conditions"] = [
        {
            "type": "Published",
            "status": "True",
            "reason": "Published",
            "message": "2 of 2 cards are published in 1 slice.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
    world.inventories.put(world.inventory)
    await world.reconcile()
    assert world.inventories.objects["n1"].published.since == "2026-01-01T00:00:00Z"
    world.agent(ready=False)
    await world.reconcile()
    assert world.inventories.objects["n1"].published.since == "2027-01-01T00:00:00Z"


async def test_the_number_of_published_nodes_is_counted() -> None:
    world = World()

    def published() -> float | None:
        return world.metrics.registry.get_sample_value("dragoman_controller_nodes_published")

    await world.reconcile()
    await world.reconcile()
    assert published() == 1
    world.agent(ready=False)
    await world.reconcile()
    assert published() == 0


async def test_a_new_leader_begins_with_all_nodes_that_have_an_inventory_or_slices() -> None:
    world = World()
    spec = {"driver": "dragoman.dev", "nodeName": "n9", "pool": {"name": "n9/dragoman", "generation": 1}}
    world.slices.put({"metadata": {"name": "s", "uid": "u", "resourceVersion": "1"}, "spec": spec})
    assert world.publisher.begin() == ["n1", "n9"]


async def test_each_change_is_told_with_the_node_that_it_concerns() -> None:
    world = World()
    world.changed.clear()
    world.agent(ready=False)
    world.nodes.put({"metadata": {"name": "n1", "uid": "node-uid"}})
    assert world.changed == ["n1"], "an unchanged Node is no news"
    world.nodes.put({"metadata": {"name": "n1", "uid": "another"}})
    assert world.changed == ["n1", "n1"]


async def test_what_exists_already_in_the_right_form_is_taken_over_without_a_write() -> None:
    world = World()
    await world.reconcile()
    other = World()
    other.slices.objects = dict(world.slices.objects)
    other.stores._slices_of.put(NAME, "n1")
    await other.reconcile()
    assert other.written == []
    view = other.slices.objects[NAME]
    assert view.existing.digest == content_digest(json.loads(view.spec))


# Cards with a fault

FAULT = Fault(reason="CardLost", message="Lost.", since="2026-01-01T00:00:00Z")


def _without_taints(document: Any) -> Any:
    for device in document["spec"]["devices"]:
        device.pop("taints", None)
    return document


def _stored(world: World) -> list[Any]:
    """What was written for real; dry runs are questions."""
    return [
        sent
        for sent in world.transport.writes()
        if "resourceslices" in sent.path and not (sent.query or {}).get("dryRun")
    ]


def _devices(sent: Any) -> list[tuple[str, list[Any]]]:
    return [(one["name"], one.get("taints") or []) for one in sent.body["spec"]["devices"]]


@pytest.mark.parametrize("fenced", [False, True])
async def test_a_card_with_a_fault_is_tainted_where_taints_are_kept(fenced: bool) -> None:
    world = World(fenced=fenced)
    world.cards(1, fault=FAULT)
    await world.reconcile()
    taint = {
        "key": "dragoman.dev/unhealthy",
        "value": "CardLost",
        "effect": "NoSchedule",
        "timeAdded": "2026-01-01T00:00:00Z",
    }
    assert [_devices(sent) for sent in _stored(world)] == [[("c-0", [taint])]]
    assert world.condition == ("True", "Published")


async def test_a_card_whose_taint_would_be_dropped_is_withdrawn_and_was_never_on_offer_without_it() -> None:
    world = World(fenced=True)
    world.mangle = _without_taints
    world.cards(2)
    await world.reconcile()
    inventory = copy.deepcopy(world.inventory)
    inventory["status"]["cards"][0]["fault"] = {
        "reason": "CardLost",
        "since": "2026-01-01T00:00:00Z",
    }
    world.inventories.put(inventory)
    await world.reconcile()
    assert [_devices(sent) for sent in _stored(world)] == [[("c-0", []), ("c-1", [])], [("c-1", [])]]
    assert "Card c-0 is withdrawn: CardLost." in world.inventories.objects["n1"].published.message


async def test_a_card_that_recovered_is_offered_again() -> None:
    world = World(fenced=True)
    world.mangle = _without_taints
    world.cards(1, fault=FAULT)
    await world.reconcile()
    assert _stored(world) == []
    assert world.condition == ("False", "NothingOffered")
    world.cards(1)
    await world.reconcile()
    assert [_devices(sent) for sent in _stored(world)] == [[("c-0", [])]]


async def test_taints_that_a_real_write_loses_withdraw_the_card_at_once() -> None:
    # As where API servers are upgraded one after the other: the one that was asked knows taints.
    world = World(fenced=True)
    world.mangle = lambda document: (
        document if "generateName" in document["metadata"] else (_without_taints(document))
    )
    world.cards(2)
    await world.reconcile()
    inventory = copy.deepcopy(world.inventory)
    inventory["status"]["cards"][0]["fault"] = {"reason": "CardLost", "since": "2026-01-01T00:00:00Z"}
    world.inventories.put(inventory)
    again = await world.reconcile()
    assert again is not None
    assert again < 1
    await world.reconcile()
    assert _devices(_stored(world)[-1]) == [("c-1", [])]


async def test_whether_taints_are_kept_is_asked_again_after_a_while() -> None:
    world = World(fenced=True)
    world.mangle = _without_taints
    world.cards(1, fault=FAULT)
    await world.reconcile()
    world.mangle = lambda document: document
    await world.reconcile()
    assert _stored(world) == []
    await asyncio.sleep(AGAIN_S)
    await world.reconcile()
    assert [name for name, taints in _devices(_stored(world)[-1]) if taints] == ["c-0"]


async def test_nobody_is_asked_about_taints_while_all_cards_are_well() -> None:
    world = World()
    await world.reconcile()
    assert [sent for sent in world.transport.writes() if (sent.query or {}).get("dryRun")] == []


async def test_a_fault_that_is_only_to_be_told_changes_no_slice() -> None:
    world = World()
    await world.reconcile()
    count = len(_stored(world))
    world.cards(2, fault=replace(FAULT, effect=TaintEffect.NONE))
    await world.reconcile()
    assert len(_stored(world)) == count


async def test_a_fault_that_stays_writes_nothing_again() -> None:
    world = World()
    world.cards(2, fault=FAULT)
    await world.reconcile()
    count = len(world.transport.requests)
    await world.reconcile()
    assert len(world.transport.requests) == count


async def test_where_taints_cannot_be_tried_the_card_is_withdrawn() -> None:
    world = World()
    world.cards(1, fault=FAULT)
    world.refuse = error_for(403, message="an admission policy says no")
    await world.reconcile()
    assert _stored(world) == []
    assert world.condition == ("False", "NothingOffered")


async def test_a_card_that_recovers_while_its_taint_was_being_lost_is_offered_and_all_is_quiet() -> None:
    world = World(fenced=True)
    world.mangle = lambda document: (
        document if "generateName" in document["metadata"] else _without_taints(document)
    )
    world.cards(1, fault=FAULT)
    assert await world.reconcile() is not None
    world.cards(1)
    assert await world.reconcile() is None
    assert world.condition == ("True", "Published")


# Cards that are partitioned on demand


def _partitioned(world: World) -> None:
    world.cards(1)
    inventory = copy.deepcopy(world.inventory)
    card = inventory["status"]["cards"][0]
    card["counters"] = {"slot-0": 1, "slot-1": 1}
    part = {
        **card,
        "name": "c-0-mig-19-0-1",
        "shareable": False,
        "partition": {"cardUUID": "GPU-1", "profile": "1g.5gb"},
        "counters": {"slot-0": 1},
    }
    inventory["status"]["cards"].append(part)
    world.inventories.put(inventory)


def _without_counters(document: Any) -> Any:
    document["spec"].pop("sharedCounters", None)
    for device in document["spec"].get("devices") or []:
        device.pop("consumesCounters", None)
    return document


def _offered(sent: Any) -> list[tuple[str, bool]]:
    return [(one["name"], "consumesCounters" in one) for one in sent.body["spec"].get("devices") or []]


async def test_a_card_and_its_partitions_are_offered_where_counters_are_kept() -> None:
    world = World()
    _partitioned(world)
    await world.reconcile()
    devices, counters = _stored(world)
    assert _offered(devices) == [("c-0", True), ("c-0-mig-19-0-1", True)]
    assert [one["name"] for one in counters.body["spec"]["sharedCounters"]] == ["c-0"]
    assert world.condition == ("True", "Published")


async def test_partitions_whose_counters_would_be_dropped_are_withheld_and_were_never_on_offer() -> None:
    world = World()
    world.mangle = _without_counters
    _partitioned(world)
    await world.reconcile()
    assert [_offered(sent) for sent in _stored(world)] == [[("c-0", False)]]
    message = world.inventories.objects["n1"].published.message
    assert "1 partitions that would be made on demand are withheld" in message
    assert "DRAPartitionableDevices" in message


async def test_counters_in_a_form_that_a_release_refuses_are_withheld() -> None:
    world = World()
    _partitioned(world)
    answer = world._answer

    def refusing(request: Request) -> Any:
        if request.body and "generateName" in (request.body.get("metadata") or {}):
            return ApiError("unknown counter set", status=422)
        return answer(request)

    world.transport = ScriptedTransport(refusing)
    world.allocator(fenced=False)
    await world.reconcile()
    assert [_offered(sent) for sent in _stored(world)] == [[("c-0", False)]]


async def test_counters_that_a_real_write_loses_withdraw_the_partitions_at_once() -> None:
    world = World()
    world.mangle = lambda document: (
        document if "generateName" in document["metadata"] else _without_counters(document)
    )
    _partitioned(world)
    again = await world.reconcile()
    assert again is not None
    assert again < 1
    await world.reconcile()
    assert _offered(_stored(world)[-1]) == [("c-0", False)]


async def test_our_own_allocator_asks_nobody_about_counters() -> None:
    world = World(fenced=True)
    world.mangle = _without_counters
    _partitioned(world)
    await world.reconcile()
    assert [_offered(sent) for sent in _stored(world)] == [[("c-0", False), ("c-0-mig-19-0-1", False)]]
    assert not [sent for sent in world.transport.writes() if (sent.query or {}).get("dryRun")]
