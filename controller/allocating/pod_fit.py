"""Which nodes a pod may use, as far as it can be said without kube-scheduler.

Purpose: an allocation pins a pod to a node, so the node has to be one that the pod can run on.

Flow: `node_facts` and `pod_facts` read the API's objects (`pod_wishes` and `facts_of` do so in two steps,
between which a pod is kept as text); `controller.allocating.comparing` says why a pod cannot use a node.

Source of the rules: kube-scheduler's filters NodeUnschedulable, NodeName, TaintToleration, NodeAffinity and
NodeResourcesFit (processor, memory, number of pods).

Limits: not looked at are affinity between pods, topology spread, volumes, host ports, extended resources and
huge pages. Where kube-scheduler refuses the node because of them it takes the allocation back.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from driver.allocation.models import Taint
from driver.errors import QuantityError
from driver.kube.client import JSON
from driver.quantities import parse_quantity

UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
HARD = frozenset({"NoSchedule", "NoExecute"})
_DONE = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a pod asks of a node, or a node has.

    Attributes:
        cpu_nano: Processor time in billionths of a processor.
        memory_bytes: Memory in bytes.
        pods: Number of pods.
    """

    cpu_nano: int = 0
    memory_bytes: int = 0
    pods: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        """Add dimension by dimension."""
        return Amounts(
            self.cpu_nano + other.cpu_nano, self.memory_bytes + other.memory_bytes, self.pods + other.pods
        )

    def __sub__(self, other: Amounts) -> Amounts:
        """Subtract dimension by dimension."""
        return Amounts(
            self.cpu_nano - other.cpu_nano, self.memory_bytes - other.memory_bytes, self.pods - other.pods
        )


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What matters of a Node.

    Attributes:
        uid: UID of the Node.
        labels: Its labels.
        taints: Its taints.
        unschedulable: Whether it is cordoned.
        ready: Whether its condition `Ready` is true.
        allocatable: What pods may ask of it.
        extended: Extended resources that it offers by itself, as by a device plugin.
    """

    uid: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    unschedulable: bool
    ready: bool
    allocatable: Amounts
    extended: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What matters of a pod for the choice of its node.

    Attributes:
        asks: Processor and memory, and itself as one pod.
        node_selector: Labels that its node must have.
        affinity: Required node affinity, None if it has none.
        tolerations: What it tolerates.
        node_name: The node that it was created for, "" if the scheduler chooses.
    """

    asks: Amounts = field(default_factory=lambda: Amounts(pods=1))
    node_selector: Mapping[str, str] = field(default_factory=dict)
    affinity: JSON | None = None
    tolerations: tuple[JSON, ...] = ()
    node_name: str = ""


def node_facts(document: JSON) -> NodeFacts:
    """Projects a Node."""
    spec, status = document.get("spec") or {}, document.get("status") or {}
    allocatable = status.get("allocatable") or {}
    conditions = status.get("conditions") or []
    return NodeFacts(
        uid=str(document["metadata"].get("uid") or ""),
        # Nodes have most of their labels in common.
        labels={
            sys.intern(str(name)): sys.intern(str(value))
            for name, value in (document["metadata"].get("labels") or {}).items()
        },
        taints=tuple(
            Taint(*(str(one.get(key) or "") for key in ("key", "value", "effect")))
            for one in spec.get("taints") or []
        ),
        unschedulable=spec.get("unschedulable") is True,
        ready=any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions),
        allocatable=Amounts(
            _nano(allocatable.get("cpu")), _bytes(allocatable.get("memory")), _bytes(allocatable.get("pods"))
        ),
        extended=frozenset(
            sys.intern(name) for name, amount in allocatable.items() if "/" in name and str(amount) != "0"
        ),
    )


def pod_facts(document: JSON) -> PodFacts:
    """Projects a pod."""
    node_name = str((document.get("spec") or {}).get("nodeName") or "")
    return replace(facts_of(pod_wishes(document), asks=pod_asks(document)), node_name=node_name)


def pod_wishes(document: JSON) -> JSON:
    """The parts of a pod's spec that decide where it may run, as far as they are there."""
    spec = document.get("spec") or {}
    node_affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    wishes = {
        "nodeSelector": spec.get("nodeSelector"),
        "affinity": node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution"),
        "tolerations": spec.get("tolerations"),
    }
    return {name: wish for name, wish in wishes.items() if wish}


def facts_of(wishes: JSON, *, asks: Amounts) -> PodFacts:
    """What matters of a pod that waits, from what `pod_wishes` gave."""
    return PodFacts(
        asks=asks,
        node_selector=wishes.get("nodeSelector") or {},
        affinity=wishes.get("affinity"),
        tolerations=tuple(wishes.get("tolerations") or ()),
    )


def pod_asks(document: JSON) -> Amounts:
    """What a pod asks of its node; nothing once it is done.

    Source: the API convention for effective requests: containers and sidecars together, or the largest init
    container with the sidecars started before it, whichever is more, and the overhead; amounts of the pod as
    a whole replace the sum (KEP-2837).
    """
    if (document.get("status") or {}).get("phase") in _DONE:
        return Amounts()
    spec = document.get("spec") or {}
    running = Amounts()
    for one in spec.get("containers") or []:
        running += _requests(one)
    largest, sidecars = Amounts(), Amounts()
    for one in spec.get("initContainers") or []:
        if one.get("restartPolicy") == "Always":
            sidecars += _requests(one)
            largest = _larger(largest, sidecars)
        else:
            largest = _larger(largest, sidecars + _requests(one))
    asked = _larger(running + sidecars, largest)
    whole = (spec.get("resources") or {}).get("requests") or {}
    overhead = spec.get("overhead") or {}
    return Amounts(
        (_nano(whole["cpu"]) if "cpu" in whole else asked.cpu_nano) + _nano(overhead.get("cpu")),
        (_bytes(whole["memory"]) if "memory" in whole else asked.memory_bytes)
        + _bytes(overhead.get("memory")),
        1,
    )


def short_of(asks: Amounts, free: Amounts) -> str:
    """What a node has too little of for a pod, "" if nothing."""
    if asks.pods > free.pods:
        return "the node holds as many pods as it may"
    if asks.cpu_nano and asks.cpu_nano > free.cpu_nano:
        return "the node has too little processor time left"
    if asks.memory_bytes and asks.memory_bytes > free.memory_bytes:
        return "the node has too little memory left"
    return ""


def _requests(container: JSON) -> Amounts:
    requests = (container.get("resources") or {}).get("requests") or {}
    return Amounts(_nano(requests.get("cpu")), _bytes(requests.get("memory")))


def _larger(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(
        max(one.cpu_nano, other.cpu_nano),
        max(one.memory_bytes, other.memory_bytes),
        max(one.pods, other.pods),
    )


def _nano(text: Any) -> int:
    try:
        return parse_quantity(str(text)).nano if text is not None else 0
    except QuantityError:
        return 0


def _bytes(text: Any) -> int:
    try:
        return parse_quantity(str(text)).rounded_up if text is not None else 0
    except QuantityError:
        return 0
