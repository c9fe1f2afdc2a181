"""A policy with `maxUnavailable` goes from node to node on a real cluster.

Flow: a cluster of its own with one real node, and nodes without a kubelet whose agents this test plays: what
such an agent decides is the agent's own code, its cards are invented, and what it reports goes to the real
API server. The controllers are real, and so are the slices that they write.

Limits: that a node is not back for ten minutes is not waited for; unit tests do that.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from driver.api.base import decode
from driver.api.node import AgentStatus, status_of
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, effective_policy
from driver.cards import Card
from driver.kube.resources import ACCELERATOR_NODES, ACCELERATOR_POLICIES, NODES
from kubelet_plugin.policy_turns import PolicyTurns
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, Api, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.own_cluster import own_cluster, run_version
from tests.cluster.support.people import administrator
from tests.cluster.support.storm_nodes import open_nodes

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

NAMES = tuple(f"a-played-{number}" for number in range(4))
"""Before the name of the real node: turns are given by name."""
POLICY = "from-node-to-node"


@pytest.fixture(scope="module")
def cluster(images: Images) -> Iterator[Installation]:
    with own_cluster(images, purpose="rollout", version=run_version()) as installed:
        # Told as long as it is the only one.
        assert installed.node not in NAMES
        with open_nodes(installed, names=NAMES, cards=2, own={}):
            for name in NAMES:
                # Or controllers that are killed come back where nobody runs them.
                installed.api.patch(NODES, name, {"spec": {"unschedulable": True}})
            yield installed


class Agents:
    """Agents of the nodes that have no kubelet: each looks every half second, unless it is stopped."""

    def __init__(self, api: Api) -> None:
        self.stopped: set[str] = set()
        self.stops_when_it_waits: set[str] = set()
        self._api = api
        self._turns = {name: PolicyTurns() for name in NAMES}
        self._cards = {name: _cards(api.get(ACCELERATOR_NODES, name)) for name in NAMES}
        for name, turns in self._turns.items():
            turns.restore(api.get(ACCELERATOR_NODES, name)["status"])
        self._written: dict[str, JSON] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._end.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._end.wait(0.5):
            with contextlib.suppress(Refused, urllib3.exceptions.HTTPError):
                policies = self._api.list(ACCELERATOR_POLICIES)
                for name in NAMES:
                    if name not in self.stopped:
                        self._look(name, policies)

    def _look(self, name: str, documents: list[JSON]) -> None:
        policies = [
            NamedPolicy(
                name=one["metadata"]["name"], spec=decode(AcceleratorPolicySpec, one["spec"], field="spec")
            )
            for one in documents
        ]
        numbers = {one["metadata"]["name"]: turns_of(one).get(name, 0) for one in documents}
        found, change = self._turns[name].decide(
            effective_policy(policies, node_labels={}),
            policies=policies,
            turns=numbers,
            cards=[one.uuid for one in self._cards[name]],
        )
        status = status_of(
            [found.apply(one) for one in self._cards[name]],
            agent=AgentStatus(version="1"),
            policy=found,
            change=change,
        ).model_dump(mode="json", exclude_none=True)
        if status != self._written.get(name):
            self._api.patch(ACCELERATOR_NODES, name, {"status": status}, subresource="status")
            self._written[name] = status
        if name in self.stops_when_it_waits and change is not None and change.state == "Waiting":
            self.stopped.add(name)


def _cards(node: JSON) -> list[Card]:
    return [
        Card(
            name=one["name"],
            vendor=one["vendor"],
            model=one["model"],
            uuid=one["uuid"],
            memory_bytes=one["memoryMiB"] << 20,
        )
        for one in node["status"]["cards"]
    ]


def turns_of(policy: JSON) -> dict[str, int]:
    return {one["node"]: one["number"] for one in (policy.get("status") or {}).get("turns") or []}


class Watching:
    """Every state of the policy that there was."""

    def __init__(self, api: Api) -> None:
        self.states: list[JSON] = []
        self._api = api
        self._end = threading.Event()
        # Read here: what comes after this is seen.
        version = str(api.get(ACCELERATOR_POLICIES, POLICY)["metadata"]["resourceVersion"])
        self._thread = threading.Thread(target=self._run, args=(version,), daemon=True)
        self._thread.start()

    def end(self) -> list[JSON]:
        self._end.set()
        self._thread.join(30)
        return self.states

    def _run(self, version: str) -> None:
        while not self._end.is_set():
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                for event in self._api.watch(ACCELERATOR_POLICIES, resource_version=version, seconds=2):
                    document = event["object"]
                    version = str(document["metadata"]["resourceVersion"])
                    if document["metadata"].get("name") == POLICY and event["type"] == "MODIFIED":
                        self.states.append(document)


@pytest.fixture
def agents(cluster: Installation) -> Iterator[Agents]:
    found = Agents(cluster.api)
    yield found
    found.stops_when_it_waits.clear()
    found.stopped.clear()
    cluster.api.delete(ACCELERATOR_POLICIES, POLICY)
    waiting.eventually(lambda: not waits(cluster), what="all nodes are as they were")
    found.end()


def put(cluster: Installation, **spec: Any) -> None:
    body = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "AcceleratorPolicy", "metadata": {"name": POLICY}}
    cluster.api.apply({**body, "spec": spec})


def told(cluster: Installation) -> JSON:
    """The condition `RolledOut`, if it is about what the policy says now."""
    policy = cluster.api.get(ACCELERATOR_POLICIES, POLICY)
    conditions = (policy.get("status") or {}).get("conditions") or []
    current = [one for one in conditions if one["observedGeneration"] == policy["metadata"]["generation"]]
    return dict(current[0]) if current else {}


def waits(cluster: Installation) -> list[str]:
    return [
        one["metadata"]["name"]
        for one in cluster.api.list(ACCELERATOR_NODES)
        if (one["status"].get("policyChange") or {}).get("state") == "Waiting"
    ]


def whole(cluster: Installation) -> set[str]:
    """Nodes whose cards are offered whole."""
    return {
        one["spec"]["nodeName"]
        for one in cluster.slices()
        if not any(device.get("allowMultipleAllocations") for device in one["spec"].get("devices") or [])
    }


def rolled_out(cluster: Installation) -> None:
    waiting.eventually(
        lambda: told(cluster).get("status") == "True", what="the policy is on all nodes", seconds=600
    )


@pytest.mark.parametrize("limit", [0, "0%", "101%", "two", -1])
def test_the_api_server_refuses_what_lets_no_node_change(cluster: Installation, limit: Any) -> None:
    with pytest.raises(Refused, match="maxUnavailable"):
        put(cluster, maxUnavailable=limit)


def test_no_more_nodes_change_at_a_time_than_may_also_when_the_leader_is_killed(
    cluster: Installation, agents: Agents
) -> None:
    put(cluster, maxUnavailable=2)
    rolled_out(cluster)
    watching = Watching(cluster.api)
    put(cluster, maxUnavailable=2, sharing=False)
    waiting.eventually(lambda: whole(cluster), what="the first node has changed")
    for one in cluster.controllers():
        cluster.kill_pod(one["metadata"]["name"])
    rolled_out(cluster)
    # The policy is told by the nodes' reports, of which slices are made.
    waiting.eventually(lambda: whole(cluster) == {cluster.node, *NAMES}, what="all nodes have changed")
    states = watching.end()
    assert states
    assert max(len(turns_of(one)) for one in states) == 2
    assert {node for one in states for node in turns_of(one)} == {cluster.node, *NAMES}
    assert agents.stopped == set()


def test_a_node_that_does_not_come_back_holds_up_the_others_and_is_told(
    cluster: Installation, agents: Agents, tmp_path: Any
) -> None:
    put(cluster, maxUnavailable=1)
    rolled_out(cluster)
    first = min(cluster.node, *NAMES)
    assert first in NAMES
    watching = Watching(cluster.api)
    agents.stops_when_it_waits.add(first)
    put(cluster, maxUnavailable=1, reservedMemory="1Gi")
    waiting.eventually(
        lambda: first in turns_of(cluster.api.get(ACCELERATOR_POLICIES, POLICY)),
        what="the node has its turn",
    )
    waiting.eventually(lambda: len(waits(cluster)) >= 2, what="others wait for it")
    done = administrator(cluster.target, tmp_path).dragoman("status")
    assert done.status == 0, done.err
    assert f"{POLICY} (maxUnavailable 1): InProgress" in done.out
    assert agents.stopped == {first}
    agents.stops_when_it_waits.clear()
    agents.stopped.clear()
    rolled_out(cluster)
    states = watching.end()
    assert max(len(turns_of(one)) for one in states) == 1


def test_without_a_limit_a_change_is_on_all_nodes_at_once_and_the_policy_says_nothing(
    cluster: Installation, agents: Agents
) -> None:
    put(cluster, sharing=False)
    waiting.eventually(lambda: whole(cluster) == {cluster.node, *NAMES}, what="all nodes have changed")
    assert not (cluster.api.get(ACCELERATOR_POLICIES, POLICY).get("status") or {}).get("turns")
    assert agents.stopped == set()
