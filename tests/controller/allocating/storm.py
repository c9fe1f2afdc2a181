"""A cluster in which everything happens at once, around two replicas of the allocator.

The API server takes its time, refuses a third of all requests, loses answers, and stores some writes only
after whoever sent them has given up or died. A leader dies, or stands still in the middle of its work until
another one leads, and goes on then for some turns of its loop. Watches are late. Beside the allocator there
are a scheduler that binds pods or takes allocations back, people who make pods and delete them, and make
others under the same names, and the controller manager that cleans up behind them.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from controller.allocating.fencing import is_blank
from controller.allocating.writing import FINALIZER
from driver.api.share_allocation import shares_given
from driver.cards import DRIVER_NAME
from driver.kube.client import UnreachableError, error_for
from driver.quantities import parse_quantity
from tests.controller.allocating.world import World, card, without_shares
from tests.support.scripted_api import Request, ScriptedTransport

NODES = ("n1", "n2")
CARDS = 2
MIB = 1000


class SlowTransport(ScriptedTransport):
    """Requests take time; some are refused, some answers are lost, some writes are stored late."""

    storm: Storm
    replica: Replica

    async def request(self, method: str, path: str, **more: Any) -> Any:
        if path.endswith("/status") and not self.replica.runs.is_set():
            self.replica.held_back.add(path.split("/")[7])
        await self.replica.runs.wait()
        try:
            return await self._request(method, path, **more)
        finally:
            await self.replica.runs.wait()

    async def _request(self, method: str, path: str, **more: Any) -> Any:
        chance, storm = self.storm.chance, self.storm
        restored = storm.restored
        sent = Request(
            method=method,
            path=path,
            query=more.get("query") or {},
            body=copy.deepcopy(more.get("body")),
            content_type=more.get("content_type", ""),
        )
        fate = 1.0 if self.storm.calm else chance.random()
        if self.storm.guarded and _takes_the_finalizer_off(sent, self.storm.claims):
            raise error_for(403, message="a webhook of somebody's refuses that")
        if fate < 0.2:
            status = chance.choice([429, 500, 503])
            await asyncio.sleep(chance.random() * 0.1)
            raise error_for(status, message="not now")
        if method != "GET" and 0.2 <= fate < 0.25:
            raise error_for(409, message="changed")
        landed = False
        try:
            await asyncio.sleep(chance.random() * 0.5)
            # Whoever restores a store has ended its servers, and with them what was on its way.
            landed = fate >= 0.3 and storm.restored == restored
            if landed:
                answer = self._answer(sent)
        finally:
            if not landed and method != "GET":
                # It is on its way, whatever has become of its sender.
                asyncio.get_running_loop().call_later(chance.random() * 3, self._late, sent, restored)
        if not landed:
            raise UnreachableError("timed out", status=0)
        await asyncio.sleep(chance.random() * 0.2)
        if fate < 0.36:
            raise UnreachableError("the answer was lost", status=0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _late(self, sent: Request, restored: int) -> None:
        if self.storm.restored == restored:
            self._answer(sent)


class Replica(World):
    """A World whose informers follow the storm's store, late but in order."""

    def __init__(self, storm: Storm) -> None:
        def transport_of(answer: Any) -> ScriptedTransport:
            made = SlowTransport(answer)
            made.storm, made.replica = storm, self
            return made

        self.transport_of = transport_of
        super().__init__(nodes=NODES)
        self.storm = storm
        # Not set while its process stands still: nothing goes out, and no answer is looked at.
        self.runs = asyncio.Event()
        self.runs.set()
        self.held_back: set[str] = set()
        self.leading = False
        self.after = storm.stored_by
        self._due = 0.0
        for node in NODES:
            self.cards(node, *(card(f"card-{number}", mib=MIB) for number in range(CARDS)))

    def listed(self) -> dict[str, str]:
        return {"resourceVersion": str(self.storm.versions.last)}

    def hear(self, informer: Any, event: dict[str, Any], *, at_once: bool = False) -> None:
        """Lets the watch tell it, sooner or later."""
        delay = 0.0 if at_once or self.storm.calm else self.storm.chance.random() * 10
        self._later(informer._apply, copy.deepcopy(event), delay=delay)

    def list_anew(self, informer: Any, stored: dict[str, Any]) -> None:
        """Lets an informer list, sooner or later, as it does where a watch cannot go on."""

        def listed() -> None:
            page = {
                "items": copy.deepcopy(list(stored.values())),
                "metadata": {"resourceVersion": str(self.storm.versions.last)},
            }
            found: dict[str, Any] = {}
            informer._began += 1
            version = informer._read(page, found)
            informer._ahead = {}
            informer._version = version
            informer._take_over(found, int(version))

        self._later(listed, delay=self.storm.chance.random() * 10)

    def _later(self, call: Callable[..., Any], *what: Any, delay: float) -> None:
        loop = asyncio.get_running_loop()
        # Never two at one instant: the loop does not keep their order.
        self._due = max(self._due + 1e-6, loop.time() + delay)
        loop.call_at(self._due, call, *what)


class Versions(Iterator[int]):
    """Counts versions; a restored store counts again from where it was."""

    def __init__(self) -> None:
        self.last = 1000

    def __next__(self) -> int:
        self.last += 1
        return self.last


class Storm:
    """Replicas around one store of claims and pods; one of them leads at a time."""

    def __init__(self, seed: int, *, drops_shares: bool, guarded: bool = False) -> None:
        self.chance = random.Random(seed)
        self.guarded = guarded
        self.drops_shares = drops_shares
        self.calm = False
        self.claims: dict[str, Any] = {}
        self.pods: dict[str, Any] = {}
        self.versions = Versions()
        self.restored = 0
        self.backup: tuple[int, dict[str, Any], dict[str, Any]] | None = None
        self.uids = itertools.count()
        self.told: set[str] = set()
        self.over: list[str] = []
        self.replicas = [self._replica(), self._replica()]
        self.leader = 0
        self.work: asyncio.Task[None] | None = None

    def _replica(self) -> Replica:
        made = Replica(self)
        made.stored, made.stored_pods, made.versions = self.claims, self.pods, self.versions
        if self.drops_shares:
            made.mangle = without_shares
        return made

    @property
    def now_leading(self) -> Replica:
        """The replica that leads."""
        return self.replicas[self.leader]

    # The API server

    def stored_by(self, request: Request) -> None:
        """Something was written: nothing may be over-committed at any instant, and all get to hear of it."""
        name = request.path.split("/")[7]
        self._tell("claims", "MODIFIED", self.claims[name])

    def put_claim(self, document: Any) -> None:
        """Writes a claim as somebody else than the allocator."""
        document["metadata"]["resourceVersion"] = str(next(self.versions))
        self.claims[document["metadata"]["name"]] = document
        self._tell("claims", "MODIFIED", document)

    def put_pod(self, document: Any) -> None:
        """Writes a pod."""
        document["metadata"]["resourceVersion"] = str(next(self.versions))
        self.pods[document["metadata"]["name"]] = document
        self._tell("pods", "MODIFIED", document)

    def delete(self, kind: str, name: str) -> None:
        """Deletes a claim or pod, at once."""
        document = getattr(self, kind).pop(name)
        document["metadata"]["resourceVersion"] = str(next(self.versions))
        self._tell(kind, "DELETED", document)

    def _tell(self, kind: str, event: str, document: Any) -> None:
        self.check()
        for world in self.replicas:
            world.hear(getattr(world, kind), {"type": event, "object": document})

    def check(self) -> None:
        """Nothing is over-committed."""
        sums: Counter[tuple[str, str, str]] = Counter()
        for claim in self.claims.values():
            for place, name, amount in held(claim):
                sums[(*place, name)] += amount
        for (pool, device, name), total in sums.items():
            if total > (MIB << 20 if name == "memory" else 100):
                # Kept, since whoever writes takes an exception for a server that gives no answer.
                self.over.append(f"{total} of {name} on {device} of {pool}")

    # Who leads

    def lead(self) -> None:
        """The replica whose turn it is begins to lead."""
        world = self.now_leading
        world.leading = True
        self.work = asyncio.create_task(
            world.part.queue.run(world.part.reconcile, workers=4, first=world.part.begin)
        )

    async def kill(self) -> None:
        """The leader dies in the middle of whatever it does; the other one takes over after the Lease."""
        assert self.work is not None
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)
        dead = self.now_leading
        dead.leading = False
        self.told |= {answer.pod.partition("/")[2] for answer in dead.answers}
        self.replicas[self.leader] = born = self._replica()
        for kind, stored in (("claims", self.claims), ("pods", self.pods)):
            # A watch tells of lower versions first.
            for document in sorted(stored.values(), key=_version):
                born.hear(getattr(born, kind), {"type": "ADDED", "object": document}, at_once=True)
        self.leader = 1 - self.leader
        # Some of what was sent before lands only when the next one leads.
        await asyncio.sleep(self.chance.random() * 4)
        self.lead()

    async def stop(self) -> None:
        """The leader's process is stopped, wherever it is, and goes on when the other one leads."""
        stopped, work = self.now_leading, self.work
        assert work is not None
        stopped.runs.clear()
        stopped.held_back.clear()
        await asyncio.sleep(self.chance.random() * 4)
        stopped.leading = False
        for name in sorted(stopped.held_back & self.pods.keys()):
            # Its claim stays for a while, and the next leader has no reason to look at it.
            self.delete("pods", name)
        self.make(f"rival{next(self.uids)}")
        self.told |= {answer.pod.partition("/")[2] for answer in stopped.answers}
        self.leader = 1 - self.leader
        self.lead()
        await asyncio.sleep(self.chance.random() * 2)
        stopped.runs.set()
        for _ in range(self.chance.randrange(10)):
            # It does not know yet that its time is over.
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    # What becomes of the store

    def back_up(self) -> None:
        """Somebody backs up the store."""
        self.backup = (self.versions.last, copy.deepcopy(self.claims), copy.deepcopy(self.pods))
        # Claims and pods are not all that a cluster has.
        self.versions.last += 10_000

    def restore(self) -> None:
        """Somebody restores it: all that came since is gone, and whoever watches has to list."""
        if self.backup is None or any(one.claims.version <= self.backup[0] for one in self.replicas):
            # Whoever has seen nothing since cannot tell: see docs/weak-points.md.
            return
        self.versions.last, claims, pods = copy.deepcopy(self.backup)
        self.backup = None
        self.restored += 1
        for kind, stored in (("claims", claims), ("pods", pods)):
            getattr(self, kind).clear()
            getattr(self, kind).update(stored)
            for world in self.replicas:
                world.list_anew(getattr(world, kind), getattr(self, kind))
        self.check()

    # Everybody else

    def make(self, name: str) -> None:
        """Somebody makes a pod with its claims."""
        chance = self.chance
        names = [name, f"{name}-more"][: chance.choice([1, 1, 2])]
        for claim in names:
            self._make_claim(claim)
        if chance.random() < 0.15:
            names.append("shared")
            if "shared" not in self.claims:
                self._make_claim("shared")
        spec: Any = {"containers": [{}]}
        if chance.random() < 0.15:
            spec["nodeName"] = chance.choice(NODES)
        spec["resourceClaims"] = [{"name": one, "resourceClaimName": one} for one in names]
        metadata = {"name": name, "namespace": "default", "uid": f"pod-{next(self.uids)}"}
        self.put_pod({"metadata": metadata, "spec": spec, "status": {}})

    def _make_claim(self, name: str) -> None:
        chance = self.chance
        asked = {"memory": f"{chance.choice([100, 300, 500, 1000])}Mi", "cores": chance.choice(["0", "20"])}
        exactly = {
            "deviceClassName": "accelerator.dragoman.dev",
            "allocationMode": "ExactCount",
            "count": chance.choice([1, 1, 1, 2]),
            "capacity": {"requests": asked},
        }
        metadata = {"name": name, "namespace": "default", "uid": f"claim-{next(self.uids)}"}
        requests = [{"name": "gpu", "exactly": exactly}]
        self.put_claim({"metadata": metadata, "spec": {"devices": {"requests": requests}}})

    async def live(self) -> None:
        """Scheduler, kubelet, people and controller manager, for ever."""
        while True:
            await asyncio.sleep(20.0 if self.calm else 2 * self.chance.random())
            for name in list(self.pods):
                self._schedule(name)
            if not self.calm and self.pods and self.chance.random() < 0.2:
                gone = self.chance.choice(list(self.pods))
                self.delete("pods", gone)
            self._clean_up()

    def _schedule(self, name: str) -> None:
        pod = self.pods[name]
        names = [one["resourceClaimName"] for one in pod["spec"]["resourceClaims"]]
        claims = [self.claims[one] for one in names if one in self.claims]
        if pod["spec"].get("nodeName"):
            return
        for claim in filter(is_blank, claims):
            # No node is one of those that it is for.
            if not claim["status"].get("reservedFor"):
                self.put_claim({**claim, "status": {}})
        if len(claims) < len(names) or not all(map(node_of, claims)):
            return
        nodes = {node_of(claim) for claim in claims}
        free = [claim for claim in claims if not claim["status"].get("reservedFor")]
        if len(nodes) > 1 or (not self.calm and self.chance.random() < 0.1):
            for claim in free:
                self.put_claim({**claim, "status": {}})
            return
        self._reserve(name, pod)
        self.put_pod({**pod, "spec": {**pod["spec"], "nodeName": nodes.pop()}})

    def _reserve(self, name: str, pod: Any) -> None:
        holder = {"resource": "pods", "name": name, "uid": pod["metadata"]["uid"]}
        for entry in pod["spec"]["resourceClaims"]:
            claim = self.claims.get(entry["resourceClaimName"])
            holders = ((claim or {}).get("status") or {}).get("reservedFor") or []
            status = (claim or {}).get("status") or {}
            if claim and status.get("allocation") and holder not in holders:
                if not status["allocation"]["devices"]["results"]:
                    self.over.append(f"{name} starts without cards: its kubelet finds nothing to prepare")
                self.put_claim({**claim, "status": {**claim["status"], "reservedFor": [*holders, holder]}})

    def _clean_up(self) -> None:
        """The controller manager: pods that are bound, holders that are gone, claims without pods."""
        for name, pod in self.pods.items():
            if pod["spec"].get("nodeName"):
                self._reserve(name, pod)
        alive = {pod["metadata"]["uid"] for pod in self.pods.values()}
        for name, claim in list(self.claims.items()):
            status = claim.get("status") or {}
            before = status.get("reservedFor") or []
            after = [one for one in before if one["uid"] in alive]
            owned = name != "shared" and name.removesuffix("-more") not in self.pods
            if after != before:
                left = {**status, "reservedFor": after} if after else {}
                finalizers = claim["metadata"].get("finalizers", [])
                kept = finalizers if after else [one for one in finalizers if one != FINALIZER]
                self.put_claim(
                    {**claim, "metadata": {**claim["metadata"], "finalizers": kept}, "status": left}
                )
            elif owned and not before:
                self.delete("claims", name)


def _version(document: Any) -> int:
    return int(document["metadata"]["resourceVersion"])


def node_of(claim: Any) -> str:
    """The node that a claim is allocated for, "" if it is not."""
    allocation = (claim.get("status") or {}).get("allocation")
    if not allocation or is_blank(claim):
        return ""
    return str(allocation["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])


def _takes_the_finalizer_off(sent: Request, claims: dict[str, Any]) -> bool:
    if sent.method != "PUT" or sent.path.endswith("/status"):
        return False
    stored = claims.get(sent.path.split("/")[7]) or {"metadata": {}}
    before, after = (one["metadata"].get("finalizers") or [] for one in (stored, sent.body))
    return FINALIZER in before and FINALIZER not in after


def held(claim: Any) -> list[tuple[tuple[str, str], str, int]]:
    """What a claim holds: pool and device, dimension, amount; all of a card where that is not said."""
    devices = ((claim.get("status") or {}).get("allocation") or {}).get("devices") or {}
    given = shares_given(devices.get("config") or [], field="config")
    found = []
    for one in devices.get("results") or []:
        if one["driver"] != DRIVER_NAME:
            continue
        share = given.get((one["request"], one["pool"], one["device"]))
        amounts = one.get("consumedCapacity") or {
            "memory": share.memory if share else f"{MIB}Mi",
            "cores": share.cores if share else "100",
        }
        for name, amount in amounts.items():
            found.append(((one["pool"], one["device"]), name, parse_quantity(amount).rounded_up))
    return found
