"""The cluster of `hack/bench scale`: many nodes with cards, agents that are Ready, and the pods that ask.

Flow: `make_nodes` (kwok says that they are Ready) -> the chart's DaemonSet puts an agent's pod on each, which
kwok says is Ready -> `make_inventories` writes each AcceleratorNode with the agent's own code -> the
controller makes slices of them (`wait_offered`) -> `asking` makes pods, each with a claim of its own.

Limits: an agent on such a node is a pod that never ran; it is Ready and wrote its inventory, which is all
that the controller sees of an agent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from driver.api.node import AgentStatus
from driver.api.policy import effective_policy
from driver.cards import IsolationLevel, device_name
from driver.kube.resources import ACCELERATOR_NODES, NODES, RESOURCE_SLICES
from driver.vendors.simulated import parse_simulated_node
from kubelet_plugin.inventory import Snapshot
from kubelet_plugin.node_status import FIELD_MANAGER, StatusMaker
from tests.cluster.support.api import APPLY, DAEMON_SETS, Api, Refused
from tests.cluster.support.manifests import NVIDIA, container, pod, request, template
from tooling.bench.errors import BenchError
from tooling.cluster import kwok

JSON = dict[str, Any]
T = TypeVar("T")

LABEL = {"dragoman.dev/bench": "scale"}
TEMPLATE = "share"
MEMORY, CORES = "4Gi", "30"
FIT = 3
"""So many of them fit on a card, by compute."""
WRITERS = 8
"""Requests under way at the same time while the cluster and the pods are made."""
_GIB_A_CARD = 80
_PATIENCE_S = 600.0


def node_name(index: int) -> str:
    """Name of a node of ours."""
    return f"kwok-{index:05d}"


def make_nodes(api: Api, count: int) -> None:
    """Makes the nodes; kwok does the rest."""
    at_once(
        lambda index: _unless_there(lambda: api.create(NODES, kwok.node(node_name(index), labels=LABEL))),
        range(count),
    )


def wait_agents(api: Api, count: int, *, name: str, namespace: str) -> None:
    """Waits until the DaemonSet has an agent Ready on each node, ours and the cluster's own."""

    def ready() -> int:
        found = api.get(DAEMON_SETS, name, namespace=namespace).get("status") or {}
        return int(found.get("numberReady") or 0)

    _wait(ready, more_than=count, what="agents are Ready")


def make_inventories(api: Api, count: int, *, cards: int) -> None:
    """Writes what the agent of each node would have found: as the agent does, with server-side apply."""
    at_once(lambda index: _write_inventory(api, index, cards=cards), range(count))


def wait_offered(api: Api, count: int) -> None:
    """Waits until there is a slice for each node; no other driver is there."""

    def slices() -> int:
        page = api.page(RESOURCE_SLICES, limit="1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    _wait(slices, more_than=count - 1, what="nodes are offered")


def share() -> JSON:
    """The template of all claims: a limited share."""
    return template(TEMPLATE, request(of=NVIDIA, memory=MEMORY, cores=CORES))


def asking(name: str) -> JSON:
    """A pod with a claim from the template, for the nodes of kwok."""
    made = pod(name, container("app", "card"), templates={"card": TEMPLATE})
    made["spec"]["nodeSelector"] = dict(LABEL)
    # Nobody needs its token, and each pod would be larger by a volume.
    made["spec"]["automountServiceAccountToken"] = False
    return made


def at_once(work: Callable[[T], object], items: Sequence[T] | range) -> None:
    """Does something with each item, a few at the same time."""
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(work, items):
            pass


def devices(index: int, cards: int) -> list[str]:
    """Names of a node's devices."""
    return [device_name(vendor="nvidia", uuid=_uuid(index, card)) for card in range(cards)]


def inventory(name: str, *, index: int, cards: int, owner_uid: str) -> JSON:
    """An AcceleratorNode as its agent applies it."""
    node = parse_simulated_node(
        {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "SimulatedNode",
            "cards": [
                {
                    "vendor": "nvidia",
                    "model": "NVIDIA A100-SXM4-80GB",
                    "memory": f"{_GIB_A_CARD}Gi",
                    "uuid": _uuid(index, card),
                    "architecture": "Ampere",
                    "driverVersion": "575.51.03",
                    "pciBusID": f"0000:{card * 16 + 7:02x}:00.0",
                    "pcieRoot": f"pci0000:{card // 4:02x}",
                    "numaNode": card // 4,
                }
                for card in range(cards)
            ],
        }
    )
    policy = effective_policy([], node_labels={})
    held = {
        card.name: policy.apply(card).with_isolation(
            memory=IsolationLevel.PRELOAD, cores=IsolationLevel.PRELOAD
        )
        for card in node.cards
    }
    maker = StatusMaker(
        node_name=name,
        agent=AgentStatus(version="0", pod_name=f"agent-{name}", pod_uid=owner_uid),
        simulated=True,
        problems=tuple,
    )
    document = maker.document(Snapshot(cards=held, policy=policy, problems=(), complete=True))
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner_uid}
    document["metadata"]["ownerReferences"] = [owner]
    return document


def _uuid(index: int, card: int) -> str:
    return f"GPU-5ca1e000-0000-4000-8000-{index:08d}{card:04d}"


def _write_inventory(api: Api, index: int, *, cards: int) -> None:
    name = node_name(index)
    uid = api.get(NODES, name)["metadata"]["uid"]
    document = inventory(name, index=index, cards=cards, owner_uid=uid)
    _unless_there(lambda: api.create(ACCELERATOR_NODES, {"metadata": document["metadata"]}))
    path = ACCELERATOR_NODES.path(name=name, subresource="status")
    applied = {**document, "metadata": {"name": name}}
    api.request(
        "PATCH",
        path,
        query={"fieldManager": FIELD_MANAGER, "force": "true"},
        body=applied,
        content_type=APPLY,
    )


def _wait(count: Callable[[], int], *, more_than: int, what: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while (seen := count()) <= more_than:
        if time.monotonic() > until:
            raise BenchError(f"{seen} of {more_than + 1} {what} after {_PATIENCE_S:.0f} s.")
        time.sleep(1.0)


def _unless_there(create: Callable[[], object]) -> None:
    try:
        create()
    except Refused as refused:
        if refused.status != 409:
            raise
