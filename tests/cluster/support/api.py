"""A small blocking client for the API server: plain JSON, watches, and other identities.

Purpose: tests read and write exactly what a person with kubectl would, as the administrator, as somebody else
(impersonation) or with a token. It shares no line with the client that is under test.
Flow: kubeconfig -> the `kubernetes` package's loader (certificates, exec plugins) -> one connection pool.
Limits: JSON only; a watch ends with the server's time-out and is not resumed, `support.waiting` does that.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import kubernetes.client
import urllib3
from kubernetes.config import load_kube_config

from driver.kube.resources import (
    ACCELERATOR_NODES,
    ACCELERATOR_POLICIES,
    DEVICE_CLASSES,
    LEASES,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Resource,
)

JSON = dict[str, Any]

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"


def _core(plural: str, kind: str, *, namespaced: bool = True) -> Resource:
    return Resource(group="", version="v1", plural=plural, kind=kind, namespaced=namespaced)


NAMESPACES = _core("namespaces", "Namespace", namespaced=False)
EVENTS = _core("events", "Event")
SERVICE_ACCOUNTS = _core("serviceaccounts", "ServiceAccount")
CONFIG_MAPS = _core("configmaps", "ConfigMap")
TEMPLATES = RESOURCE_CLAIM_TEMPLATES
DAEMON_SETS = Resource(group="apps", version="v1", plural="daemonsets", kind="DaemonSet", namespaced=True)
DEPLOYMENTS = Resource(group="apps", version="v1", plural="deployments", kind="Deployment", namespaced=True)
CRDS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
)
JOBS = Resource(group="batch", version="v1", plural="jobs", kind="Job", namespaced=True)

KINDS: Mapping[str, Resource] = {
    kind.kind: kind
    for kind in (
        ACCELERATOR_NODES,
        ACCELERATOR_POLICIES,
        CONFIG_MAPS,
        CRDS,
        DAEMON_SETS,
        DEPLOYMENTS,
        DEVICE_CLASSES,
        JOBS,
        LEASES,
        NAMESPACES,
        NODES,
        PODS,
        RESOURCE_CLAIMS,
        RESOURCE_SLICES,
        SERVICE_ACCOUNTS,
        TEMPLATES,
    )
}


class Refused(Exception):  # noqa: N818 - a refusal is often what a test wants
    """The API server answered with an error."""

    def __init__(self, status: int, message: str, *, reason: str = "") -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.message = message
        self.reason = reason


@dataclass(frozen=True)
class Api:
    """One identity's view of the API server."""

    pool: urllib3.PoolManager
    server: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Api:
        """The identity of a kubeconfig's current context."""
        configuration = kubernetes.client.Configuration()
        load_kube_config(str(path), client_configuration=configuration)  # type: ignore[no-untyped-call]
        pool = urllib3.PoolManager(
            maxsize=32,
            ca_certs=configuration.ssl_ca_cert,
            cert_file=configuration.cert_file,
            key_file=configuration.key_file,
            retries=False,
        )
        token = configuration.get_api_key_with_prefix("authorization")
        return cls(pool, configuration.host, {"Authorization": token} if token else {})

    def anonymous(self, *, ca_certs: str) -> Api:
        """The same server without any identity."""
        return Api(urllib3.PoolManager(ca_certs=ca_certs, retries=False), self.server)

    def with_token(self, token: str) -> Api:
        """The same server as the holder of a token, without the administrator's certificate."""
        ca_certs = self.pool.connection_pool_kw["ca_certs"]
        bare = urllib3.PoolManager(maxsize=4, ca_certs=ca_certs, retries=False)
        return Api(bare, self.server, {"Authorization": f"Bearer {token}"})

    def impersonating(self, user: str, *, groups: tuple[str, ...] = ()) -> Api:
        """The same server as another user, which the administrator may pretend to be."""
        headers = urllib3.HTTPHeaderDict({**self.headers, "Impersonate-User": user})
        for group in groups:
            headers.add("Impersonate-Group", group)
        return replace(self, headers=headers)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JSON | builtins.list[JSON] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 60.0,
    ) -> urllib3.BaseHTTPResponse:
        """Sends a request; raises Refused for an error status."""
        headers = urllib3.HTTPHeaderDict(self.headers)
        headers["Accept"] = "application/json, */*"
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            # As Go's clients write it, without blanks: opaque parameters are kept byte by byte.
            data = json.dumps(body, separators=(",", ":")).encode()
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = self.pool.request(method, url, body=data, headers=headers, timeout=timeout_s)
        if answer.status >= 400:
            raise _refusal(answer.status, answer.data)
        return answer

    def get(self, kind: Resource, name: str, *, namespace: str = "") -> JSON:
        """Reads an object; Refused with status 404 if there is none."""
        return self._json("GET", kind.path(namespace=namespace, name=name))

    def find(self, kind: Resource, name: str, *, namespace: str = "") -> JSON | None:
        """Reads an object, or None."""
        try:
            return self.get(kind, name, namespace=namespace)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def list(self, kind: Resource, *, namespace: str = "", **query: str) -> list[JSON]:
        """Reads a collection; `labelSelector` and `fieldSelector` may be given."""
        items: list[JSON] = self.page(kind, namespace=namespace, **query)["items"]
        return items

    def page(self, kind: Resource, *, namespace: str = "", **query: str) -> JSON:
        """Reads a collection as the server answers it, with its resourceVersion."""
        return self._json("GET", kind.path(namespace=namespace), query=query)

    def create(
        self, kind: Resource, body: Mapping[str, Any], *, namespace: str = "", dry_run: bool = False
    ) -> JSON:
        """Creates an object."""
        full = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        query = {"dryRun": "All"} if dry_run else None
        return self._json("POST", kind.path(namespace=namespace), query=query, body=full)

    def replace(self, kind: Resource, body: JSON, *, namespace: str = "", subresource: str = "") -> JSON:
        """Replaces an object or its subresource; with a resourceVersion only if it has not changed."""
        name = body["metadata"]["name"]
        return self._json(
            "PUT", kind.path(namespace=namespace, name=name, subresource=subresource), body=body
        )

    def patch(
        self,
        kind: Resource,
        name: str,
        body: JSON | builtins.list[JSON],
        *,
        namespace: str = "",
        subresource: str = "",
        content_type: str = MERGE,
    ) -> JSON:
        """Patches an object."""
        query = {"fieldManager": "tests", "force": "true"} if content_type == APPLY else None
        path = kind.path(namespace=namespace, name=name, subresource=subresource)
        return self._json("PATCH", path, query=query, body=body, content_type=content_type)

    def apply(self, body: JSON, *, namespace: str = "") -> JSON:
        """Server-side apply of a manifest, as ``kubectl apply --server-side`` does."""
        kind = KINDS[body["kind"]]
        where = body["metadata"].get("namespace", namespace) if kind.namespaced else ""
        return self.patch(kind, body["metadata"]["name"], body, namespace=where, content_type=APPLY)

    def delete(self, kind: Resource, name: str, *, namespace: str = "", grace_s: int | None = None) -> None:
        """Asks for an object's deletion; one that is gone is not missed."""
        query = {} if grace_s is None else {"gracePeriodSeconds": str(grace_s)}
        try:
            self._json("DELETE", kind.path(namespace=namespace, name=name), query=query)
        except Refused as refused:
            if refused.status != 404:
                raise

    def watch(
        self, kind: Resource, *, resource_version: str, namespace: str = "", seconds: float, **query: str
    ) -> Iterator[JSON]:
        """The events of a watch, until `seconds` have passed."""
        everything = {
            **query,
            "watch": "1",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        url = f"{self.server}{kind.path(namespace=namespace)}?{urlencode(everything)}"
        timeout = urllib3.Timeout(connect=10.0, read=seconds + 5.0)
        answer = self.pool.request(
            "GET", url, headers=urllib3.HTTPHeaderDict(self.headers), timeout=timeout, preload_content=False
        )
        try:
            if answer.status >= 400:
                raise _refusal(answer.status, answer.read())
            rest = b""
            for chunk in answer.stream(None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        finally:
            # A watch that was left early still has bytes under way: the connection cannot be used again.
            answer.close()

    def logs(self, pod: str, *, namespace: str, container: str = "", previous: bool = False) -> str:
        """What a container wrote."""
        query = {"container": container} if container else {}
        if previous:
            query["previous"] = "true"
        path = PODS.path(namespace=namespace, name=pod, subresource="log")
        return self.request("GET", path, query=query).data.decode(errors="replace")

    def pod_get(self, pod: str, *, namespace: str, port: int, path: str) -> str:
        """GET of a page that a pod serves, through the API server."""
        where = PODS.path(namespace=namespace, name=f"{pod}:{port}", subresource=f"proxy{path}")
        return self.request("GET", where).data.decode()

    def table(self, kind: Resource) -> JSON:
        """A collection as kubectl would print it: `columnDefinitions` and `rows`."""
        headers = urllib3.HTTPHeaderDict(self.headers)
        headers["Accept"] = "application/json;as=Table;v=v1;g=meta.k8s.io"
        answer = self.pool.request("GET", self.server + kind.path(), headers=headers, timeout=30.0)
        if answer.status >= 400:
            raise _refusal(answer.status, answer.data)
        found: JSON = json.loads(answer.data)
        return found

    def _json(self, method: str, path: str, **more: Any) -> JSON:
        found: JSON = json.loads(self.request(method, path, **more).data)
        return found


def _refusal(status: int, data: bytes) -> Refused:
    try:
        document = json.loads(data)
        return Refused(status, document.get("message", ""), reason=document.get("reason", ""))
    except ValueError:
        return Refused(status, data.decode(errors="replace")[:500])
