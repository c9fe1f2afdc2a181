"""The cluster as one person may see it.

Flow: `read_facts` lists everything at once; `Facts` says of each node what it publishes and whether its agent
is there, and who allocates.

Limits: one look at one moment; the lists are not of one instant. Cards are read off AcceleratorNodes without
decoding them strictly: what a newer agent adds is no reason to say nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from controller.cli.reading import VERSION, Reading, right
from controller.cli.shares import Share, shares_of, trimmed
from driver.cards import DRIVER_NAME, node_of_pool
from driver.kube.client import JSON
from driver.kube.resources import (
    ACCELERATOR_NODES,
    ACCELERATOR_POLICIES,
    DEVICE_CLASSES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from driver.slices import FENCE

NATIVE, CONTROLLER, HANDOVER, NOTHING = "native", "controller", "handover", "none"

HANDOVER_WAIT_S = 30.0
"""The controller's default for `handover-wait`."""

_PARTS = "app.kubernetes.io/name=dragoman,app.kubernetes.io/component in (agent,controller)"
_SETTINGS = (
    "DRAGOMAN_MODE",
    "DRAGOMAN_HANDOVER_WAIT",
    "DRAGOMAN_PLACEMENT_NODES",
    "DRAGOMAN_PLACEMENT_CARDS",
    "DRAGOMAN_PLACEMENT_TOPOLOGY",
)


@dataclass(frozen=True, kw_only=True)
class PartPod:
    """A pod of an agent or a controller."""

    name: str
    namespace: str
    component: str
    node: str
    ready: bool
    created: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was read.

    Attributes:
        version: The API server's version, such as `v1.36.3`; "" if it may not be read.
        inventories: AcceleratorNodes by name.
        slices: ResourceSlices of our driver.
        claims: Allocated claims that hold cards of ours, trimmed.
        classes: All DeviceClasses.
        parts: Pods of agents and controllers; None if they may not be listed.
        nodes: Nodes by name; None if they may not be listed, or were not asked for.
        missing: Rights that were missing.
        lacking: Those of them without which no answer can be computed.
        policies: AcceleratorPolicies that go from node to node; empty if they were not asked for.
    """

    version: str
    inventories: Mapping[str, JSON]
    slices: Sequence[JSON]
    claims: Sequence[JSON]
    classes: Sequence[JSON]
    parts: Sequence[PartPod] | None
    nodes: Mapping[str, JSON] | None
    missing: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    policies: Sequence[JSON] = ()

    @property
    def needed(self) -> bool:
        """Whether all is there that an answer is computed from."""
        return not self.lacking

    @property
    def release(self) -> str:
        """The release, such as `1.36`; "" if it is not known."""
        found = re.match(r"v?(\d+\.\d+)", self.version)
        return found[1] if found else ""

    @property
    def mode(self) -> str:
        """Who allocates, by the slices there are: `native`, `controller`, both (`handover`) or `none`."""
        fenced = {is_fenced(one) for one in self.slices}
        if not fenced:
            return NOTHING
        return HANDOVER if len(fenced) > 1 else CONTROLLER if fenced.pop() else NATIVE

    @property
    def allocating(self) -> str:
        """The same, and where nothing is published yet, who is to allocate."""
        seen = self.mode
        return self.settings.get("DRAGOMAN_MODE", NOTHING) if seen == NOTHING else seen

    @property
    def names_carried(self) -> bool:
        """Whether the webhook's word that a class stands for an extended resource counts."""
        return self.allocating != NATIVE

    @property
    def settings(self) -> Mapping[str, str]:
        """What the controllers were told; while a change is rolled out, what the newest one was told."""
        found: dict[str, str] = {}
        for one in self.controllers:
            found.update(one.settings)
        return found

    @cached_property
    def controllers(self) -> Sequence[PartPod]:
        """The controllers' pods, the newest last."""
        found = [one for one in self.parts or () if one.component == "controller"]
        return sorted(found, key=lambda one: (one.created, one.name))

    @cached_property
    def nodes_with_slices(self) -> frozenset[str]:
        """Nodes that have ResourceSlices, fenced or not."""
        return frozenset(map(slice_node, self.slices))

    def resting(self, node: str, *, now: datetime) -> float:
        """Seconds until a node's cards are given out by the controller, 0 if they are or it does not do so.

        kube-scheduler may still bind pods by what it saw before the slices were fenced. While the controller
        says that it waits for some of them, it is a second at least.
        """
        made = self._fenced_since.get(node)
        if made is None:
            return 0.0
        wait_s = float(self.settings.get("DRAGOMAN_HANDOVER_WAIT") or HANDOVER_WAIT_S)
        told = handed_over(self.inventories.get(node) or {}).get("reason") == "KubeSchedulerMayBind"
        return max(wait_s - (now - made).total_seconds(), 1.0 if told else 0.0)

    @cached_property
    def _fenced_since(self) -> Mapping[str, datetime]:
        """When the newest fenced slice of each node was made; nodes with open slices left out."""
        found: dict[str, datetime] = {}
        for item in self.slices:
            made = str(item["metadata"].get("creationTimestamp") or "")
            if made and is_fenced(item):
                moment = datetime.fromisoformat(made)
                found[slice_node(item)] = max(moment, found.get(slice_node(item), moment))
        for item in self.slices:
            if not is_fenced(item):
                found.pop(slice_node(item), None)
        return found

    def agent(self, node: str) -> PartPod | None:
        """The agent of a node: a Ready one if there is one."""
        return self._agents.get(node)

    @cached_property
    def _agents(self) -> Mapping[str, PartPod]:
        found: dict[str, PartPod] = {}
        for one in self.parts or ():
            if one.component == "agent" and (one.ready or one.node not in found):
                found[one.node] = one
        return found

    def shares(self) -> list[Share]:
        """All that claims hold."""
        return [share for claim in self.claims for share in shares_of(claim)]


def is_fenced(item: JSON) -> bool:
    """Whether kube-scheduler cannot allocate from a slice."""
    return (item.get("spec") or {}).get("nodeSelector") == FENCE


def slice_node(item: JSON) -> str:
    """The node whose cards a slice of ours shows."""
    spec = item.get("spec") or {}
    return str(spec.get("nodeName") or node_of_pool(str((spec.get("pool") or {}).get("name") or "")))


def cards_of(inventory: JSON) -> list[JSON]:
    """The cards that an AcceleratorNode reports."""
    cards = (inventory.get("status") or {}).get("cards") or []
    return [one for one in cards if isinstance(one, dict)]


def published(inventory: JSON) -> JSON:
    """The condition `Published` of an AcceleratorNode; empty if it has none."""
    return _condition(inventory, "Published")


def handed_over(inventory: JSON) -> JSON:
    """The condition `HandedOver` of an AcceleratorNode; empty if it has none."""
    return _condition(inventory, "HandedOver")


def _condition(inventory: JSON, kind: str) -> JSON:
    for one in (inventory.get("status") or {}).get("conditions") or []:
        if one.get("type") == kind:
            return dict(one)
    return {}


async def read_facts(
    reading: Reading, *, classes: bool = True, nodes: bool = True, policies: bool = False
) -> Facts:
    """Lists what there is.

    Args:
        reading: The API server.
        classes: Whether DeviceClasses are needed.
        nodes: Whether Nodes are needed.
        policies: Whether AcceleratorPolicies are.

    Raises:
        ApiError: The API server did not answer, or refused for another reason than a missing right.
    """

    async def nothing() -> list[JSON] | None:
        return None

    (
        (version, inventories, slices, claims),
        (found_classes, parts, found_nodes, rolled),
    ) = await asyncio.gather(
        asyncio.gather(
            reading.version(),
            reading.all(ACCELERATOR_NODES, _bare),
            reading.all(RESOURCE_SLICES, _bare, field_selector=f"spec.driver={DRIVER_NAME}"),
            reading.all(RESOURCE_CLAIMS, trimmed),
        ),
        asyncio.gather(
            reading.all(DEVICE_CLASSES, _bare) if classes else nothing(),
            reading.all(PODS, _part, label_selector=_PARTS),
            reading.all(NODES, _node, page_size=100) if nodes else nothing(),
            reading.all(ACCELERATOR_POLICIES, _rolled_out) if policies else nothing(),
        ),
    )
    wanted = [ACCELERATOR_NODES, RESOURCE_SLICES, RESOURCE_CLAIMS, *([DEVICE_CLASSES] if classes else [])]
    # What a claim's amounts mean is told by the release.
    needed = {VERSION, *(right("list", one) for one in wanted)}
    return Facts(
        version=version,
        inventories={str(one["metadata"]["name"]): one for one in inventories or []},
        slices=sorted(slices or [], key=lambda one: str(one["metadata"]["name"])),
        claims=claims or [],
        classes=found_classes or [],
        parts=parts,
        nodes=None if found_nodes is None else {str(one["metadata"]["name"]): one for one in found_nodes},
        missing=tuple(reading.missing),
        lacking=tuple(one for one in reading.missing if one in needed),
        policies=rolled or (),
    )


def _rolled_out(document: JSON) -> JSON | None:
    """A policy that goes from node to node; None for one that does not."""
    return _bare(document) if (document.get("spec") or {}).get("maxUnavailable") is not None else None


def _bare(document: JSON) -> JSON:
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    return {**document, "metadata": metadata}


def _node(document: JSON) -> JSON:
    """A Node without the images that it lists."""
    status = document.get("status") or {}
    kept = {name: status[name] for name in ("allocatable", "conditions") if name in status}
    metadata = {name: document["metadata"].get(name) for name in ("name", "uid", "labels")}
    return {"metadata": metadata, "spec": document.get("spec") or {}, "status": kept}


def _part(document: JSON) -> PartPod:
    metadata, spec = document["metadata"], document.get("spec") or {}
    conditions = (document.get("status") or {}).get("conditions") or []
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    containers = spec.get("containers") or [{}]
    settings = {
        str(one["name"]): str(one["value"])
        for one in containers[0].get("env") or []
        if one.get("name") in _SETTINGS and one.get("value") is not None
    }
    return PartPod(
        name=str(metadata.get("name")),
        namespace=str(metadata.get("namespace")),
        component=str((metadata.get("labels") or {}).get("app.kubernetes.io/component")),
        node=str(spec.get("nodeName") or ""),
        ready=ready and not metadata.get("deletionTimestamp"),
        created=str(metadata.get("creationTimestamp") or ""),
        settings=settings,
    )
