"""A watcher beside a storm: what claims hold of each card, added up at every state that the API server had.

Purpose: "never over-commit" means at every instant, so a look at the end is not enough.
Flow: list all claims, watch from that resourceVersion on a connection of its own (no proxy, none of the code
under test); events of one kind come in the order of their resourceVersions, so the sums after each event are
those of that resourceVersion. What is wrong is kept in `violations`, as sentences.
Limits: cards of the nodes that it was told of; an allocation in any other pool is a violation. A watch that
cannot be resumed leaves states unseen and is a violation as well.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import urllib3

from driver.kube.resources import RESOURCE_CLAIMS
from tests.cluster.support.api import JSON, Api, Refused
from tests.cluster.support.ledger import parse_quantity
from tests.cluster.support.manifests import DRIVER

ASKS = "tests.dragoman.dev/asks"
"""Annotation of a claim: `MiB/percent` that it has to be given, or `whole`."""
WHOLE = "whole"
_MIB = 1 << 20
_FULL = 100
_PASSING = (429, 500, 503, 504)
"""What an API server answers that has just started, or has too much to do."""

Device = tuple[str, str]
"""Pool and name."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What one result of a claim holds."""

    claim: str
    device: Device
    mib: int
    percent: int
    whole: bool


@dataclass
class Most:
    """The most that was held of a card at once."""

    mib: int = 0
    percent: int = 0
    holders: int = 0


class Watcher:
    """Sums of what claims hold, from start to stop.

    Attributes:
        violations: What was wrong, as sentences.
        states: States recorded: one for each event.
        most: The most that each card had given at once.
        given: Moments (`time.monotonic`) at which claims were seen to become allocated, with their pools.
        taken_back: How many allocations went away while their claim stayed.
    """

    def __init__(self, api: Api, capacity: Mapping[Device, int]) -> None:
        """Prepares a watcher.

        Args:
            api: A direct way to the API server.
            capacity: MiB of each card.
        """
        self._api = api
        self._capacity = dict(capacity)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._claims: dict[str, JSON] = {}
        self._held: dict[str, tuple[Held, ...]] = {}
        self._version = ""
        self._said: set[str] = set()
        self.violations: list[str] = []
        self.states = 0
        self.most: dict[Device, Most] = defaultdict(Most)
        self.given: list[tuple[float, str, tuple[str, ...]]] = []
        self.taken_back = 0
        self._thread = threading.Thread(target=self._follow, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        """Begins to watch; returns once all claims were read."""
        self._thread.start()
        assert self._ready.wait(120), "the watcher could not list the claims"
        return self

    def __exit__(self, *_: object) -> None:
        """Ends."""
        self._stop.set()
        self._thread.join(15)

    def claims(self, namespace: str) -> list[JSON]:
        """The claims of a namespace as they were seen last."""
        with self._lock:
            return [one for one in self._claims.values() if one["metadata"]["namespace"] == namespace]

    def free(self) -> dict[Device, tuple[int, int, bool]]:
        """What is left of each card: MiB, percent, and whether nobody holds anything of it."""
        with self._lock:
            sums = self._sums()
            return {
                device: (
                    capacity - sum(one.mib for one in sums[device]),
                    _FULL - sum(one.percent for one in sums[device]),
                    not sums[device],
                )
                for device, capacity in self._capacity.items()
            }

    def would_fit(self, asks: str, *, vendor: str) -> Device | None:
        """A vendor's card that has room for what a claim asks for, by the simplest of rules."""
        for device, (mib, percent, unheld) in self.free().items():
            if not device[1].startswith(f"{vendor}-"):
                continue
            if asks == WHOLE:
                fits = unheld
            else:
                memory, cores = map(int, asks.split("/"))
                fits = mib >= memory and percent >= cores
            if fits:
                return device
        return None

    def settle(self, *, seconds: float = 60.0) -> None:
        """Waits until everything that is stored at this moment was seen."""
        versions = [int(one["metadata"]["resourceVersion"]) for one in self._api.list(RESOURCE_CLAIMS)]
        until = time.monotonic() + seconds
        while int(self._version) < max(versions, default=0):
            assert time.monotonic() < until, "the watcher fell behind"
            time.sleep(0.05)

    def _follow(self) -> None:
        page = self._api.page(RESOURCE_CLAIMS)
        self._version = page["metadata"]["resourceVersion"]
        with self._lock:
            for one in page["items"]:
                self._put(one)
            self._check()
        self._ready.set()
        while not self._stop.is_set():
            with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
                try:
                    self._watch()
                except Refused as refused:
                    if refused.status not in _PASSING:
                        self._wrong(f"states were missed: {refused}")
                        return
                    # Nothing was missed: the next watch begins where this one would have.
                    self._stop.wait(0.2)

    def _watch(self) -> None:
        events = self._api.watch(RESOURCE_CLAIMS, resource_version=self._version, seconds=5)
        for event in events:
            if event["type"] == "ERROR":
                self._wrong(f"states were missed: {event['object']}")
                self._stop.set()
                return
            self.see(event)
            if self._stop.is_set():
                return

    def see(self, event: JSON) -> None:
        """Takes over an event of the watch, and adds up."""
        one = event["object"]
        with self._lock:
            self._version = one["metadata"]["resourceVersion"]
            if event["type"] == "DELETED":
                self._claims.pop(one["metadata"]["uid"], None)
                self._held.pop(one["metadata"]["uid"], None)
            else:
                self._put(one)
            self.states += 1
            self._check()

    def _put(self, one: JSON) -> None:
        uid = one["metadata"]["uid"]
        before, after = self._held.get(uid, ()), self._read(one)
        name = f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        if before and not after:
            self.taken_back += 1
        elif before and before != after:
            self._wrong(f"{name} was given {before}, and then {after}")
        elif after and not before:
            self.given.append((time.monotonic(), name, tuple(held.device[0] for held in after)))
            self._compare(one, after)
        self._claims[uid] = one
        self._held[uid] = after

    def _compare(self, claim: JSON, held: Sequence[Held]) -> None:
        asks = (claim["metadata"].get("annotations") or {}).get(ASKS)
        for one in held if asks else ():
            said = WHOLE if one.whole else f"{one.mib}/{one.percent}"
            if said != asks:
                self._wrong(f"{one.claim} asks {asks} and was given {said} of {one.device[1]}")

    def _read(self, claim: JSON) -> tuple[Held, ...]:
        meta = claim["metadata"]
        name = f"{meta['namespace']}/{meta['name']}"
        devices = ((claim.get("status") or {}).get("allocation") or {}).get("devices") or {}
        shares = {
            (share["request"], share["pool"], share["device"]): share
            for entry in devices.get("config") or []
            if entry["source"] == "FromClaim" and (entry.get("opaque") or {}).get("driver") == DRIVER
            for share in entry["opaque"]["parameters"].get("shares") or []
        }
        found = []
        for result in devices.get("results") or []:
            if result["driver"] != DRIVER or result.get("adminAccess"):
                continue
            device = (result["pool"], result["device"])
            capacity = self._capacity.get(device)
            if capacity is None:
                self._wrong(f"{name} holds {device}, which nobody offers")
                continue
            given = result.get("consumedCapacity") or shares.get((result["request"], *device))
            mib = int(parse_quantity(given["memory"]) / _MIB) if given else capacity
            percent = int(parse_quantity(given["cores"])) if given else 0
            # Who holds all memory has the card to itself, whatever is written beside it.
            whole = mib >= capacity
            found.append(Held(claim=name, device=device, mib=mib, percent=percent, whole=whole))
        return tuple(found)

    def _sums(self) -> dict[Device, list[Held]]:
        sums: dict[Device, list[Held]] = defaultdict(list)
        for holds in self._held.values():
            for one in holds:
                sums[one.device].append(one)
        return sums

    def _check(self) -> None:
        for device, holds in self._sums().items():
            mib, percent = sum(one.mib for one in holds), sum(one.percent for one in holds)
            most = self.most[device]
            most.mib, most.percent = max(most.mib, mib), max(most.percent, percent)
            most.holders = max(most.holders, len(holds))
            names = sorted(one.claim for one in holds)
            if mib > self._capacity[device]:
                self._wrong(f"{device}: {mib} of {self._capacity[device]} MiB given, to {names}")
            if percent > _FULL:
                self._wrong(f"{device}: {percent} % of the cores given, to {names}")
            if len(holds) > 1 and any(one.whole for one in holds):
                self._wrong(f"{device}: given as a whole and in parts, to {names}")

    def _wrong(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.violations.append(f"at resourceVersion {self._version or '?'}: {sentence}")
