"""A cluster in which every step can happen between any two others.

There are agents, two controllers that both believe to lead, caches that lag behind, nodes that come and go,
and an administrator who changes policies.

Agents and controllers are the real ones; what is modelled is the API server (one after the other, with
resourceVersions), watches (each agent has seen a prefix of what happened), and when cards are on offer.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from controller.publishing.views import inventory_view
from controller.rollouts.rollouts import Around, NodeStatus, Rollouts
from controller.rollouts.views import PolicyView, policy_view
from driver.api.node import AgentStatus, policy_in_force, status_of
from driver.api.policy import AcceleratorPolicySpec, EffectivePolicy, NamedPolicy, effective_policy
from driver.api.rollout import PolicyChange, differences, limiting, shape
from driver.cards import Card
from driver.kube.client import JSON, ApiError, KubeClient, error_for
from driver.slices import canonical
from kubelet_plugin.policy_turns import PolicyTurns
from tests.support.scripted_api import Request, ScriptedTransport

POLICIES = "/apis/dragoman.dev/v1alpha1/acceleratorpolicies/"
INVENTORIES = "/apis/dragoman.dev/v1alpha1/acceleratornodes/"
NODES = "/api/v1/nodes/"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Agent:
    """The agent of a node, with what it has seen of the policies."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.turns = PolicyTurns(clock=lambda: 1000.0)
        stored = cluster.inventories.get(name, {}).get("status") or {}
        self.turns.restore(stored)
        self.seen = len(cluster.history) - 1
        self.policy: EffectivePolicy | None = policy_in_force(stored.get("policy"))
        self.change: PolicyChange | None = None
        self.look()

    def watch(self) -> None:
        """Sees what happened next."""
        if self.seen < len(self.cluster.history) - 1:
            self.seen += 1
            self.look()

    def look(self) -> None:
        """Decides which policy holds; cards whose shape changes are off for a while."""
        documents = self.cluster.history[self.seen]
        policies = [
            NamedPolicy(name=name, spec=AcceleratorPolicySpec.model_validate(one["spec"], by_alias=True))
            for name, one in documents.items()
        ]
        target = effective_policy(policies, node_labels={})
        numbers = {
            name: next((turn["number"] for turn in _turns(one) if turn["node"] == self.name), 0)
            for name, one in documents.items()
        }
        before = self.policy
        cards = {f"GPU-{self.name}"}
        self.policy, self.change = self.turns.decide(target, policies=policies, turns=numbers, cards=cards)
        if before is not None:
            touched = limiting(differences(before, self.policy, cards=cards), policies)
            if touched:
                self.cluster.away[self.name] = frozenset(touched)

    def report(self) -> None:
        """Writes its AcceleratorNode."""
        assert self.policy is not None
        card = Card(name="c", vendor="v", model="M", uuid=f"GPU-{self.name}", memory_bytes=24 << 30)
        status = status_of(
            [self.policy.apply(card)],
            agent=AgentStatus(version="1"),
            policy=self.policy,
            change=self.change,
        ).model_dump(mode="json", exclude_none=True)
        stored = self.cluster.inventories.setdefault(self.name, {"metadata": {"name": self.name}})
        stored["status"] = status


def _turns(policy: JSON) -> list[JSON]:
    return list((policy.get("status") or {}).get("turns") or [])


class Cached:
    """A store of policies that lags behind."""

    def __init__(self) -> None:
        self.views: dict[str, PolicyView] = {}

    def get(self, key: str) -> PolicyView | None:
        return self.views.get(key)

    def keys(self) -> list[str]:
        return list(self.views)

    def values(self) -> Any:
        return iter(self.views.values())

    def subscribe(self, _handler: Any) -> None:
        pass

    def observe(self, _document: JSON) -> None:
        pass


class Controller:
    """A controller that believes to lead; its caches lag, and its requests are answered one by one."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.waiting: list[asyncio.Event] = []
        self.cached = Cached()
        self.inventories: dict[str, bytes] = {}
        self.task: asyncio.Task[float | None] | None = None
        self.settled: dict[str, bytes] = {}
        around = Around(
            held=lambda: True,
            inventories=lambda: list(self.inventories.items()),
            read=_read,
            labels=lambda name: {} if name in cluster.agents else None,
            agent_ready=lambda name: name in cluster.agents,
            settled=lambda name: cluster.settled.get(name, b""),
        )
        self.rollouts = Rollouts(
            KubeClient(_Slow(cluster.answer, self.waiting)),
            self.cached,
            around,
            changed=lambda _name, _after_s: None,
            wall_clock=lambda: NOW,
        )

    def sync(self) -> None:
        """The caches see what is."""
        self.inventories = {
            name: _read(one).status for name, one in self.cluster.inventories.items() if "status" in one
        }
        self.cached.views = {name: policy_view(one) for name, one in self.cluster.policies.items()}

    async def step(self, policy: str) -> None:
        """Its next request is answered; begins a look if none is under way."""
        if self.task is None or self.task.done():
            if self.task is not None:
                self.task.exception()
            self.task = asyncio.create_task(self.rollouts.reconcile(policy))
        elif self.waiting:
            self.waiting.pop(0).set()
        for _ in range(4):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Lets what is under way come to its end."""
        while self.task is not None and not self.task.done():
            await self.step("")


class _Slow(ScriptedTransport):
    """Answers when it is told to."""

    def __init__(self, answer: Callable[[Request], JSON | ApiError], waiting: list[asyncio.Event]) -> None:
        super().__init__(answer)
        self._waiting = waiting

    async def request(self, method: str, path: str, **more: Any) -> JSON:
        turn = asyncio.Event()
        self._waiting.append(turn)
        await turn.wait()
        return await super().request(method, path, **more)


@dataclass
class Cluster:
    """What the API server has.

    Attributes:
        policies: AcceleratorPolicies by name.
        history: The policies after each write.
        inventories: AcceleratorNodes by name.
        agents: Agents of the Nodes that there are.
        away: Nodes whose cards are off since a change, with the policies whose turn they waited for.
        settled: Inventories whose slices are written.
    """

    policies: dict[str, JSON] = field(default_factory=dict)
    history: list[dict[str, JSON]] = field(default_factory=list)
    inventories: dict[str, JSON] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    away: dict[str, frozenset[str]] = field(default_factory=dict)
    settled: dict[str, bytes] = field(default_factory=dict)
    version: int = 0

    def put(self, name: str, **spec: Any) -> None:
        """An administrator writes a policy."""
        self._store(name, {**self.policies.get(name, {}), "spec": spec})

    def join(self, name: str) -> None:
        """A Node comes, and its agent reports."""
        if name not in self.agents:
            self.agents[name] = Agent(self, name)
            self.agents[name].report()

    def leave(self, name: str) -> None:
        """A Node goes, and its AcceleratorNode with it."""
        for where in (self.agents, self.inventories, self.away, self.settled):
            where.pop(name, None)

    def restart(self, name: str) -> None:
        """A new process of the agent."""
        if name in self.agents:
            self.agents[name] = Agent(self, name)

    def publish(self, name: str) -> None:
        """The slices of a node are written; its cards are back if they are those that it reported last."""
        agent = self.agents.get(name)
        if agent is None or name not in self.inventories:
            return
        status = _read(self.inventories[name]).status
        self.settled[name] = status
        said, cards = policy_in_force(json.loads(status)["policy"]), {f"GPU-{name}"}
        assert said is not None
        assert agent.policy is not None
        if shape(said, cards=cards) == shape(agent.policy, cards=cards):
            self.away.pop(name, None)

    def answer(self, request: Request) -> JSON | ApiError:
        """One request, as the API server answers it."""
        for prefix, objects in ((POLICIES, self.policies), (INVENTORIES, self.inventories)):
            if not request.path.startswith(prefix):
                continue
            name = request.path.removeprefix(prefix).partition("/")[0]
            stored = objects.get(name)
            if stored is None:
                return error_for(404, message="none")
            if request.method == "GET":
                return copy.deepcopy(stored)
            if request.body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
                return error_for(409, message="it changed")
            status = {key: one for key, one in request.body["status"].items() if one is not None}
            return self._store(name, {**stored, "status": status})
        name = request.path.removeprefix(NODES)
        return {"metadata": {"name": name}} if name in self.agents else error_for(404, message="none")

    def _store(self, name: str, document: JSON) -> JSON:
        self.version += 1
        before = self.policies.get(name, {}).get("metadata", {})
        same = document["spec"] == self.policies.get(name, {}).get("spec")
        generation = int(before.get("generation") or 0) + (0 if same else 1)
        metadata = {"name": name, "resourceVersion": str(self.version), "generation": generation}
        self.policies[name] = copy.deepcopy({**document, "metadata": metadata})
        self.history.append(copy.deepcopy(self.policies))
        return copy.deepcopy(self.policies[name])


def _read(document: JSON) -> NodeStatus:
    ours = {key: one for key, one in document.get("status", {}).items() if key != "conditions"}
    assert inventory_view(document).status == (canonical(ours) if ours else b"")
    return NodeStatus(status=inventory_view(document).status, published=("True", "Published", ""))
