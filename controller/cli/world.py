"""The cards as the allocator would see them.

Flow: `world_of` takes, of each node, what counts: where kube-scheduler allocates the ResourceSlices that
there are, where the controller does the slices that its AcceleratorNode stands for, because those in the API
server are fenced and say nothing of shares. Nodes whose cards are not to be had are left out, with the
reason.

Limits: pure. What pods ask of nodes apart from cards is looked at by `World.for_pod`, but for what other pods
take of their processors and memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from controller.cli.facts import Facts, is_fenced, published, slice_node
from controller.cli.rules import Rules
from driver.allocation import Snapshot
from driver.allocation.cluster import Cluster
from driver.api.node import cards_of, decode_status
from driver.errors import DragomanError
from driver.kube.client import JSON
from driver.slices import publication_of, with_generation

_AGENT = "AgentNotReady"
_HANDOVER = "Handover"


@dataclass(slots=True)
class LeftOut:
    """Nodes whose cards a pod cannot get, whatever it asks for.

    Attributes:
        reason: CamelCase word.
        message: A sentence.
        nodes: Their names.
    """

    reason: str
    message: str
    nodes: list[str] = field(default_factory=list)

    def to_json(self) -> JSON:
        """Gives it as JSON."""
        return {"reason": self.reason, "message": self.message, "nodes": self.nodes}


@dataclass(frozen=True, kw_only=True)
class World:
    """What can be given out.

    Attributes:
        snapshot: Slices, classes and what is held.
        nodes: Names of the nodes whose cards are offered.
        left_out: The others that have an agent, by reason.
        release: The release whose rules apply.
        rules: What other parts know.
        facts: What was read.
    """

    snapshot: Snapshot
    nodes: Sequence[str]
    left_out: Sequence[LeftOut]
    release: str
    rules: Rules
    facts: Facts

    def cluster(self) -> Cluster:
        """The same, to be asked many times."""
        return Cluster.build(self.snapshot)

    def for_pod(self, pod: JSON | None, *, pinned: Iterable[str] = ()) -> tuple[list[str], list[LeftOut]]:
        """The nodes that a pod may use, and the others by reason.

        Args:
            pod: The pod; None for a claim without one.
            pinned: Nodes of its claims that are allocated already.
        """
        only = set(pinned)
        found: list[str] = []
        left: dict[str, LeftOut] = {}
        for name in self.nodes:
            why = "another claim of the pod is allocated on another node" if only and only != {name} else ""
            if not why and pod is not None and self.facts.nodes is not None:
                node = self.facts.nodes.get(name)
                why = "there is no Node of this name" if node is None else self.rules.unfit(pod, node)
            if why:
                left.setdefault(why, LeftOut("NodeUnfit", why)).nodes.append(name)
            else:
                found.append(name)
        return found, [*left.values(), *self.left_out]


def world_of(
    facts: Facts, rules: Rules, *, classes: Sequence[JSON] = (), now: datetime | None = None
) -> World:
    """Makes a world of what was read.

    Args:
        facts: What was read.
        rules: What other parts know.
        classes: DeviceClasses that are there as well, before those of the cluster.
        now: The time; that of the system's clock if not given.
    """
    by_node: dict[str, list[JSON]] = {}
    for item in facts.slices:
        by_node.setdefault(slice_node(item), []).append(item)
    slices: list[JSON] = []
    nodes: list[str] = []
    left: dict[tuple[str, str], LeftOut] = {}
    for name in sorted({*facts.inventories, *by_node}):
        found = _offered(name, facts, by_node.get(name, ()))
        if not isinstance(found, LeftOut) and facts.resting(name, now=now or datetime.now(UTC)) > 0:
            text = "The controller gives its cards out soon: kube-scheduler may still bind pods there."
            found = LeftOut(_HANDOVER, text)
        if isinstance(found, LeftOut):
            left.setdefault((found.reason, found.message), found).nodes.append(name)
        else:
            slices += found
            nodes.append(name)
    own = {str(one["metadata"]["name"]) for one in classes}
    snapshot = Snapshot.build(
        slices=slices,
        classes=[*classes, *(one for one in facts.classes if str(one["metadata"]["name"]) not in own)],
        claims=[held for one in facts.claims if (held := rules.held(one)) is not None],
    )
    return World(
        snapshot=snapshot,
        nodes=nodes,
        left_out=sorted(left.values(), key=lambda one: -len(one.nodes)),
        release=rules.release(facts.release),
        rules=rules,
        facts=facts,
    )


def _offered(name: str, facts: Facts, slices: Sequence[JSON]) -> list[JSON] | LeftOut:
    inventory = facts.inventories.get(name)
    still_open = [one for one in slices if not is_fenced(one)]
    if still_open:
        return still_open
    condition = {} if inventory is None else published(inventory)
    if not slices or inventory is None:
        if condition.get("status") == "True":
            return LeftOut(
                "NoSlices", "Its slices are away at this moment; they are made again within a minute."
            )
        return LeftOut(
            str(condition.get("reason") or "NotPublished"),
            str(condition.get("message") or "The controller has published nothing of it yet."),
        )
    agent = facts.agent(name)
    gone = condition.get("reason") == _AGENT if facts.parts is None else agent is None or not agent.ready
    if gone:
        return LeftOut(_AGENT, "Its agent is not Ready, so nothing new is allocated there.")
    try:
        cards = cards_of(decode_status(inventory.get("status") or {}))
    except DragomanError as invalid:
        return LeftOut(invalid.reason, str(invalid))
    return [with_generation(one, 1) for one in publication_of(cards, node=name).slices]
