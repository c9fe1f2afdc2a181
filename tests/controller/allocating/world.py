"""A cluster of cards, claims and pods around an allocator, with an API server behind it that keeps claims."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from controller.allocating.answers import Answer
from controller.allocating.aside import Run, at_once
from controller.allocating.part import Allocating, Surroundings
from controller.allocating.pod_fit import node_facts
from controller.allocating.views import claim_view, class_view
from controller.explaining.classes import is_ours
from controller.publishing.views import inventory_view
from driver.allocation.placement import PlacementPolicy
from driver.api.node import AgentStatus, status_of
from driver.api.policy import effective_policy
from driver.cards import Card
from driver.kube.client import ApiError, KubeClient, error_for
from driver.kube.informer import Informer
from driver.kube.resources import DEVICE_CLASSES, NODES, RESOURCE_CLAIMS
from tests.support.scripted_api import Request, ScriptedTransport

CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/"
PODS_PATH = "/api/v1/namespaces/default/pods/"
Refuse = Callable[[Request], ApiError | None]


class Inventories:
    """AcceleratorNodes, as an informer would hold them."""

    def __init__(self) -> None:
        self.views: dict[str, Any] = {}
        self.handlers: list[Any] = []

    def put(self, document: Any) -> None:
        key = document["metadata"]["name"]
        before = self.views.get(key)
        self.views[key] = inventory_view(document)
        for handler in self.handlers:
            handler(key, before, self.views[key])

    def get(self, key: str) -> Any:
        return self.views.get(key)

    def keys(self) -> list[str]:
        return list(self.views)

    def values(self) -> Iterator[Any]:
        return iter(self.views.values())

    def subscribe(self, handler: Any) -> None:
        self.handlers.append(handler)

    def observe(self, document: Any) -> None:
        raise AssertionError("inventories are not written here")


def card(name: str = "card-0", *, mib: int = 1000, **fields: Any) -> Card:
    return Card(**{"name": name, "vendor": "v", "model": "M", "memory_bytes": mib << 20, **fields})


class World:
    """Nodes with one card of 1000 MiB each, and whatever a test adds."""

    transport_of: Callable[[Any], ScriptedTransport] = ScriptedTransport

    def __init__(
        self,
        nodes: tuple[str, ...] = ("n1",),
        *,
        policy: dict[str, str] | None = None,
        run: Run = at_once,
    ) -> None:
        self.stored: dict[str, Any] = {}
        self.stored_pods: dict[str, Any] = {}
        self.refuse: Refuse = lambda _request: None
        self.after: Refuse = lambda _request: None
        self.mangle: Callable[[Any], None] = lambda _claim: None
        self.versions: Iterator[int] = itertools.count(100)
        self.transport = self.transport_of(self._answer)
        self.inventories = Inventories()
        self.answers: list[Answer] = []
        self.leading = True
        self.offered: set[str] = set()
        self.kept: bool | None = True
        client = KubeClient(self.transport)
        self.nodes = Informer(client, NODES, node_facts)
        self.claims = Informer(client, RESOURCE_CLAIMS, claim_view)
        self.classes = Informer(client, DEVICE_CLASSES, lambda one: class_view(one, ours=is_ours(one)))
        self.part = Allocating(
            client,
            self.nodes,
            self.inventories,
            Surroundings(
                left_s=lambda: 10.0 if self.leading else 0.0,
                offered=lambda node: node in self.offered,
                release=lambda: "1.36",
                amounts_kept=lambda: self.kept,
                answered=self.answers.append,
                claims_version=lambda: self.claims.version,
            ),
            claims=self.claims,
            classes=self.classes,
            policy=PlacementPolicy.parse(policy),
            orphaned_s=60,
            run=run,
            wall_clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )
        (self.pods,) = self.part.informers
        self.device_class("accelerator.dragoman.dev")
        self.device_class("nic.example", selectors=[])
        for name in nodes:
            self.node(name)
            self.cards(name, card())

    def _answer(self, request: Request) -> Any:
        refused = self.refuse(request)
        if refused is not None:
            return refused
        if request.path.endswith("/resourceclaims"):
            return {"items": copy.deepcopy(list(self.stored.values())), "metadata": self.listed()}
        if request.path.startswith(PODS_PATH):
            return copy.deepcopy(self.stored_pods.get(request.path.removeprefix(PODS_PATH)))
        name, _, part = request.path.removeprefix(CLAIMS).partition("/")
        present = self.stored.get(name)
        if present is None:
            return error_for(404, message="not found")
        if request.method == "GET":
            return copy.deepcopy(present)
        sent = copy.deepcopy(request.body)
        if sent["metadata"]["resourceVersion"] != present["metadata"]["resourceVersion"]:
            return error_for(409, message="changed")
        if part == "status":
            made = {**present, "status": sent["status"]}
            self.mangle(made)
        else:
            made = {**sent, "status": present.get("status", {})}
        self.stored[name] = self._versioned(made)
        return self.after(request) or copy.deepcopy(self.stored[name])

    def listed(self) -> dict[str, str]:
        """What a list says of itself."""
        return {}

    def _versioned(self, document: Any) -> Any:
        made = copy.deepcopy(document)
        made["metadata"]["resourceVersion"] = str(next(self.versions))
        return made

    def _put(self, informer: Any, document: Any) -> None:
        document["metadata"].setdefault("uid", f"uid-{document['metadata']['name']}")
        informer.observe(self._versioned(document))

    def device_class(self, name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        selectors = [{"cel": {"expression": 'device.driver == "dragoman.dev"'}}]
        metadata = {"name": name, "annotations": annotations or {}}
        self._put(self.classes, {"metadata": metadata, "spec": {"selectors": selectors, **spec}})

    def node(self, name: str, *, status: dict[str, Any] | None = None, **spec: Any) -> None:
        self._put(
            self.nodes,
            {
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "spec": spec,
                "status": {
                    "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                    **(status or {}),
                },
            },
        )
        self.offered.add(name)

    def cards(self, node: str, *cards: Card) -> None:
        policy = effective_policy([], node_labels={})
        status = status_of(list(cards), agent=AgentStatus(version="1"), policy=policy)
        text = status.model_dump_json(by_alias=True)
        self.inventories.put({"metadata": {"name": node}, "status": json.loads(text)})
        self.part.node_changed(node)

    def claim(
        self,
        name: str,
        memory: str = "400Mi",
        cores: str = "30",
        *,
        device_class: str = "accelerator.dragoman.dev",
        more: tuple[Any, ...] = (),
        config: tuple[Any, ...] = (),
        annotations: dict[str, str] | None = None,
        selectors: Sequence[str] = (),
    ) -> None:
        asked = {"memory": memory, "cores": cores} if memory else None
        exactly: dict[str, Any] = {
            "deviceClassName": device_class,
            "count": 1,
            "allocationMode": "ExactCount",
            "selectors": [{"cel": {"expression": one}} for one in selectors],
        }
        if asked:
            exactly["capacity"] = {"requests": asked}
        document = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "annotations": annotations or {},
            },
            "spec": {
                "devices": {"requests": [{"name": "gpu", "exactly": exactly}, *more], "config": list(config)}
            },
        }
        self.store(document)

    def store(self, document: Any) -> None:
        """Stores a claim, and lets the watch show it."""
        made = self._versioned(document)
        self.stored[made["metadata"]["name"]] = made
        self.claims.observe(copy.deepcopy(made))

    def take_back(self, name: str) -> None:
        """What kube-scheduler does with an allocation for a node that the pod cannot use."""
        document = copy.deepcopy(self.stored[name])
        document["status"] = {}
        self.store(document)

    def pod(self, name: str, *claims: str, status: dict[str, Any] | None = None, **spec: Any) -> None:
        self.stored_pods[name] = {
            "metadata": {"name": name, "namespace": "default", "uid": f"pod-{name}"},
            "spec": {
                "containers": [{}],
                "resourceClaims": [{"name": one, "resourceClaimName": one} for one in claims],
                **spec,
            },
            "status": status or {},
        }
        self._put(self.pods, self.stored_pods[name])

    def ask(self, name: str, memory: str = "400Mi", cores: str = "30", **spec: Any) -> None:
        """A pod with a claim of its name."""
        self.claim(name, memory, cores)
        self.pod(name, name, **spec)

    async def reconcile(self, *pods: str) -> float | None:
        result = None
        for pod in pods:
            result = await self.part.reconcile(f"pod/default/{pod}")
        return result

    def allocation(self, name: str) -> Any:
        return (self.stored[name].get("status") or {}).get("allocation")

    def node_of(self, name: str) -> str:
        allocation = self.allocation(name)
        if not allocation:
            return ""
        return str(allocation["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])

    def reason(self) -> str:
        answer = self.answers[-1]
        if answer.error is not None:
            return answer.error.reason
        assert answer.decision is not None
        return answer.decision.refusal.reason if answer.decision.refusal else ""


def without_shares(claim: Any) -> None:
    """What a server without DRAConsumableCapacity stores."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    for result in (allocation.get("devices") or {}).get("results") or []:
        result.pop("shareID", None)
        result.pop("consumedCapacity", None)
