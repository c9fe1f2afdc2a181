"""A namespace of one test: what is in it, what its pods saw, and that nothing of it is left.

Flow: `open_space` makes it; the test creates objects through it; `close` deletes pods, claims and templates,
waits until they are gone and then lets the namespace go, without waiting for that.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from driver.kube.resources import PODS, RESOURCE_CLAIMS
from tests.cluster.support import waiting
from tests.cluster.support.api import DEPLOYMENTS, JOBS, JSON, KINDS, NAMESPACES, TEMPLATES, Api, Refused
from tests.cluster.support.probe import Seen, parse
from tests.cluster.support.waiting import PATIENCE_S

T = TypeVar("T")


class Space:
    """One namespace."""

    def __init__(self, api: Api, name: str) -> None:
        self.api = api
        self.name = name
        self._cluster_scoped: list[JSON] = []

    def create(self, *objects: JSON) -> list[JSON]:
        """Creates objects, those of a namespace in this one."""
        made = []
        for one in objects:
            kind = KINDS[one["kind"]]
            made.append(self.api.create(kind, one, namespace=self.name if kind.namespaced else ""))
            if not kind.namespaced:
                self._cluster_scoped.append(one)
        return made

    def apply(self, path: Path, *, edit: Callable[[JSON], None] | None = None) -> list[JSON]:
        """Applies a manifest file as it is; its namespaced objects land in this namespace."""
        documents = [one for one in yaml.safe_load_all(path.read_text()) if one]
        for one in documents:
            if edit is not None:
                edit(one)
            kind = KINDS[one["kind"]]
            self.api.apply(one, namespace=self.name)
            if not kind.namespaced:
                self._cluster_scoped.append(one)
        return documents

    def set_labels(self, labels: Mapping[str, str]) -> None:
        """Sets labels of the namespace."""
        if labels:
            self.api.patch(NAMESPACES, self.name, {"metadata": {"labels": dict(labels)}})

    def running(self, *pods: str, seconds: float = PATIENCE_S) -> list[JSON]:
        """Waits until all containers of the pods run."""
        return waiting.wait_running(self.api, *pods, namespace=self.name, seconds=seconds)

    def pod(self, name: str) -> JSON:
        """A pod as it is now."""
        return self.api.get(PODS, name, namespace=self.name)

    def pods(self) -> list[JSON]:
        """All pods."""
        return self.api.list(PODS, namespace=self.name)

    def claims(self) -> list[JSON]:
        """All claims."""
        return self.api.list(RESOURCE_CLAIMS, namespace=self.name)

    def claim(self, name: str) -> JSON:
        """A claim as it is now."""
        return self.api.get(RESOURCE_CLAIMS, name, namespace=self.name)

    def claim_of(self, pod: str, *, of: str = "") -> JSON:
        """The claim that a pod uses under a pod claim's name (needed only if it uses several).

        Waits until it is made.
        """
        return waiting.eventually(
            lambda: self._claim_of(pod, of=of), what=f"{pod} has its claim {of}".rstrip()
        )

    def _claim_of(self, pod: str, *, of: str) -> JSON | None:
        found = self.pod(pod)
        names = {
            one["name"]: one["resourceClaimName"]
            for one in found["spec"].get("resourceClaims") or []
            if "resourceClaimName" in one
        }
        for one in found["status"].get("resourceClaimStatuses") or []:
            names[one["name"]] = one["resourceClaimName"]
        extended = found["status"].get("extendedResourceClaimStatus")
        if extended:
            names.setdefault("", extended["resourceClaimName"])
        name = names.get(of) if of else next(iter(names.values()), None)
        return self.claim(name) if name else None

    def wait_claim(
        self, name: str, done: Callable[[JSON], T], *, what: str, seconds: float = PATIENCE_S
    ) -> T:
        """Waits for a state of a claim."""
        return waiting.wait_for(
            self.api, RESOURCE_CLAIMS, name, done, what=what, namespace=self.name, seconds=seconds
        )

    def wait_pod(self, name: str, done: Callable[[JSON], T], *, what: str, seconds: float = PATIENCE_S) -> T:
        """Waits for a state of a pod."""
        return waiting.wait_for(self.api, PODS, name, done, what=what, namespace=self.name, seconds=seconds)

    def event(self, about: str, *contains: str, reason: str = "", seconds: float = PATIENCE_S) -> str:
        """Waits for an Event about an object of this namespace; returns its message."""
        found = waiting.wait_event(
            self.api, namespace=self.name, about=about, reason=reason, contains=contains, seconds=seconds
        )
        return str(found["message"])

    def seen(self, pod: str, *, container: str = "app", seconds: float = PATIENCE_S) -> Seen:
        """What the probe in a container saw; waits until it has written it."""

        def look() -> Seen | None:
            try:
                return parse(self.api.logs(pod, namespace=self.name, container=container))
            except Refused as refused:
                # Not started yet, or its kubelet is away.
                if refused.status not in (400, 500, 502, 503, 504):
                    raise
                return None

        return waiting.eventually(look, what=f"the probe in {pod}/{container} wrote", seconds=seconds)

    def touch(self, pod: str) -> None:
        """Changes a pod, so that the kubelet looks at it now and not when its back-off is over."""
        moment = {"dragoman.dev/touched": secrets.token_hex(4)}
        self.api.patch(PODS, pod, {"metadata": {"annotations": moment}}, namespace=self.name)

    def delete(self, *pods: str, seconds: float = PATIENCE_S) -> None:
        """Deletes pods and waits until they are gone."""
        for name in pods:
            self.api.delete(PODS, name, namespace=self.name)
        for name in pods:
            waiting.wait_gone(self.api, PODS, name, namespace=self.name, seconds=seconds)

    def any_running(self, names: Collection[str], *, seconds: float = PATIENCE_S) -> list[str]:
        """Waits until at least one of the pods runs; returns all that do."""

        def look(objects: list[JSON]) -> list[str]:
            up = [one["metadata"]["name"] for one in objects if waiting.running(one)]
            return [name for name in up if name in names]

        what = f"one of {sorted(names)} runs"
        return waiting.wait_all(self.api, PODS, look, what=what, namespace=self.name, seconds=seconds)

    @staticmethod
    def claim_name(pod: JSON) -> str:
        """Name of the claim made for a pod's only template, "" before it is made."""
        statuses = pod["status"].get("resourceClaimStatuses") or [{}]
        return str(statuses[0].get("resourceClaimName", ""))

    def empty(self, *, seconds: float = PATIENCE_S) -> list[str]:
        """Deletes all pods and claims and waits until they are gone; returns the UIDs of the claims."""
        gone = [one["metadata"]["uid"] for one in self.claims()]
        for kind in (DEPLOYMENTS, JOBS):
            for one in self.api.list(kind, namespace=self.name):
                self.api.delete(kind, one["metadata"]["name"], namespace=self.name)
        for one in self.pods():
            self.api.delete(PODS, one["metadata"]["name"], namespace=self.name, grace_s=1)
        until = time.monotonic() + seconds
        for kind in (PODS, RESOURCE_CLAIMS):
            if kind is RESOURCE_CLAIMS:
                for one in self.claims():
                    gone.append(one["metadata"]["uid"])
                    self.api.delete(RESOURCE_CLAIMS, one["metadata"]["name"], namespace=self.name)
            waiting.wait_all(
                self.api,
                kind,
                lambda objects: not objects,
                what=f"all objects of kind {kind.kind} are gone",
                namespace=self.name,
                seconds=max(1.0, until - time.monotonic()),
            )
        return sorted(set(gone))

    def close(self, *, seconds: float = PATIENCE_S) -> list[str]:
        """Empties the namespace and lets it go; returns the UIDs of the claims that were in it."""
        gone = self.empty(seconds=seconds)
        for one in self.api.list(TEMPLATES, namespace=self.name):
            self.api.delete(TEMPLATES, one["metadata"]["name"], namespace=self.name)
        for one in reversed(self._cluster_scoped):
            self.api.delete(KINDS[one["kind"]], one["metadata"]["name"])
        self.api.delete(NAMESPACES, self.name)
        return gone


def open_space(api: Api, purpose: str, *, labels: Mapping[str, str] | None = None) -> Space:
    """Makes a namespace with a name that no other run uses, and waits until pods can be created in it.

    Args:
        api: The cluster.
        purpose: What it is for, such as the name of a test.
        labels: Its labels.
    """
    words = re.sub(r"[^a-z0-9]+", "-", purpose.removeprefix("test_").lower())
    name = f"t-{words[:40].strip('-')}-{secrets.token_hex(2)}"
    api.create(NAMESPACES, {"metadata": {"name": name, "labels": dict(labels or {})}})
    # Pods are refused until the namespace has its default service account.
    waiting.wait_for(
        api,
        KINDS["ServiceAccount"],
        "default",
        lambda _: True,
        what="exists",
        namespace=name,
    )
    return Space(api, name)


def containers_of(pod: JSON) -> Sequence[JSON]:
    """What a pod's containers do, but for the health of their cards: that comes and goes by itself."""
    return [
        {key: value for key, value in one.items() if key != "allocatedResourcesStatus"}
        for one in pod["status"].get("containerStatuses") or []
    ]


def results(claim: JSON) -> Sequence[JSON]:
    """The results of a claim's allocation; none if it is not allocated."""
    allocation = claim.get("status", {}).get("allocation") or {}
    found: list[JSON] = allocation.get("devices", {}).get("results") or []
    return found
