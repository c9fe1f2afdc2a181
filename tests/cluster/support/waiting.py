"""Waiting for the cluster by watching it: a test goes on the moment that what it waits for is there.

Flow: list, look, watch from the list's resourceVersion, look again at every change; start over when the watch
ends. `eventually` is for what cannot be watched (files of the node, a metric).
Limits: every wait has a deadline, and says in the end what it saw last. Its default is far longer than what
is waited for takes with two clusters on two processors: a machine several times slower does not reach it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import urllib3

from driver.kube.resources import PODS, Resource
from tests.cluster.support.api import EVENTS, JSON, Api, Refused

T = TypeVar("T")

PATIENCE_S = 180.0
"""How long to wait where the time that something takes is not what a test is about."""


class Waited(AssertionError):  # noqa: N818
    """The deadline passed."""


def wait_all(
    api: Api,
    kind: Resource,
    done: Callable[[list[JSON]], T | None],
    *,
    what: str,
    namespace: str = "",
    seconds: float = PATIENCE_S,
    fine: Callable[[JSON], object] = lambda _: False,
    **query: str,
) -> T:
    """Waits until `done`, given all objects of a collection, returns something true; returns that.

    At the deadline the objects are shown, but for those that are `fine`.
    """
    until = time.monotonic() + seconds
    objects: dict[str, JSON] = {}
    while (left := until - time.monotonic()) > 0:
        try:
            page = api.page(kind, namespace=namespace, **query)
            objects = {one["metadata"]["uid"]: one for one in page["items"]}
            if found := done(list(objects.values())):
                return found
            version = page["metadata"]["resourceVersion"]
            for event in api.watch(
                kind, namespace=namespace, resource_version=version, seconds=left, **query
            ):
                if event["type"] == "ERROR":
                    break
                one = event["object"]
                if event["type"] == "DELETED":
                    objects.pop(one["metadata"]["uid"], None)
                else:
                    objects[one["metadata"]["uid"]] = one
                if found := done(list(objects.values())):
                    return found
                if time.monotonic() > until:
                    break
        except (urllib3.exceptions.HTTPError, Refused) as broken:
            # An API server that is away comes back, or the deadline ends the wait.
            if not _passes(broken):
                raise
            time.sleep(0.2)
    seen = json.dumps([_short(one) for one in objects.values() if not fine(one)], indent=1)
    raise Waited(f"not within {seconds:g} s: {what}; what was there:\n{seen[:6000]}")


def wait_for(
    api: Api,
    kind: Resource,
    name: str,
    done: Callable[[JSON], T | None],
    *,
    what: str,
    namespace: str = "",
    seconds: float = PATIENCE_S,
) -> T:
    """Waits until `done`, given the object, returns something true; returns that."""

    def look(objects: list[JSON]) -> T | None:
        return done(objects[0]) if objects else None

    return wait_all(
        api,
        kind,
        look,
        what=f"{kind.kind} {name} {what}",
        namespace=namespace,
        seconds=seconds,
        fieldSelector=f"metadata.name={name}",
    )


def wait_gone(
    api: Api, kind: Resource, name: str, *, namespace: str = "", seconds: float = PATIENCE_S
) -> None:
    """Waits until an object is gone."""
    wait_all(
        api,
        kind,
        lambda objects: not objects,
        what=f"{kind.kind} {name} is gone",
        namespace=namespace,
        seconds=seconds,
        fieldSelector=f"metadata.name={name}",
    )


def running(pod: JSON) -> JSON | None:
    """The pod once all of its containers run."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    wanted = len(pod["spec"]["containers"])
    if len(statuses) == wanted and all("running" in one["state"] for one in statuses):
        return pod
    return None


def wait_running(api: Api, *pods: str, namespace: str, seconds: float = PATIENCE_S) -> list[JSON]:
    """Waits until all containers of all named pods run; returns the pods in the order named."""
    wanted = set(pods)

    def done(objects: list[JSON]) -> dict[str, JSON] | None:
        up = {one["metadata"]["name"]: one for one in objects if running(one)}
        return up if wanted <= up.keys() else None

    found = wait_all(
        api,
        PODS,
        done,
        what=f"the containers of {', '.join(sorted(wanted))} run",
        namespace=namespace,
        seconds=seconds,
        fine=running,
    )
    return [found[name] for name in pods]


def wait_event(
    api: Api,
    *,
    namespace: str,
    about: str,
    reason: str = "",
    contains: Iterable[str] = (),
    seconds: float = PATIENCE_S,
) -> JSON:
    """Waits for an Event about an object, with that reason and all of those texts in its message."""
    texts = tuple(contains)

    def done(events: list[JSON]) -> JSON | None:
        for event in events:
            if (
                event["involvedObject"].get("name") == about
                and (not reason or event.get("reason") == reason)
                and all(text in (event.get("message") or "") for text in texts)
            ):
                return event
        return None

    what = f"an Event {reason} about {about} with {list(texts)}"
    return wait_all(api, EVENTS, done, what=what, namespace=namespace, seconds=seconds)


def eventually(
    look: Callable[[], T | None], *, what: str, seconds: float = PATIENCE_S, every: float = 0.1
) -> T:
    """Calls `look` until it returns something true; for what no watch tells about.

    A server that does not answer has shown nothing yet; the deadline ends that as well.
    """
    until = time.monotonic() + seconds
    while True:
        unanswered = ""
        try:
            if found := look():
                return found
        except (urllib3.exceptions.HTTPError, Refused) as broken:
            if not _passes(broken):
                raise
            unanswered = f"; there was no answer: {broken}"
        if time.monotonic() > until:
            raise Waited(f"not within {seconds:g} s: {what}{unanswered}")
        time.sleep(every)


def _passes(broken: urllib3.exceptions.HTTPError | Refused) -> bool:
    """Whether the same question may be answered in a moment."""
    return not isinstance(broken, Refused) or broken.status in (410, 429, 500, 502, 503, 504)


def _short(one: JSON) -> Any:
    """An object without what nobody reads."""
    meta = one["metadata"]
    kept = {key: value for key, value in one.items() if key not in ("metadata", "apiVersion", "kind", "spec")}
    return {"name": meta["name"], "deleted": meta.get("deletionTimestamp", ""), **kept}
