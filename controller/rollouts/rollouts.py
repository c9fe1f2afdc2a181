"""Rolls changes of AcceleratorPolicies out, at most `maxUnavailable` nodes at a time.

Flow: `reconcile` looks at one policy: it reads the policy, then each node that has a turn, decides
(`controller.rollouts.deciding`) and writes the policy's status with the resourceVersion that it read. So two
controllers cannot give a turn each where there is room for one, and nothing is remembered between two looks.
That holds for a leader as well that was stopped (SIGSTOP) and writes after it lost the Lease: it is a
conflict, or nobody has given a turn since it read who has one.

Limits: writes only while the Lease is held. A policy without `maxUnavailable` has no status. A policy or a
status that cannot be decoded is left alone. A node counts as back once the publisher of this replica has seen
to its slices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from controller.lease import LeadershipLostError
from controller.rollouts.deciding import Decision, Holder, Node, Question, There, decide
from controller.rollouts.views import PolicyView, Reported, Shape, reported
from driver.api.base import decode
from driver.api.node import policy_settings
from driver.api.policy import AcceleratorPolicySpec, EffectivePolicy, NamedPolicy, effective_policy
from driver.api.policy_reading import read_policy
from driver.api.rollout import ROLLED_OUT, SHAPING, AcceleratorPolicyStatus
from driver.errors import ConfigError
from driver.kube.client import JSON, ConflictError, KubeClient, NotFoundError
from driver.kube.resources import ACCELERATOR_NODES, ACCELERATOR_POLICIES, NODES
from driver.kube.store import Store

_AT_ONCE = 16
_IN_A_ROW = 50
_SOON_S = 0.5
_AFTER_CHANGE_S = 1.0

_log = structlog.get_logger("rollouts")


@dataclass(frozen=True, kw_only=True)
class NodeStatus:
    """An AcceleratorNode.

    Attributes:
        status: What its agent reported, as JSON text.
        published: Status and reason and message of its condition `Published`; None if it has none.
    """

    status: bytes
    published: tuple[str, str, str] | None


@dataclass(frozen=True, kw_only=True)
class Around:
    """What rollouts are told by the rest of the controller.

    Attributes:
        held: Whether this replica leads at this moment.
        inventories: Gives what is known of all AcceleratorNodes, by name.
        read: Reads an AcceleratorNode as the API server has it.
        labels: Labels of a Node; None if it does not exist.
        agent_ready: Whether a Ready agent runs on a node.
        settled: The inventory of a node whose slices are written.
    """

    held: Callable[[], bool]
    inventories: Callable[[], Iterable[tuple[str, bytes]]]
    read: Callable[[JSON], NodeStatus]
    labels: Callable[[str], Mapping[str, str] | None]
    agent_ready: Callable[[str], bool]
    settled: Callable[[str], bytes]


class Rollouts:
    """Reconciles policies by name."""

    def __init__(
        self,
        client: KubeClient,
        policies: Store[PolicyView],
        around: Around,
        *,
        changed: Callable[[str, float], None],
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Subscribes to the policies.

        Args:
            client: The API server.
            policies: All AcceleratorPolicies.
            around: The rest of the controller.
            changed: Told the name of each policy to be looked at, and seconds after which.
            wall_clock: The time.
        """
        self._client = client
        self._policies = policies
        self._around = around
        self._changed = changed
        self._wall_clock = wall_clock
        self._read: dict[str, tuple[bytes, Reported]] = {}
        policies.subscribe(self._policy_changed)

    def begin(self) -> list[str]:
        """All policies there are."""
        self._read.clear()
        return self._policies.keys()

    def nodes_changed(self) -> None:
        """Something changed about a node, its agent or its slices: looks at what is rolled out, soon."""
        for name, view in self._views():
            if _limit(view) is not None:
                self._changed(name, _AFTER_CHANGE_S)

    async def reconcile(self, name: str) -> float | None:
        """Looks at one policy.

        Returns:
            Seconds after which to look again, where nothing else brings it back.

        Raises:
            KubeError: The API server refused or did not answer; to be tried again.
        """
        try:
            document = await self._client.get(ACCELERATOR_POLICIES, name)
            stored = dict(document.get("status") or {})
            conditions = stored.pop("conditions", None) or []
            spec, _ = read_policy(document.get("spec") or {})
            before = decode(AcceleratorPolicyStatus, stored, field="status")
        except NotFoundError:
            return None
        except ConfigError as invalid:
            _log.warning("policy is not rolled out", policy=name, error=str(invalid))
            return None
        if spec.max_unavailable is None:
            if stored or conditions:
                await self._write(document, {**dict.fromkeys(stored), "conditions": None})
            return None
        holders = await self._holders(sorted({one.node for one in before.turns}))
        nodes = await self._nodes(spec)
        question = Question(
            policy=name,
            generation=int(document["metadata"].get("generation") or 0),
            max_unavailable=spec.max_unavailable,
            before=before,
            nodes=nodes,
            holders=holders,
            has_turn=self._has_turn,
            behind=0,
            now=self._wall_clock(),
        )
        decision = decide(question)
        if decision.holds:
            # Whoever has not seen the policy yet, or knows of no turns, waits for none.
            behind = await self._behind(NamedPolicy(name=name, spec=spec))
            decision = decide(replace(question, behind=behind))
        await self._say(document, stored, conditions, decision)
        return decision.again_s

    async def _say(
        self, document: JSON, stored: Mapping[str, Any], conditions: Sequence[JSON], decision: Decision
    ) -> None:
        wanted = decision.status.model_dump(mode="json")
        said = next((one for one in conditions if one.get("type") == ROLLED_OUT), {})
        condition = {
            "type": ROLLED_OUT,
            "status": str(decision.holds),
            "reason": decision.reason,
            "message": decision.message,
            "observedGeneration": decision.status.observed_generation,
        }
        if wanted == stored and {key: said.get(key) for key in condition} == condition:
            return
        same = said.get("status") == condition["status"] and said.get("lastTransitionTime")
        moment = self._wall_clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition["lastTransitionTime"] = said["lastTransitionTime"] if same else moment
        await self._write(document, {**wanted, "conditions": [condition]})

    async def _write(self, document: JSON, status: JSON) -> None:
        if not self._around.held():
            raise LeadershipLostError("Another replica may lead by now, so nothing is written.")
        metadata = document["metadata"]
        name = str(metadata["name"])
        body: JSON = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": status}
        try:
            await self._client.patch(ACCELERATOR_POLICIES, body, name=name, subresource="status")
        except ConflictError:
            # Somebody changed it meanwhile: what was decided may be wrong.
            self._changed(name, _SOON_S)
        except NotFoundError:
            return

    async def _holders(self, names: Sequence[str]) -> dict[str, Holder]:
        found: dict[str, Holder] = {}
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            holders = await asyncio.gather(*map(self._holder, some))
            found.update(zip(some, holders, strict=True))
        return found

    async def _holder(self, name: str) -> Holder:
        here = self._around.labels(name) is not None or await self._is_there(name)
        try:
            node = self._around.read(await self._client.get(ACCELERATOR_NODES, name))
        except NotFoundError:
            return Holder(there=There.NODE_ALONE if here else There.NOTHING)
        if not here:
            return Holder(there=There.NOTHING)
        said = reported(node.status)
        return Holder(there=There.BOTH, change=said.change, away=self._away(name, node, said))

    async def _is_there(self, name: str) -> bool:
        """Whether a Node exists that is not known yet."""
        try:
            await self._client.get(NODES, name)
        except NotFoundError:
            return False
        return True

    def _away(self, name: str, node: NodeStatus, said: Reported) -> str:
        if not self._around.agent_ready(name):
            return "its agent is not Ready"
        if self._around.settled(name) != node.status:
            return "its slices are not written yet"
        status, reason, message = node.published or ("Unknown", "NotSaid", "nothing is said of it yet")
        if status == "True" or (reason == "NothingOffered" and said.excluded):
            return ""
        return f"{reason}: {message.rstrip('.')}"

    async def _nodes(self, spec: AcceleratorPolicySpec) -> list[Node]:
        found: list[Node] = []
        for number, (name, status) in enumerate(list(self._around.inventories())):
            if number % _IN_A_ROW == _IN_A_ROW - 1:
                await asyncio.sleep(0)
            labels = self._around.labels(name)
            said = self._reported(name, status)
            if labels is None or not said.cards:
                continue
            found.append(
                Node(
                    name=name,
                    change=said.change,
                    ready=self._around.agent_ready(name),
                    picked=spec.node_selector.matches(labels),
                    offered=said.offered,
                )
            )
        return found

    async def _behind(self, policy: NamedPolicy) -> int:
        """How many nodes that the policy picks report another shape than policies give them."""
        others = [
            view.policy for name, view in self._views() if name != policy.name and view.policy is not None
        ]
        behind = 0
        # Nodes that the same policies pick have the same shape.
        targets: dict[tuple[str, ...], Shape] = {}
        for number, (name, status) in enumerate(list(self._around.inventories())):
            if number % _IN_A_ROW == _IN_A_ROW - 1:
                await asyncio.sleep(0)
            labels = self._around.labels(name)
            said = self._reported(name, status)
            if labels is None or not said.cards or not policy.spec.node_selector.matches(labels):
                continue
            picking = [one for one in (policy, *others) if one.spec.node_selector.matches(labels)]
            key = tuple(one.name for one in picking)
            if key not in targets:
                targets[key] = _shape(effective_policy(picking, node_labels=labels))
            target = targets[key]
            behind += any(said.shape.get(key) != value for key, value in target.items())
        return behind

    def _views(self) -> list[tuple[str, PolicyView]]:
        return [(name, view) for name in self._policies.keys() if (view := self._policies.get(name))]  # noqa: SIM118

    def _reported(self, name: str, status: bytes) -> Reported:
        """What an agent reported, read once as long as it stays the same."""
        kept = self._read.get(name)
        if kept is None or kept[0] != status:
            kept = self._read[name] = (status, reported(status))
        return kept[1]

    def _has_turn(self, policy: str, node: str, number: int) -> bool:
        view = self._policies.get(policy)
        # One that is gone or has no limit any more gives no turns, and its change gets another number.
        return view is not None and (node, number) in view.turns

    def _policy_changed(self, key: str, before: PolicyView | None, after: PolicyView | None) -> None:
        if after is not None and (_limit(after) is not None or after.told) and before != after:
            self._changed(key, 0.0)
        if before is not None and before != after:
            # A change may wait for several policies.
            for name, view in self._views():
                if name > key and _limit(view) is not None:
                    self._changed(name, 0.0)


def _limit(view: PolicyView) -> int | str | None:
    return None if view.policy is None else view.policy.spec.max_unavailable


def _shape(policy: EffectivePolicy) -> Shape:
    return {(one.field, one.card): one.value for one in policy_settings(policy) if one.field in SHAPING}
