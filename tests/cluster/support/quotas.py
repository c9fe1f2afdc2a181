"""A storm of claims against a quota, and somebody who watches every instant of it.

Flow: `Watch` follows claims and quotas of a namespace in threads; `Storm` creates claims from many threads at
once and keeps what was answered.

Limits: what is summed up are the amounts that the claims themselves ask for, computed here and not by us.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import urllib3

from driver.kube.resources import ACCELERATOR_QUOTAS, RESOURCE_CLAIMS, Resource
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, Api, Refused
from tests.cluster.support.space import Space

QUOTA = "q"


def quota(hard: JSON, *, name: str = QUOTA, **spec: object) -> JSON:
    """An AcceleratorQuota."""
    return {
        "apiVersion": ACCELERATOR_QUOTAS.api_version,
        "kind": ACCELERATOR_QUOTAS.kind,
        "metadata": {"name": name},
        "spec": {"hard": hard, **spec},
    }


def asked_gib(claim: JSON) -> int:
    """Memory that a claim of one request asks for."""
    (request,) = claim["spec"]["devices"]["requests"]
    return int(request["exactly"]["capacity"]["requests"]["memory"].removesuffix("Gi"))


@dataclass
class Watch:
    """Every state of the claims and the quotas of a namespace, in the order of the API server."""

    api: Api
    namespace: str
    events: list[tuple[int, str, JSON]] = field(default_factory=list)
    """Resource version, type of event, object."""
    before: list[JSON] = field(default_factory=list)
    """What was there already."""
    failed: list[BaseException] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> Watch:
        """Begins to watch."""
        for kind in (RESOURCE_CLAIMS, ACCELERATOR_QUOTAS):
            page = self.api.page(kind, namespace=self.namespace)
            # Objects of a list do not name their kind.
            self.before.extend({"kind": kind.kind, **one} for one in page["items"])
            version = page["metadata"]["resourceVersion"]
            thread = threading.Thread(target=self._follow, args=(kind, version), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self) -> None:
        """Ends, once all that happened so far was seen."""
        pages = [
            (kind, self.api.page(kind, namespace=self.namespace))
            for kind in (RESOURCE_CLAIMS, ACCELERATOR_QUOTAS)
        ]
        waiting.eventually(
            lambda: self.failed or all(self._has_seen(kind, page) for kind, page in pages),
            what="all that happened was seen",
        )
        self._stop.set()
        assert not self.failed, self.failed

    def most_gib(self) -> int:
        """The most that claims that were stored at one instant asked for together."""
        most, here = 0, dict[str, int]()
        for _, kind, one in sorted(self._of(RESOURCE_CLAIMS), key=lambda event: event[0]):
            if kind == "DELETED":
                here.pop(one["metadata"]["uid"], None)
            else:
                here[one["metadata"]["uid"]] = asked_gib(one)
            most = max(most, sum(here.values()))
        return most

    def unbooked(self) -> list[str]:
        """Claims that were stored at an instant at which no quota had counted or reserved them."""
        found, reserved, counted = [], set[str](), 0
        for version, kind, one in sorted(self.events, key=lambda event: event[0]):
            uid = one["metadata"]["uid"]
            if one["kind"] == ACCELERATOR_QUOTAS.kind:
                status = one.get("status") or {}
                reserved = {entry["uid"] for entry in status.get("reservations") or []}
                counted = int(status.get("countedVersion") or 0)
            elif kind == "ADDED" and uid not in reserved and counted < version:
                found.append(f"{version} {one['metadata']['name']}")
        return found

    def statuses(self) -> list[JSON]:
        """Every status that the quota had."""
        return [one.get("status") or {} for _, _, one in self._of(ACCELERATOR_QUOTAS)]

    def _has_seen(self, kind: Resource, page: JSON) -> bool:
        """Whether the objects of a list were seen as they are there or newer, and the end of all others."""
        seen = {
            one["metadata"]["uid"]: (int(one["metadata"]["resourceVersion"]), "ADDED")
            for one in self.before
            if one["kind"] == kind.kind
        }
        for version, change, one in self._of(kind):
            seen[one["metadata"]["uid"]] = (version, change)
        listed = int(page["metadata"]["resourceVersion"])
        known = {one["metadata"]["uid"]: int(one["metadata"]["resourceVersion"]) for one in page["items"]}
        return all(uid in seen and seen[uid][0] >= version for uid, version in known.items()) and all(
            uid in known or change == "DELETED" or version > listed for uid, (version, change) in seen.items()
        )

    def _of(self, kind: Resource) -> list[tuple[int, str, JSON]]:
        return [event for event in self.events if event[2]["kind"] == kind.kind]

    def _follow(self, kind: Resource, version: str) -> None:
        try:
            while not self._stop.is_set():
                for event in self.api.watch(
                    kind, namespace=self.namespace, resource_version=version, seconds=5
                ):
                    assert event["type"] != "ERROR", event
                    one = event["object"]
                    version = one["metadata"]["resourceVersion"]
                    self.events.append((int(version), event["type"], one))
        except (AssertionError, Refused, urllib3.exceptions.HTTPError) as broken:
            self.failed.append(broken)


@dataclass
class Storm:
    """What became of many requests at once."""

    admitted: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def words(self) -> Counter[str]:
        """How often each kind of answer was given."""
        found: Counter[str] = Counter()
        for one in self.refused:
            found[one.message.partition("denied the request: ")[2].partition(":")[0] or one.message[:60]] += 1
        found["admitted"] = len(self.admitted)
        found["no answer"] = len(self.unanswered)
        return found

    def run(
        self, api: Api, namespace: str, make: Callable[[int], JSON], *, count: int, threads: int
    ) -> Storm:
        """Creates claims from many threads at once."""
        began = time.monotonic()

        def one(number: int) -> None:
            try:
                made = api.create(RESOURCE_CLAIMS, make(number), namespace=namespace)
            except Refused as refused:
                self.refused.append(refused)
            except urllib3.exceptions.HTTPError as broken:
                self.unanswered.append(str(broken))
            else:
                self.admitted.append(made["metadata"]["name"])

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(count)))
        self.seconds = time.monotonic() - began
        return self


def make_quota(space: Space, hard: JSON, *, name: str = QUOTA, **spec: object) -> None:
    """Makes a quota and waits until it is counted: from then on it holds."""
    space.api.create(ACCELERATOR_QUOTAS, quota(hard, name=name, **spec), namespace=space.name)
    wait_status(space, lambda status: bool(status.get("countedVersion")), what="it is counted", name=name)


def status(space: Space, name: str = QUOTA) -> JSON:
    """What a quota says of itself."""
    found: JSON = space.api.get(ACCELERATOR_QUOTAS, name, namespace=space.name).get("status") or {}
    return found


def wait_status(
    space: Space, done: object, *, what: str, seconds: float = waiting.PATIENCE_S, name: str = QUOTA
) -> None:
    assert callable(done)
    waiting.wait_for(
        space.api,
        ACCELERATOR_QUOTAS,
        name,
        lambda one: done(one.get("status") or {}),
        what=what,
        namespace=space.name,
        seconds=seconds,
    )


def created(space: Space, body: JSON, *, dry_run: bool = False) -> bool:
    """Creates a claim; whether quotas let it in."""
    try:
        space.api.create(RESOURCE_CLAIMS, body, namespace=space.name, dry_run=dry_run)
    except Refused as refused:
        if "QuotaExceeded" not in refused.message and "QuotaUnavailable" not in refused.message:
            raise
        return False
    return True


def shown(space: Space) -> str:
    """Memory that all stored claims ask for, as a status shows it."""
    total = sum(map(asked_gib, space.claims()))
    return f"{total}Gi" if total else "0"
