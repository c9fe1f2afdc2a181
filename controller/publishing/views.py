"""What publishing keeps of the API's objects.

Limits: a thousand nodes have to fit into little memory: inventories and slices are kept as JSON text,
which is ten times smaller than the same as dicts, and decoded when their node has its turn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driver.cards import DRIVER_NAME, node_of_pool
from driver.kube.client import JSON
from driver.slices import ExistingSlice, canonical, content_digest

PUBLISHED = "Published"
"""Type of the condition that says what became of a node's cards."""
HANDED_OVER = "HandedOver"
"""Type of the condition that says who allocates them."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as it is stored; `since` is its lastTransitionTime."""

    status: str
    reason: str
    message: str
    since: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """An AcceleratorNode: its status as JSON text (b"" if it has none) and our conditions on it."""

    status: bytes
    published: Condition | None
    handed_over: Condition | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """A Node."""

    uid: str


@dataclass(frozen=True, slots=True)
class AgentView:
    """A pod of the agent: where it runs and whether it is Ready and not going away."""

    node: str
    ready: bool


@dataclass(frozen=True, slots=True)
class SliceView:
    """A ResourceSlice of our driver: what planning needs, its spec as JSON text, and when it was made."""

    existing: ExistingSlice
    node: str
    spec: bytes
    created: str = ""


def inventory_view(document: JSON) -> Inventory:
    """Projects an AcceleratorNode."""
    status = _mapping(document.get("status"))
    conditions = status.get("conditions")
    found: dict[str, Condition] = {}
    for condition in conditions if isinstance(conditions, list) else []:
        if isinstance(condition, Mapping) and condition.get("type") in (PUBLISHED, HANDED_OVER):
            found[str(condition["type"])] = Condition(
                status=str(condition.get("status")),
                reason=str(condition.get("reason")),
                message=str(condition.get("message")),
                since=str(condition.get("lastTransitionTime") or ""),
            )
    ours = {key: value for key, value in status.items() if key != "conditions"}
    return Inventory(
        status=canonical(ours) if ours else b"",
        published=found.get(PUBLISHED),
        handed_over=found.get(HANDED_OVER),
    )


def agent_view(document: JSON) -> AgentView | None:
    """Projects an agent's pod; None while it is not on a node."""
    node = str(_mapping(document.get("spec")).get("nodeName") or "")
    if not node:
        return None
    conditions = _mapping(document.get("status")).get("conditions") or []
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return AgentView(node=node, ready=ready and not document["metadata"].get("deletionTimestamp"))


def slice_view(document: JSON) -> SliceView | None:
    """Projects a ResourceSlice; None if it is not of our driver."""
    spec = _mapping(document.get("spec"))
    if spec.get("driver") != DRIVER_NAME:
        return None
    metadata = document["metadata"]
    return SliceView(
        existing=ExistingSlice(
            name=str(metadata["name"]),
            uid=str(metadata.get("uid") or ""),
            resource_version=str(metadata.get("resourceVersion") or ""),
            generation=int(_mapping(spec.get("pool")).get("generation") or 0),
            digest=content_digest(spec),
            node_name=str(spec.get("nodeName") or ""),
        ),
        # Slices that kube-scheduler must not use name no node, but their pool does.
        node=str(spec.get("nodeName") or node_of_pool(str(_mapping(spec.get("pool")).get("name") or ""))),
        spec=canonical(spec),
        created=str(metadata.get("creationTimestamp") or ""),
    )


class Groups:
    """Which keys belong to which group: slices by node, agents by node."""

    def __init__(self) -> None:
        self._group_of: dict[str, str] = {}
        self._members: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, key: str, group: str | None) -> None:
        """Moves a key into a group, or out of all (None)."""
        before = self._group_of.pop(key, None)
        if before is not None:
            self._members[before].discard(key)
            if not self._members[before]:
                del self._members[before]
        if group is not None:
            self._group_of[key] = group
            self._members[group].add(key)

    def members(self, group: str) -> list[str]:
        """The keys of a group, sorted."""
        return sorted(self._members.get(group, ()))

    def groups(self) -> list[str]:
        """All groups that have members."""
        return list(self._members)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
