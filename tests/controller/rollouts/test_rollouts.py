"""What is read and written for a rollout, and when nothing is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.lease import LeadershipLostError
from controller.rollouts.rollouts import Around, NodeStatus, Rollouts
from controller.rollouts.views import policy_view, reported
from driver.api.node import AgentStatus, status_of
from driver.api.policy import effective_policy
from driver.api.rollout import ChangeState, PolicyChange
from driver.cards import Card
from driver.kube.client import JSON, ApiError, error_for
from driver.slices import canonical
from tests.controller.rollouts.model import INVENTORIES, NODES, NOW, POLICIES, Cached
from tests.support.scripted_api import Request, scripted_client


def inventory(*, waits: bool = False) -> bytes:
    card = Card(name="c", vendor="v", model="M", uuid="GPU-1", memory_bytes=24 << 30)
    change = PolicyChange(number=5, state=ChangeState.WAITING if waits else ChangeState.DONE, policies=("p",))
    status = status_of(
        [card], agent=AgentStatus(version="1"), policy=effective_policy([], node_labels={}), change=change
    )
    return canonical(status.model_dump(mode="json", exclude_none=True))


class World:
    """A policy and a node `n1`."""

    def __init__(self, *, waits: bool = False, **spec: Any) -> None:
        self.policy: JSON | None = {
            "metadata": {"name": "p", "resourceVersion": "7", "generation": 2},
            "spec": spec,
        }
        self.held = True
        self.ready = True
        self.node_exists = True
        self.answer: ApiError | None = None
        self.known: dict[str, bytes] = {"n1": inventory(waits=waits)}
        self.settled = self.known["n1"]
        self.published: tuple[str, str, str] | None = ("True", "Published", "")
        self.looked: list[tuple[str, float]] = []
        self.cached = Cached()
        client, self.transport = scripted_client(self._answer)
        around = Around(
            held=lambda: self.held,
            inventories=lambda: list(self.known.items()),
            read=lambda _document: NodeStatus(status=self.known["n1"], published=self.published),
            labels=lambda _name: {} if self.node_exists else None,
            agent_ready=lambda _name: self.ready,
            settled=lambda _name: self.settled,
        )
        self.rollouts = Rollouts(
            client,
            self.cached,
            around,
            changed=lambda name, after_s: self.looked.append((name, after_s)),
            wall_clock=lambda: NOW,
        )

    def reconcile(self) -> float | None:
        if self.policy is not None:
            self.cached.views = {"p": policy_view(self.policy)}
        return asyncio.run(self.rollouts.reconcile("p"))

    def told(self) -> JSON:
        assert self.policy is not None
        return dict(self.policy["status"]["conditions"][0])

    def _answer(self, request: Request) -> JSON | ApiError:
        if request.path.startswith(POLICIES):
            if self.policy is None:
                return error_for(404, message="none")
            if request.method == "PATCH":
                if self.answer is not None:
                    return self.answer
                assert request.path.endswith("/p/status")
                assert request.body["metadata"] == {"resourceVersion": "7"}
                status = {key: one for key, one in request.body["status"].items() if one is not None}
                self.policy = {**self.policy, "status": status}
            return self.policy
        there = self.node_exists if request.path.startswith(NODES) else "n1" in self.known
        assert request.path.startswith((NODES, INVENTORIES))
        return {"metadata": {"name": "n1"}} if there else error_for(404, message="none")


def with_turn(world: World) -> World:
    assert world.policy is not None
    turn = {"node": "n1", "number": 5, "since": "2026-11-22T11:59:00Z", "offered": 1}
    world.policy["status"] = {"observedGeneration": 2, "nodes": 1, "waiting": 0, "turns": [turn]}
    return world


def test_a_node_that_waits_gets_its_turn() -> None:
    world = World(waits=True, maxUnavailable=1)
    assert world.reconcile() is not None
    assert world.policy is not None
    (turn,) = world.policy["status"]["turns"]
    assert turn == {"node": "n1", "number": 5, "since": "2026-11-22T12:00:00Z", "offered": 1}
    assert (world.told()["status"], world.told()["reason"]) == ("False", "InProgress")
    assert world.told()["observedGeneration"] == 2


def test_what_is_said_already_is_not_written_again() -> None:
    world = World(maxUnavailable=1)
    world.reconcile()
    assert world.told()["reason"] == "Done"
    world.reconcile()
    assert len(world.transport.writes()) == 1


def test_a_policy_without_a_limit_says_nothing() -> None:
    world = World(sharing=False)
    assert world.reconcile() is None
    assert world.transport.writes() == []


def test_a_limit_that_is_taken_away_takes_what_was_said_with_it() -> None:
    world = with_turn(World(sharing=False))
    world.reconcile()
    assert world.policy is not None
    assert world.policy["status"] == {}


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("ready", "its agent is not Ready"),
        ("settled", "its slices are not written yet"),
        ("published", "NotSaid: nothing is said of it yet"),
    ],
)
def test_a_node_is_back_when_its_agent_is_ready_and_its_slices_are_written(what: str, why: str) -> None:
    world = with_turn(World(maxUnavailable=1))
    setattr(world, what, {"ready": False, "settled": b"old", "published": None}[what])
    assert world.policy is not None
    world.policy["status"]["turns"][0]["since"] = "2026-11-22T11:00:00Z"
    world.reconcile()
    assert world.policy["status"]["turns"]
    assert world.told()["reason"] == "NodesNotBack"
    assert f"n1: {why}." in world.told()["message"]


def test_a_node_that_is_back_gives_its_turn_up() -> None:
    world = with_turn(World(maxUnavailable=1))
    world.reconcile()
    assert world.policy is not None
    assert world.policy["status"]["turns"] == []
    assert world.told()["status"] == "True"


@pytest.mark.parametrize(("node", "kept"), [(True, 1), (False, 0)])
def test_a_node_whose_inventory_is_gone_keeps_its_turn_as_long_as_the_node_is_there(
    node: bool, kept: int
) -> None:
    world = with_turn(World(maxUnavailable=1))
    world.known.clear()
    world.node_exists = node
    world.reconcile()
    assert world.policy is not None
    assert len(world.policy["status"]["turns"]) == kept


def test_who_does_not_lead_writes_nothing() -> None:
    world = World(waits=True, maxUnavailable=1)
    world.held = False
    with pytest.raises(LeadershipLostError):
        world.reconcile()
    assert world.transport.writes() == []


def test_what_somebody_else_wrote_meanwhile_is_looked_at_anew() -> None:
    world = World(waits=True, maxUnavailable=1)
    world.answer = error_for(409, message="changed")
    world.reconcile()
    assert [name for name, _ in world.looked] == ["p"]


def test_a_policy_that_is_gone_is_nobodys() -> None:
    world = World(maxUnavailable=1)
    world.policy = None
    assert world.reconcile() is None


def test_a_status_of_another_version_is_left_alone() -> None:
    world = with_turn(World(maxUnavailable=1))
    assert world.policy is not None
    world.policy["status"]["colour"] = "red"
    assert world.reconcile() is None
    assert world.transport.writes() == []


def test_nodes_that_report_another_shape_are_behind() -> None:
    world = World(maxUnavailable=1, sharing=False)
    assert world.reconcile() is not None
    assert (world.told()["status"], world.told()["message"]) == (
        "False",
        "1 of 1 nodes have not told yet that they have it.",
    )


def test_a_change_of_nodes_is_looked_at_only_for_policies_with_a_limit() -> None:
    world = World(maxUnavailable=1)
    free = {"metadata": {"name": "free"}, "spec": {"sharing": False}}
    odd = {"metadata": {"name": "odd"}, "spec": {"priority": "high", "maxUnavailable": 1}}
    assert world.policy is not None
    world.cached.views = {
        "p": policy_view(world.policy),
        "free": policy_view(free),
        "odd": policy_view(odd),
    }
    world.rollouts.nodes_changed()
    assert [name for name, _ in world.looked] == ["p"]


@pytest.mark.parametrize("text", [b"", b"{}", b'{"cards": 1}', b'{"policyChange": {"number": "x"}}'])
def test_an_inventory_that_says_nothing_has_no_cards_and_no_change(text: bytes) -> None:
    found = reported(text)
    assert (found.cards, found.change, found.offered) == (False, None, 0)
