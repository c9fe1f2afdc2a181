"""Claims and classes from YAML: real manifests in, objects as the API server would store them out.

Flow: documents -> DeviceClasses; ResourceClaims as written; each ResourceClaimTemplate becomes the claim that
kube-controller-manager would make of it. Each claim gets one pod with one container for each request (or the
pods of the file that name it), because limits depend on who uses a share.

Limits: only what decides about devices is filled in (UIDs, owner, defaults of count and mode); anything that
is not one of the three kinds, or a Pod, is refused by name.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from driver.errors import ConfigError

JSON = dict[str, Any]
NAMESPACE = "demo"
NODE = "demo-node"
STORY = "dragoman.dev/story"
"""Annotation whose text is shown beside a claim."""

API_VERSION = "resource.k8s.io/v1"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One claim, the pod that asks for it, and what to tell about it."""

    claim: JSON
    pod: JSON
    story: str

    @property
    def name(self) -> str:
        """Name that a person gave it."""
        return str(self.claim["metadata"]["name"])


@dataclass(frozen=True, kw_only=True)
class Manifests:
    """What a file asks for."""

    claims: tuple[Asked, ...] = ()
    classes: tuple[JSON, ...] = field(default=())


def load_documents(path: Path) -> list[JSON]:
    """The YAML documents of a file.

    Raises:
        ConfigError: The file is missing, is no YAML, or a document is no Kubernetes object.
    """
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document is not None]
    except OSError as missing:
        raise ConfigError(f"{path} cannot be read: {missing.strerror}", remedy="Name a YAML file.") from None
    except yaml.YAMLError as broken:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(broken).split())}") from None
    for index, document in enumerate(documents):
        if not isinstance(document, dict) or "kind" not in document:
            raise ConfigError(
                "This is not a Kubernetes object",
                field=f"{path.name}, document {index + 1}",
                remedy="Give it a kind.",
            )
    return documents


def read_manifests(documents: Sequence[JSON], *, source: str) -> Manifests:
    """Sorts documents into claims and classes.

    Raises:
        ConfigError: A kind or API version that means nothing here.
    """
    pods = [document for document in documents if document["kind"] == "Pod"]
    claims: list[Asked] = []
    classes: list[JSON] = []
    for document in documents:
        kind, version = document["kind"], document.get("apiVersion")
        name = str((document.get("metadata") or {}).get("name", ""))
        where = f"{source}: {kind} {name}".rstrip()
        if kind in {"ResourceClaim", "ResourceClaimTemplate", "DeviceClass"} and version != API_VERSION:
            raise ConfigError(
                f"apiVersion {version!r} is not known",
                field=where,
                remedy=f"Write apiVersion: {API_VERSION}.",
            )
        if kind == "DeviceClass":
            classes.append(document)
        elif kind in {"ResourceClaim", "ResourceClaimTemplate"}:
            claims.append(_asked(document, pods=pods, where=where))
        elif kind != "Pod":
            raise ConfigError(
                f"kind {kind} means nothing here",
                field=where,
                remedy="Write ResourceClaim, ResourceClaimTemplate, DeviceClass or Pod.",
            )
    return Manifests(claims=tuple(claims), classes=tuple(classes))


def _asked(document: Mapping[str, Any], *, pods: Sequence[JSON], where: str) -> Asked:
    metadata = document.get("metadata") or {}
    name = metadata.get("name")
    spec = document.get("spec") or {}
    if document["kind"] == "ResourceClaimTemplate":
        spec = spec.get("spec") or {}
    requests = (spec.get("devices") or {}).get("requests")
    if not name or not requests:
        raise ConfigError(
            "A claim needs a name and requests", field=where, remedy="See hack/tooling/demo/claims.yaml."
        )
    uid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{name}"))
    pod = _pod_for(str(name), kind=str(document["kind"]), requests=requests, pods=pods)
    claim: JSON = {
        "apiVersion": API_VERSION,
        "kind": "ResourceClaim",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pod["metadata"]["name"],
                    "uid": pod["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": _with_defaults(spec),
    }
    story = (metadata.get("annotations") or {}).get(STORY, "")
    return Asked(claim=claim, pod=pod, story=str(story))


def _with_defaults(spec: Mapping[str, Any]) -> JSON:
    filled = copy.deepcopy(dict(spec))
    for request in filled["devices"]["requests"]:
        for one in [request["exactly"]] if "exactly" in request else request.get("firstAvailable", []):
            one.setdefault("allocationMode", "ExactCount")
            if one["allocationMode"] == "ExactCount":
                one.setdefault("count", 1)
    return filled


def _pod_for(claim: str, *, kind: str, requests: Iterable[Mapping[str, Any]], pods: Sequence[JSON]) -> JSON:
    key = "resourceClaimTemplateName" if kind == "ResourceClaimTemplate" else "resourceClaimName"
    for pod in pods:
        entries = (pod.get("spec") or {}).get("resourceClaims") or []
        names = [entry["name"] for entry in entries if entry.get(key) == claim]
        if names:
            return _running(pod, pod_claims={names[0]: claim})
    containers = [
        {"name": request["name"], "resources": {"claims": [{"name": "cards", "request": request["name"]}]}}
        for request in requests
    ]
    pod = {
        "metadata": {"name": claim},
        "spec": {"containers": containers, "resourceClaims": [{"name": "cards"}]},
    }
    return _running(pod, pod_claims={"cards": claim})


def _running(pod: JSON, *, pod_claims: Mapping[str, str]) -> JSON:
    metadata = {
        **pod["metadata"],
        "namespace": NAMESPACE,
        "uid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"pod/{pod['metadata']['name']}")),
    }
    spec = {
        **pod["spec"],
        "nodeName": NODE,
        "resourceClaims": [
            {"name": name, "resourceClaimTemplateName": claim} for name, claim in pod_claims.items()
        ],
    }
    statuses = [{"name": name, "resourceClaimName": claim} for name, claim in pod_claims.items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Pending", "resourceClaimStatuses": statuses},
    }
