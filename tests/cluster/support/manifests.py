"""Pods and claims as tests write them: short here, full manifests on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.cluster.support.api import JSON

DRIVER = "dragoman.dev"
ANY = "accelerator.dragoman.dev"
NVIDIA = "nvidia.dragoman.dev"
PROBE = "localhost/dragoman-probe:1"
GATE = "dragoman.dev/tests"


def request(
    name: str = "card",
    *,
    of: str = NVIDIA,
    memory: str | None = None,
    cores: str | None = None,
    cel: str = "",
    count: int | None = None,
    admin: bool = False,
    capacity: Mapping[str, str] | None = None,
) -> JSON:
    """One request of a claim; amounts as quantities."""
    exactly: JSON = {"deviceClassName": of}
    amounts = {**(capacity or {})}
    if memory is not None:
        amounts["memory"] = memory
    if cores is not None:
        amounts["cores"] = cores
    if amounts:
        exactly["capacity"] = {"requests": amounts}
    if cel:
        exactly["selectors"] = [{"cel": {"expression": cel}}]
    if count is not None:
        exactly["count"] = count
    if admin:
        exactly["adminAccess"] = True
    return {"name": name, "exactly": exactly}


def share_config(parameters: Any = None, *, requests: Sequence[str] = (), **fields: Any) -> JSON:
    """An entry of `config` with a ShareConfig of ours."""
    document = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", **fields}
    return {
        "requests": list(requests),
        "opaque": {"driver": DRIVER, "parameters": document if parameters is None else parameters},
    }


def devices(*requests: JSON, constraints: Sequence[JSON] = (), config: Sequence[JSON] = ()) -> JSON:
    """The `devices` of a claim's spec."""
    found: JSON = {"requests": list(requests)}
    if constraints:
        found["constraints"] = list(constraints)
    if config:
        found["config"] = list(config)
    return found


def claim(name: str, *requests: JSON, **more: Sequence[JSON]) -> JSON:
    """A ResourceClaim."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": devices(*requests, **more)},
    }


def template(name: str, *requests: JSON, **more: Sequence[JSON]) -> JSON:
    """A ResourceClaimTemplate."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name},
        "spec": {"spec": {"devices": devices(*requests, **more)}},
    }


def container(name: str = "app", *uses: str, image: str = PROBE, **more: Any) -> JSON:
    """A container of the probe that uses pod claims, each as ``claim`` or ``claim/request``."""
    claims = []
    for use in uses:
        which, _, wanted = use.partition("/")
        claims.append({"name": which, "request": wanted} if wanted else {"name": which})
    made: JSON = {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", **more}
    if claims:
        made["resources"] = {"claims": claims}
    return made


def pod(
    name: str,
    *containers: JSON,
    claims: Mapping[str, str] | None = None,
    templates: Mapping[str, str] | None = None,
    init: Sequence[JSON] = (),
    restart: str = "Always",
    node: str = "",
    gated: bool = False,
) -> JSON:
    """A pod whose pod claims are ResourceClaims (`claims`) or made from templates (`templates`).

    With `gated` the scheduler leaves it alone until the gate is taken away.
    """
    named = [{"name": key, "resourceClaimName": value} for key, value in (claims or {}).items()]
    made = [{"name": key, "resourceClaimTemplateName": value} for key, value in (templates or {}).items()]
    everything = [*named, *made]
    default = [container("app", *(one["name"] for one in everything))]
    spec: JSON = {
        "containers": list(containers) or default,
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 1,
    }
    if everything:
        spec["resourceClaims"] = everything
    if init:
        spec["initContainers"] = list(init)
    if node:
        spec["nodeName"] = node
    if gated:
        spec["schedulingGates"] = [{"name": GATE}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def sharing(name: str, *requests: JSON, **more: Any) -> list[JSON]:
    """A pod and the template of its one claim, both of that name.

    A limited share needs a claim that one pod alone can use, so most pods of the tests are made like this.
    """
    rules = {key: more.pop(key) for key in ("constraints", "config") if key in more}
    return [template(name, *requests, **rules), pod(name, templates={"card": name}, **more)]
