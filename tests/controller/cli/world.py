"""A small cluster behind a scripted API server, and the command line run against it in this process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from controller.cli.main import run
from controller.kubectl_rules import rules
from driver.api.node import AgentStatus, status_of
from driver.api.policy import effective_policy
from driver.cards import Card, IsolationLevel
from driver.kube.client import ApiError, error_for
from driver.slices import publication_of, with_generation
from tests.support.scripted_api import Request, ScriptedTransport

JSON = dict[str, Any]

CLASS: JSON = {
    "metadata": {"name": "nvidia.dragoman.dev", "labels": {"dragoman.dev/driver": "true"}},
    "spec": {
        "selectors": [
            {
                "cel": {
                    "expression": 'device.driver == "dragoman.dev" && '
                    'device.attributes["dragoman.dev"].vendor == "nvidia"'
                }
            }
        ]
    },
}
ANY_CLASS: JSON = {
    "metadata": {"name": "accelerator.dragoman.dev", "labels": {"dragoman.dev/driver": "true"}},
    "spec": {"selectors": [{"cel": {"expression": 'device.driver == "dragoman.dev"'}}]},
}
OTHER_CLASS: JSON = {"metadata": {"name": "fpga.example.com"}, "spec": {}}
TOKEN = "token-that-nobody-may-see"

_COLLECTIONS = {
    "/apis/dragoman.dev/v1alpha1/acceleratornodes": "inventories",
    "/apis/dragoman.dev/v1alpha1/acceleratorpolicies": "policies",
    "/apis/resource.k8s.io/v1/resourceslices": "slices",
    "/apis/resource.k8s.io/v1/deviceclasses": "classes",
    "/api/v1/nodes": "nodes",
    "pods": "pods",
    "resourceclaims": "claims",
    "resourceclaimtemplates": "templates",
    "events": "events",
}


def card(name: str, *, gib: int = 40, model: str = "NVIDIA A100", **more: Any) -> Card:
    return Card(
        name=name,
        vendor="nvidia",
        model=model,
        uuid=f"GPU-{name}",
        memory_bytes=gib << 30,
        memory_isolation=IsolationLevel.PRELOAD,
        cores_isolation=IsolationLevel.PRELOAD,
        **more,
    )


def condition(*, status: str = "True", reason: str = "Published", message: str = "") -> JSON:
    return {"type": "Published", "status": status, "reason": reason, "message": message}


def claim(
    name: str,
    *,
    memory: str = "",
    cores: str = "",
    namespace: str = "team-a",
    of: str = "nvidia.dragoman.dev",
    cel: str = "",
    request: str = "card",
    **exactly: Any,
) -> JSON:
    amounts = {key: value for key, value in (("memory", memory), ("cores", cores)) if value}
    asked: JSON = {"deviceClassName": of, **exactly}
    if amounts:
        asked["capacity"] = {"requests": amounts}
    if cel:
        asked["selectors"] = [{"cel": {"expression": cel}}]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"},
        "spec": {"devices": {"requests": [{"name": request, "exactly": asked}]}},
    }


def allocated(document: JSON, node: str, device: str, *, number: bool = True, **amounts: str) -> JSON:
    """The claim with an allocation; without amounts it holds the card as a whole."""
    name = document["metadata"]["name"]
    result: JSON = {
        "request": "card",
        "driver": "dragoman.dev",
        "pool": f"{node}/dragoman",
        "device": device,
    }
    config: list[JSON] = []
    if amounts and number:
        result["shareID"] = f"share-of-{name}"
        result["consumedCapacity"] = {"cores": "0", **amounts}
    elif amounts:
        share = {"request": "card", "pool": result["pool"], "device": device, "cores": "0", **amounts}
        parameters = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareAllocation", "shares": [share]}
        config.append({"source": "FromClaim", "opaque": {"driver": "dragoman.dev", "parameters": parameters}})
    allocation = {"devices": {"results": [result], "config": config}}
    reserved = [{"resource": "pods", "name": f"pod-of-{name}", "uid": "u"}]
    return {**document, "status": {"allocation": allocation, "reservedFor": reserved}}


def pod(
    name: str,
    *claims: str,
    namespace: str = "team-a",
    node: str = "",
    phase: str = "Pending",
    template: str = "",
    **spec: Any,
) -> JSON:
    entries: list[JSON] = [
        {"name": f"c{index}", "resourceClaimName": one} for index, one in enumerate(claims)
    ]
    if template:
        entries.append({"name": "made", "resourceClaimTemplateName": template})
    found: JSON = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "main"}], **spec},
        "status": {"phase": phase},
    }
    if entries:
        found["spec"]["resourceClaims"] = entries
    if node:
        found["spec"]["nodeName"] = node
    return found


def event(about: str, *, reason: str, note: str, by: str = "dragoman.dev/controller", count: int = 1) -> JSON:
    kind, _, name = about.partition("/")
    return {
        "metadata": {"name": f"{name}.{reason}", "namespace": "team-a"},
        "reportingComponent": by,
        "reason": reason,
        "message": note,
        "involvedObject": {"kind": kind, "name": name},
        "eventTime": "2026-11-21T12:00:00.000000Z",
        "series": {"count": count, "lastObservedTime": "2026-11-21T12:00:00.000000Z"},
    }


@dataclass
class World:
    """Objects of a cluster, and what the person may not do."""

    version: str = "v1.36.3"
    inventories: list[JSON] = field(default_factory=list)
    slices: list[JSON] = field(default_factory=list)
    classes: list[JSON] = field(default_factory=lambda: [CLASS, ANY_CLASS, OTHER_CLASS])
    nodes: list[JSON] = field(default_factory=list)
    pods: list[JSON] = field(default_factory=list)
    claims: list[JSON] = field(default_factory=list)
    templates: list[JSON] = field(default_factory=list)
    events: list[JSON] = field(default_factory=list)
    policies: list[JSON] = field(default_factory=list)
    namespace_only: str = ""
    forbidden: tuple[str, ...] = ()
    fail: ApiError | None = None
    mode: str = "native"
    transport: ScriptedTransport | None = None

    def node(
        self,
        name: str,
        *cards: Card,
        slices: str | None = None,
        agent: bool = True,
        said: JSON | None = None,
        labels: dict[str, str] | None = None,
        made: str = "2026-11-21T10:00:00Z",
        problems: Sequence[str] = (),
    ) -> World:
        """Adds a node; `slices` is `open`, `fenced` or `none`, by the mode if not given."""
        status = status_of(
            cards,
            agent=AgentStatus(version="0.1.0"),
            policy=effective_policy([], node_labels={}),
            problems=problems,
        )
        document = status.model_dump(mode="json", by_alias=True)
        offered = sum(not one.unpublished for one in cards)
        message = f"{offered} of {len(cards)} cards are published in 1 slice."
        document["conditions"] = [said or condition(message=message)]
        self.inventories.append({"metadata": {"name": name}, "status": document})
        shown = slices or ("fenced" if self.mode == "controller" else "open")
        if shown != "none":
            publication = publication_of(cards, node=name, fenced=shown == "fenced")
            for item in publication.slices:
                item["metadata"]["creationTimestamp"] = made
                # Cases edit them, and slices share what their cards have in common.
                self.slices.append(_wire(with_generation(item, 1)))
        self.nodes.append(
            {
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"},
                },
            }
        )
        self.pods.append(_part(f"agent-{name}", "agent", node=name, ready=agent))
        return self

    def controllers(self, *, mode: str = "", **settings: str) -> World:
        """Adds a controller that was told its mode."""
        number = sum(one["metadata"]["name"].startswith("controller-") for one in self.pods)
        made = _part(f"controller-{9 - number}", "controller", ready=True, mode=mode or self.mode, **settings)
        made["metadata"]["creationTimestamp"] = f"2026-11-21T10:0{number}:00Z"
        self.pods.append(made)
        return self

    def answer(self, request: Request) -> JSON | ApiError:
        assert request.method == "GET", f"{request.method} {request.path}: nothing may be written"
        if self.fail is not None:
            return self.fail
        if request.path == "/version":
            return {"gitVersion": self.version}
        namespace, kind, name = _parts(request.path)
        if self.namespace_only and namespace != self.namespace_only:
            return error_for(403, message=f"GET {request.path}: forbidden (403)", kube_reason="Forbidden")
        objects: list[JSON] = getattr(self, _COLLECTIONS[kind])
        if kind in self.forbidden:
            return error_for(403, message=f"GET {request.path}: forbidden (403)", kube_reason="Forbidden")
        if name:
            for one in objects:
                if (one["metadata"]["name"], one["metadata"].get("namespace", "")) == (name, namespace):
                    return _wire(one)
            return error_for(404, message=f"{name} not found", kube_reason="NotFound")
        found = [one for one in objects if not namespace or one["metadata"].get("namespace") == namespace]
        if kind == "events":
            wanted = dict(part.split("=") for part in request.query["fieldSelector"].split(","))
            about = (wanted["involvedObject.kind"], wanted["involvedObject.name"])
            found = [
                one
                for one in found
                if (one["involvedObject"]["kind"], one["involvedObject"]["name"]) == about
            ]
        if "labelSelector" in request.query:
            found = [one for one in found if one["metadata"].get("labels")]
        return _wire({"metadata": {}, "items": found})


def _parts(path: str) -> tuple[str, str, str]:
    """Namespace, kind and name of a path."""
    if path in _COLLECTIONS:
        return "", path, ""
    parts = path.split("/")
    if "namespaces" not in parts:
        return "", parts[-1], ""
    at = parts.index("namespaces")
    return parts[at + 1], parts[at + 2], parts[at + 3] if len(parts) > at + 3 else ""


def _part(name: str, component: str, *, ready: bool, node: str = "", **settings: str) -> JSON:
    labels = {"app.kubernetes.io/name": "dragoman", "app.kubernetes.io/component": component}
    env = [{"name": f"DRAGOMAN_{key.upper()}", "value": value} for key, value in settings.items()]
    return {
        "metadata": {"name": name, "namespace": "dragoman-system", "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": component, "env": env}]},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def _wire(document: JSON) -> JSON:
    copied: JSON = json.loads(json.dumps(document))
    return copied


@dataclass(frozen=True)
class Ran:
    """What a run said."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> JSON:
        found: JSON = json.loads(self.out)
        return found


def kubeconfig(folder: Path, *, namespace: str = "team-a") -> Path:
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "one", "user": "me", "namespace": namespace}}],
        "clusters": [{"name": "one", "cluster": {"server": "https://api.example.com:6443"}}],
        "users": [{"name": "me", "user": {"token": TOKEN}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def dragoman(world: World, folder: Path, *arguments: str, columns: int = 0) -> Ran:
    """Runs the command line against a cluster."""
    environ = {"KUBECONFIG": str(kubeconfig(folder)), "HOME": str(folder)}
    if columns:
        environ["COLUMNS"] = str(columns)
    transport = ScriptedTransport(world.answer)
    world.transport = transport
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(arguments, rules=rules, connect=lambda _access: transport, environ=environ)
    sys.stdout.flush()
    assert TOKEN not in out.getvalue() + err.getvalue()
    return Ran(status, out.getvalue(), err.getvalue())
