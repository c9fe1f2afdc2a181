"""More nodes than the machine has: Nodes without a kubelet, kept alive, whose agents report simulated cards.

Purpose: hundreds of claims need more cards, and their pods more room, than one kubelet has.
Flow: `open_nodes` makes Node, AcceleratorNode and lease; the DaemonSet puts an agent's pod on each, as on any
node, and what a kubelet would write (the pod runs, the node lives) is written by a thread here.
Limits: pods that are bound there stay Pending and prepare nothing: whoever looks at limits in containers has
to use the cluster's own node. They are deleted without grace, as nobody is there to end them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import urllib3

from driver.api.node import AgentStatus, status_of
from driver.api.policy import effective_policy
from driver.cards import Card
from driver.kube.resources import ACCELERATOR_NODES, LEASES, NODES, PODS
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, Api, Refused
from tests.cluster.support.installation import Installation, ready
from tests.cluster.support.watcher import Device

_LEASES_OF_NODES = "kube-node-lease"
_EVERY_S = 5.0
CARD_MIB = 40 * 1024


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """The nodes, and the memory of each card of the cluster in MiB, its own node's included."""

    names: tuple[str, ...]
    capacity: dict[Device, int]


@contextlib.contextmanager
def open_nodes(
    installed: Installation, *, names: Sequence[str], cards: int, own: dict[Device, int]
) -> Iterator[Nodes]:
    """Nodes with cards of 40 GiB, offered by the time the body runs, alive until it ends.

    Args:
        installed: Where; the controller has to run.
        names: Names of the nodes.
        cards: Cards of each.
        own: The cards of the cluster's own node.
    """
    api, capacity = installed.api, dict(own)
    for name in names:
        _create(api, name)
        found = [_card(name, number) for number in range(cards)]
        capacity |= {(f"{name}/dragoman", one.name): CARD_MIB for one in found}
        _report(api, name, found)
    stop = threading.Event()
    thread = threading.Thread(target=_live, args=(installed, tuple(names), stop), daemon=True)
    thread.start()
    try:
        installed.wait_slices(
            lambda now: {one["spec"]["pool"]["name"] for one in now} >= {f"{one}/dragoman" for one in names},
            what="the cards of all nodes are offered",
        )
        yield Nodes(names=tuple(names), capacity=capacity)
    finally:
        stop.set()
        thread.join(15)


def _create(api: Api, name: str) -> None:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    api.create(NODES, {"metadata": {"name": name, "labels": labels}})
    _be_ready(api, name)
    # With a moment: a lease that is seen without one is never taken for renewed, and its node for dead.
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": _now()}
    api.create(LEASES, {"metadata": {"name": name}, "spec": spec}, namespace=_LEASES_OF_NODES)


def _be_ready(api: Api, name: str) -> None:
    resources = {"cpu": "64", "memory": "256Gi", "pods": "250"}
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kept alive by a test",
        "lastHeartbeatTime": _second(),
        "lastTransitionTime": _second(),
    }
    status = {"capacity": resources, "allocatable": resources, "conditions": [condition]}
    api.patch(NODES, name, {"status": status}, subresource="status")


def _card(node: str, number: int) -> Card:
    return Card(
        name=f"nvidia-{node}-{number:02d}",
        vendor="nvidia",
        model="NVIDIA A100-PCIE-40GB",
        memory_bytes=CARD_MIB << 20,
        uuid=f"GPU-{node}-{number:02d}",
        driver_version="575.51.03",
        architecture="Ampere",
        pci_bus_id=f"0000:{number:02x}:00.0",
    )


def _report(api: Api, node: str, cards: Sequence[Card]) -> None:
    api.create(ACCELERATOR_NODES, {"metadata": {"name": node}})
    policy = effective_policy([], node_labels={})
    status = status_of(cards, agent=AgentStatus(version="1"), policy=policy)
    document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    api.patch(ACCELERATOR_NODES, node, {"status": document}, subresource="status")


def _live(installed: Installation, names: tuple[str, ...], stop: threading.Event) -> None:
    """What the kubelets of these nodes would write."""
    while True:
        for name in names:
            with contextlib.suppress(Refused, urllib3.exceptions.HTTPError):
                _renew(installed.api, name)
        with contextlib.suppress(Refused, urllib3.exceptions.HTTPError, waiting.Waited):
            for node in installed.api.list(NODES):
                # Somebody whose lease came late.
                if node["metadata"]["name"] in names and not ready(node):
                    _be_ready(installed.api, node["metadata"]["name"])
            for pod in installed.api.list(PODS, namespace=installed.namespace):
                _run(installed.api, pod, names)
        if stop.wait(_EVERY_S):
            return


def _renew(api: Api, name: str) -> None:
    api.patch(LEASES, name, {"spec": {"renewTime": _now()}}, namespace=_LEASES_OF_NODES)


def _run(api: Api, pod: JSON, names: tuple[str, ...]) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    if pod["spec"].get("nodeName") not in names:
        return
    if pod["metadata"].get("deletionTimestamp"):
        api.delete(PODS, name, namespace=namespace, grace_s=0)
        return
    if pod["status"].get("phase") == "Running" and ready(pod):
        return
    moment = _second()
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": moment}
        for kind in ("Ready", "ContainersReady")
    ]
    status = {"phase": "Running", "startTime": moment, "conditions": conditions}
    api.patch(PODS, name, {"status": status}, namespace=namespace, subresource="status")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _second() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
