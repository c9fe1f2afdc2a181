"""Hundreds of pods with claims, and what has to become of them: placed, or told why not.

Flow: one template for each kind of claim, made while the webhook runs (so that it is stamped); `make` creates
pods; `wait_settled` waits until each is bound to the node that its claim is allocated for, or waits with an
Event of our controller that says why, and nothing that waits would fit.
"""

from __future__ import annotations

import collections
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from driver.api.asked import STAMP
from driver.kube.resources import PODS, RESOURCE_CLAIMS
from tests.cluster.support.api import EVENTS, JSON, Api
from tests.cluster.support.manifests import claim, pod, request, template
from tests.cluster.support.space import Space, results
from tests.cluster.support.waiting import Waited
from tests.cluster.support.watcher import ASKS, WHOLE, Watcher

VENDOR = "nvidia"
OUR_CONTROLLER = "dragoman.dev/controller"
KINDS = {
    # What a claim has to be given, in MiB and percent, and how often it is asked for.
    "2048/5": 4,
    "4096/20": 6,
    "8192/30": 5,
    "16384/50": 3,
    "6144/0": 3,
    WHOLE: 1,
}


@dataclass(frozen=True)
class Outcome:
    """What became of all pods: how many were placed, and the reasons that the others were told."""

    placed: int
    explained: dict[str, int]
    seconds: float


@dataclass
class Load:
    """Pods of a namespace that ask for all kinds of shares."""

    space: Space
    rng: random.Random
    asks: dict[str, str] = field(default_factory=dict)
    made: int = 0

    def store_templates(self) -> None:
        """Stores a template for each kind of claim."""
        for kind in KINDS:
            memory, _, cores = kind.partition("/")
            wanted = request(
                memory=None if kind == WHOLE else f"{memory}Mi",
                cores=cores if cores not in ("", "0") else None,
            )
            document = template(_name(kind), wanted)
            document["spec"]["metadata"] = {"annotations": {ASKS: kind}}
            self.space.create(document)

    def is_stamped(self, api: Api) -> bool:
        """Whether the webhook answers at this moment: a claim that is not stamped is never allocated."""
        asked = claim("dry", request(memory="1Gi"))
        answer = api.create(RESOURCE_CLAIMS, asked, namespace=self.space.name, dry_run=True)
        return STAMP in (answer["metadata"].get("annotations") or {})

    def make(self, count: int) -> list[str]:
        """Creates pods; their names."""
        names = []
        for _ in range(count):
            self.made += 1
            name = f"p{self.made:04d}"
            kind = self.rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
            self.asks[name] = kind
            self.space.create(pod(name, templates={"card": _name(kind)}))
            names.append(name)
        return names

    def end(self, names: Iterable[str]) -> None:
        """Deletes pods without waiting; those that a kubelet runs are ended by it."""
        for name in names:
            found = self.space.api.find(PODS, name, namespace=self.space.name)
            if found is None:
                continue
            runs = bool(found["status"].get("containerStatuses"))
            self.space.api.delete(PODS, name, namespace=self.space.name, grace_s=None if runs else 0)
            self.asks.pop(name, None)

    def placed(self, watcher: Watcher) -> list[str]:
        """Names of the pods that are bound, with what they asked for."""
        pods = self.space.pods()
        # Read after the pods: what one was bound for stays, and what it was given before may be taken back.
        watcher.settle()
        claims = {one["metadata"]["name"]: one for one in watcher.claims(self.space.name)}
        return [
            one["metadata"]["name"]
            for one in pods
            if one["metadata"]["name"] in self.asks and _is_placed(one, claims)
        ]

    def wait_settled(self, watcher: Watcher, *, seconds: float) -> Outcome:
        """Waits until each pod is placed, or was told why not and would not fit."""
        began = time.monotonic()
        while True:
            placed = set(self.placed(watcher))
            told = self._told()
            open_ones = {name: kind for name, kind in self.asks.items() if name not in placed}
            fitting = {name: watcher.would_fit(kind, vendor=VENDOR) for name, kind in open_ones.items()}
            wrong = [name for name in open_ones if name not in told or fitting[name]]
            if not wrong:
                reasons = collections.Counter(told[name] for name in open_ones)
                return Outcome(len(placed), dict(reasons), time.monotonic() - began)
            if time.monotonic() > began + seconds:
                few = {name: (open_ones[name], fitting[name], told.get(name)) for name in wrong[:10]}
                raise Waited(
                    f"not within {seconds:g} s: {len(wrong)} of {len(self.asks)} pods are neither placed nor "
                    f"told why not, or wait although they would fit: {few}"
                )
            time.sleep(1.0)

    def _told(self) -> dict[str, str]:
        """What pods were told last by our controller: name to reason."""
        found: dict[str, tuple[str, str]] = {}
        for event in self.space.api.list(EVENTS, namespace=self.space.name):
            if event.get("reportingComponent") != OUR_CONTROLLER or event["involvedObject"]["kind"] != "Pod":
                continue
            series = event.get("series") or {}
            moment = str(series.get("lastObservedTime") or event.get("eventTime") or "")
            name = event["involvedObject"]["name"]
            found[name] = max(found.get(name, ("", "")), (moment, event["reason"]))
        return {name: reason for name, (_, reason) in found.items()}


def _name(kind: str) -> str:
    return "asks-" + kind.replace("/", "-")


def _is_placed(found: JSON, claims: dict[str, JSON]) -> bool:
    node = found["spec"].get("nodeName")
    claim = claims.get(Space.claim_name(found))
    if not node or claim is None:
        return False
    uids = [one["uid"] for one in claim["status"].get("reservedFor") or []]
    pools = {one["pool"] for one in results(claim)}
    if not pools:
        return False
    assert pools == {f"{node}/dragoman"}, f"{found['metadata']['name']} is on {node}, its share in {pools}"
    return found["metadata"]["uid"] in uids
