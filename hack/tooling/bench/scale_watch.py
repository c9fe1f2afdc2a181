"""When claims were made and their pods bound, as a watch shows it.

Flow: `Watching` follows claims and pods of a namespace in two threads; `took_ms` gives, for each pod, the
time from its claim's first event to the pod's first one with a node, `allocated_ms` that to the claim's first
one with an allocation.
Limits: times are those at which the events arrive here, which is after they were sent; both ends are late in
the same way. A claim belongs to the pod that owns it. A watch that the server ends is taken up again where it
stood.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from urllib3.exceptions import HTTPError

from driver.kube.resources import PODS, RESOURCE_CLAIMS, Resource
from tests.cluster.support.api import Api

JSON = dict[str, Any]

_WATCH_S = 3000.0


class Times:
    """What was seen; fed by two watches. Times are in seconds, by one clock."""

    def __init__(self) -> None:
        self._claims: dict[str, float] = {}
        self._allocated: dict[str, float] = {}
        self._bound: dict[str, float] = {}

    def claim(self, document: JSON, *, now: float) -> None:
        """An event of a claim."""
        for owner in document["metadata"].get("ownerReferences") or []:
            if owner.get("kind") == "Pod":
                self._claims.setdefault(owner["name"], now)
                if (document.get("status") or {}).get("allocation"):
                    self._allocated.setdefault(owner["name"], now)

    def pod(self, document: JSON, *, now: float) -> None:
        """An event of a pod."""
        if (document.get("spec") or {}).get("nodeName"):
            self._bound.setdefault(document["metadata"]["name"], now)

    def count_bound(self) -> int:
        """How many pods are bound."""
        return len(self._bound)

    def took_ms(self) -> tuple[float, ...]:
        """From claim created to pod bound, in milliseconds, for each pod of which both were seen."""
        return self._since_made(self._bound)

    def allocated_ms(self) -> tuple[float, ...]:
        """From claim created to claim allocated, in milliseconds, for each claim that was."""
        return self._since_made(self._allocated)

    def _since_made(self, moments: dict[str, float]) -> tuple[float, ...]:
        return tuple(
            max(0.0, at - self._claims[name]) * 1000 for name, at in moments.items() if name in self._claims
        )

    def wall_s(self) -> float:
        """From the first claim to the last bound pod."""
        return max(self._bound.values()) - min(self._claims.values())

    def making_s(self) -> float:
        """From the first claim to the last one."""
        return max(self._claims.values()) - min(self._claims.values())


class Watching:
    """Follows a namespace until it is closed."""

    def __init__(self, api: Api, *, namespace: str) -> None:
        """Begins; what is there already is not looked at."""
        self.times = Times()
        self._api = api
        self._namespace = namespace
        self._closed = threading.Event()
        self._begin(RESOURCE_CLAIMS, self.times.claim)
        self._begin(PODS, self.times.pod)

    def close(self) -> None:
        """Stops looking; a watch that hears nothing more ends with the process."""
        self._closed.set()

    def _begin(self, kind: Resource, seen: Callable[..., None]) -> None:
        version = self._api.page(kind, namespace=self._namespace, limit="1")["metadata"]["resourceVersion"]

        def follow() -> None:
            at = version
            # The server ends a watch whose reader is slower than what happens.
            while not self._closed.is_set():
                # Nor is it news when the cluster is gone before a watch that is not needed any more.
                with suppress(HTTPError):
                    at = self._follow(kind, seen, version=at)
                self._closed.wait(0.1)

        thread = threading.Thread(target=follow, name=f"watch {kind.plural}", daemon=True)
        thread.start()

    def _follow(self, kind: Resource, seen: Callable[..., None], *, version: str) -> str:
        """One watch; from which version to go on."""
        events = self._api.watch(kind, namespace=self._namespace, resource_version=version, seconds=_WATCH_S)
        for event in events:
            if self._closed.is_set():
                break
            if event["type"] == "ERROR":
                return self._read(kind, seen)
            if event["type"] != "DELETED":
                seen(event["object"], now=time.monotonic())
            version = str(event["object"]["metadata"]["resourceVersion"])
        return version

    def _read(self, kind: Resource, seen: Callable[..., None]) -> str:
        """Looks at all there is, where it is too late to follow; what was missed counts as seen now."""
        page = self._api.page(kind, namespace=self._namespace)
        for one in page["items"]:
            seen(one, now=time.monotonic())
        return str(page["metadata"]["resourceVersion"])
