"""Runs the controller on the lists of a large cluster, made on the fly, and prints what it cost.

Use: ``python -m tests.support.large_cluster MODE``. Prints one line: nodes published, Events written, peak
RSS in MiB. The lists are made page by page, so that what the process holds is the controller's own. In mode
native half of the claims wait; in mode controller, which keeps all pods, most have their place. The webhooks
are served and all claims are held against a quota, as the chart has it by default.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import structlog

import controller.shell  # noqa: F401 - kopf is part of what a controller costs
from controller.app import assemble
from controller.health import Health
from controller.running import work
from controller.settings import CONTROLLER, Settings
from driver.api.node import AgentStatus, status_of
from driver.api.policy import effective_policy
from driver.api.share_allocation import GivenShare, config_entry
from driver.cards import Card
from driver.kube.client import ApiError, KubeClient, error_for
from tests.support.scripted_api import Request, ScriptedTransport

NODES = 1000
CARDS = 8
CLAIMS = 10_000
CLASS = "accelerator.dragoman.dev"
_POLICY = effective_policy([], node_labels={})
_PADDING = "x" * 4000
_WAITING = 50
"""Claims, and pods, that wait in mode controller."""
_LONG_AGO = "2026-01-01T00:00:00Z"


def _meta(name: str, namespace: str = "") -> dict[str, Any]:
    managed = [{"manager": "m" * 40, "fieldsV1": {f"f:{number}": {} for number in range(30)}}]
    extra = {"namespace": namespace} if namespace else {}
    return {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "managedFields": managed, **extra}


def _card(node: int, number: int) -> str:
    return f"nvidia-{node:04d}-{number}-aaaa-bbbb-cccc-dddddddddddd"


def _inventory(number: int) -> dict[str, Any]:
    cards = [
        Card(
            name=_card(number, index),
            vendor="nvidia",
            model="NVIDIA A100-SXM4-80GB",
            memory_bytes=80 << 30,
            uuid=f"GPU-{number:08d}-{index}",
            driver_version="550.54.15",
            architecture="Ampere",
            pci_bus_id=f"0000:{index:02x}:00.0",
            pcie_root=f"pci0000:{index:02x}",
            numa_node=index % 2,
        )
        for index in range(CARDS)
    ]
    status = status_of(cards, agent=AgentStatus(version="1"), policy=_POLICY)
    return {"metadata": _meta(f"n{number:04d}"), "status": status.model_dump(mode="json", by_alias=True)}


def _node(number: int) -> dict[str, Any]:
    names = [f"registry.example.com/image-{index}@sha256:{'0' * 64}" for index in range(50)]
    images = [{"names": [name], "sizeBytes": 1 << 28} for name in names]
    return {"metadata": _meta(f"n{number:04d}"), "status": {"images": images}}


def _agent(number: int) -> dict[str, Any]:
    return {
        "metadata": _meta(f"agent-{number:04d}", "d"),
        "spec": {"nodeName": f"n{number:04d}", "padding": _PADDING},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def _claim(number: int) -> dict[str, Any]:
    exactly = {"deviceClassName": CLASS, "capacity": {"requests": {"memory": "400Gi"}}}
    claim: dict[str, Any] = {
        "metadata": _meta(f"w{number:05d}", "ns"),
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }
    if number % 2:
        result = {
            "request": "r",
            "driver": "dragoman.dev",
            "pool": f"n{number % NODES:04d}/dragoman",
            "device": _card(number % NODES, number % CARDS),
            "shareID": f"6c1f2b0e-0000-0000-0000-{number:012d}",
            "consumedCapacity": {"memory": "4Gi", "cores": "0"},
        }
        claim["status"] = {"allocation": {"devices": {"results": [result]}}}
    return claim


def _pod(number: int) -> dict[str, Any]:
    name = f"w{number:05d}"
    claims = [{"name": "c", "resourceClaimName": name}]
    return {"metadata": _meta(name, "ns"), "spec": {"padding": _PADDING, "resourceClaims": claims}}


def _roomy_node(number: int) -> dict[str, Any]:
    node = _node(number)
    node["metadata"]["labels"] = {"kubernetes.io/hostname": node["metadata"]["name"]}
    ready = [{"type": "Ready", "status": "True"}]
    room = {"cpu": "96", "memory": "1Ti", "pods": "110"}
    return {**node, "status": {**node["status"], "allocatable": room, "conditions": ready}}


def _our_claim(number: int) -> dict[str, Any]:
    claim = _claim(number)
    if number >= _WAITING:
        # One for each card, as our allocator writes it.
        node, card = f"n{number % NODES:04d}", _card(number % NODES, number // NODES % CARDS)
        result = {"request": "r", "driver": "dragoman.dev", "pool": f"{node}/dragoman", "device": card}
        share = {"memory": "4Gi", "cores": "5"}
        given = GivenShare(request="r", pool=result["pool"], device=card, **share)
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        claim["status"] = {
            "allocation": {
                "devices": {
                    "results": [{**result, "shareID": f"6c1f-{number}", "consumedCapacity": share}],
                    "config": [config_entry([given])],
                },
                "nodeSelector": {"nodeSelectorTerms": [term]},
            },
            "reservedFor": [{"resource": "pods", "name": claim["metadata"]["name"], "uid": "u"}],
        }
    else:
        claim.pop("status", None)
    return claim


def _bound_pod(number: int) -> dict[str, Any]:
    pod = _pod(number)
    pod["metadata"]["creationTimestamp"] = _LONG_AGO
    pod["spec"]["containers"] = [{"name": "app", "resources": {"requests": {"cpu": "1m"}}}]
    if number >= _WAITING:
        pod["spec"]["nodeName"] = f"n{number % NODES:04d}"
        pod["status"] = {"phase": "Running"}
    return pod


def _class(_number: int) -> dict[str, Any]:
    selector = {"cel": {"expression": 'device.driver == "dragoman.dev"'}}
    return {"metadata": _meta(CLASS), "spec": {"selectors": [selector]}}


def _quota(_number: int) -> dict[str, Any]:
    return {"metadata": _meta("q", "ns"), "spec": {"hard": {"memory": "100Ti"}}}


_LISTS: dict[str, tuple[int, Callable[[int], dict[str, Any]]]] = {
    "/apis/dragoman.dev/v1alpha1/acceleratornodes": (NODES, _inventory),
    "/apis/dragoman.dev/v1alpha1/acceleratorpolicies": (0, _node),
    "/api/v1/nodes": (NODES, _node),
    "/api/v1/namespaces/d/pods": (NODES, _agent),
    "/apis/resource.k8s.io/v1/resourceslices": (0, _node),
    "/apis/resource.k8s.io/v1/resourceclaims": (CLAIMS, _claim),
    "/apis/resource.k8s.io/v1/deviceclasses": (1, _class),
    "/apis/dragoman.dev/v1alpha1/acceleratorquotas": (1, _quota),
    "/api/v1/pods": (CLAIMS, _pod),
}
_OF_MODE_CONTROLLER: dict[str, tuple[int, Callable[[int], dict[str, Any]]]] = {
    "/api/v1/nodes": (NODES, _roomy_node),
    "/apis/resource.k8s.io/v1/resourceclaims": (CLAIMS, _our_claim),
    "/api/v1/pods": (CLAIMS, _bound_pod),
}


class _Server:
    def __init__(self, lists: Mapping[str, tuple[int, Callable[[int], dict[str, Any]]]]) -> None:
        self._lists = lists
        self._lease: dict[str, Any] | None = None
        self._version = 10

    def answer(self, request: Request) -> dict[str, Any] | ApiError:
        self._version += 1
        if "leases" in request.path:
            if request.method == "GET":
                return self._lease or error_for(404, message="none")
            self._lease = self._stored(request.body)
            return self._lease
        if request.path == "/version":
            return {"major": "1", "minor": "36"}
        if request.method == "GET":
            return self._page(request)
        if request.method == "PATCH" and "acceleratornodes" in request.path:
            whole = _inventory(int(request.body["metadata"]["name"][1:]))
            whole["status"]["conditions"] = request.body["status"]["conditions"]
            return self._stored(whole)
        return self._stored(request.body)

    def _page(self, request: Request) -> dict[str, Any] | ApiError:
        if "limit" not in request.query:
            return error_for(404, message="none")
        count, make = self._lists.get(request.path, (0, _node))
        start = int(request.query.get("continue", "0"))
        end = min(start + int(request.query["limit"]), count)
        metadata = {"resourceVersion": "5", "continue": str(end) if end < count else ""}
        return _wire({"metadata": metadata, "items": [make(number) for number in range(start, end)]})

    def _stored(self, body: dict[str, Any]) -> dict[str, Any]:
        stored = _wire(body)
        version = str(self._version)
        stored.setdefault("metadata", {}).update(
            resourceVersion=version, uid=f"u{version}", creationTimestamp=_LONG_AGO
        )
        return stored


class _Unrecorded(list[Request]):
    """Requests are not what is measured."""

    def append(self, _request: Request) -> None:
        pass


def _wire(document: dict[str, Any]) -> dict[str, Any]:
    # Decoded JSON shares nothing with other documents; neither may this.
    copied: dict[str, Any] = json.loads(json.dumps(document))
    return copied


async def main(mode: str) -> str:
    """Runs until all nodes are published and the first pod is explained."""
    lists = {**_LISTS, **_OF_MODE_CONTROLLER} if mode == CONTROLLER else _LISTS
    transport = ScriptedTransport(_Server(lists).answer)
    transport.requests = _Unrecorded()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    settings = Settings(explain_after=0, mode=mode, webhook_port=port, listen="127.0.0.1", conversion="{}")
    parts = assemble(KubeClient(transport), settings, namespace="d", identity="me")
    sample = parts.metrics.registry.get_sample_value
    stop = asyncio.Event()
    shell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(work(parts, settings, health=Health(), stop=stop, ended=shell))
    published: float | None = 0
    events: float | None = 0
    while published != NODES or not events:
        await asyncio.sleep(0.5)
        published = sample("dragoman_controller_nodes_published")
        events = sample("dragoman_controller_events_total", {"reason": "NoDevice"})
    stop.set()
    await task
    return f"{published:.0f} {events:.0f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}"


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(asyncio.run(main(sys.argv[1])))  # noqa: T201 - what it is for
