"""Replicas that hold claims against one quota, with an API server between them that loses and delays."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.quota.books import Books, claim_view
from controller.quota.charges import Charges
from controller.quota.quotas import Clocks, Quotas
from controller.quota.store import MemoryStore
from driver.cards import Card
from driver.errors import DragomanError
from driver.kube.client import JSON, UnreachableError
from driver.quota.stock import Stock

NAMESPACE, NAME = "team", "q"
CLASS = "nvidia.dragoman.dev"


def quota(name: str = NAME, **spec: Any) -> JSON:
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "generation": 1},
        "spec": {"hard": {"memory": "64Gi"}} | spec,
    }


def claim(memory: str = "8Gi", *, uid: str = "", name: str = "c", **option: Any) -> JSON:
    exactly: JSON = {"deviceClassName": CLASS, "allocationMode": "ExactCount", "count": 1, **option}
    if memory:
        exactly["capacity"] = {"requests": {"memory": memory}}
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }


def stock(gib: int = 80) -> Stock:
    made = Stock(class_is_ours=lambda _one: True)
    made.put_class({"metadata": {"name": CLASS}, "spec": {}})
    made.put("n", [Card(name="c", vendor="nvidia", model="M", memory_bytes=gib << 30)])
    return made


class Unreliable(MemoryStore):
    """A store behind a network: everything takes time, and some answers are lost."""

    def __init__(self, documents: list[JSON], *, source: random.Random, lost: float = 0.0) -> None:
        super().__init__(documents)
        self.lost = lost
        self.away = False
        self.silent = ""
        self.writes = 0
        self.reads = 0
        self._source = source

    async def read(self, *, namespace: str, name: str) -> JSON:
        self.reads += 1
        await self._pass("read")
        return await super().read(namespace=namespace, name=name)

    async def write_status(self, document: JSON) -> JSON:
        await self._pass("write")
        written = await super().write_status(document)
        self.writes += 1
        await self._pass("answer")
        return written

    async def _pass(self, what: str) -> None:
        if what == self.silent:
            await asyncio.Event().wait()
        await asyncio.sleep(self._source.uniform(0.001, 0.02))
        if self.away or self._source.random() < self.lost:
            raise UnreachableError("lost", status=0)


class Cluster:
    """Claims as an API server stores them, and replicas that see them late."""

    def __init__(self, *quotas: JSON, replicas: int = 2, lost: float = 0.0, lag_s: float = 0.05) -> None:
        self.source = random.Random(7)
        self.store = Unreliable(list(quotas) or [quota()], source=self.source, lost=lost)
        self.lag_s = lag_s
        self.stored: dict[str, JSON] = {}
        self.most_mib = 0
        self._version = 1
        self._names = itertools.count()
        self.seen = [1] * replicas
        self.dead: set[int] = set()
        self.books: list[Books] = []
        self.replicas: list[Quotas] = []
        for number in range(replicas):
            known = stock()
            charges = Charges(known)
            books = Books(charges, version=lambda number=number: self.seen[number], clock=_now)  # type: ignore[misc]
            self.books.append(books)
            clocks = Clocks(now=_wall, source=self.source)
            self.replicas.append(
                Quotas(self.store, charges=charges, carried=False, books=books, clocks=clocks)
            )

    async def create(self, replica: int, memory: str = "8Gi", *, dry_run: bool = False) -> str:
        """A create request; raises what the webhook answers."""
        uid = f"u{next(self._names)}"
        document = claim(memory, uid=uid, name=f"c-{uid}")
        await self.replicas[replica].reserve(
            namespace=NAMESPACE,
            uid=uid,
            name=f"c-{uid}",
            claim=document,
            dry_run=dry_run,
            request=f"r-{uid}",
        )
        if replica in self.dead:
            raise UnreachableError("the webhook died before it answered", status=0)
        if not dry_run:
            await asyncio.sleep(self.source.uniform(0, 0.05))
            self.put(document)
        return uid

    async def tries(self, replica: int, memory: str = "8Gi") -> DragomanError | None:
        """The same; gives why it was refused, or None."""
        try:
            await self.create(replica, memory)
        except DragomanError as refused:
            return refused
        return None

    def kill(self, replica: int) -> None:
        """A process dies: what it had sent may have arrived, its answers are lost."""
        self.dead.add(replica)
        for task in asyncio.all_tasks():
            if task.get_name() == f"quota {NAMESPACE}/{NAME}" and task in self._tasks_of(replica):
                task.cancel()

    def look_up(self, replica: int) -> None:
        """What the leader does about reservations that are due."""
        for document in self.store.known(NAMESPACE):
            for one in self.replicas[replica].overdue.due(document):
                if one.uid not in self.stored:
                    self.replicas[replica].overdue.confirm(one.uid)

    def _tasks_of(self, replica: int) -> list[asyncio.Task[None] | None]:
        return [desk._task for desk in self.replicas[replica]._desks.values()]

    def put(self, document: JSON) -> None:
        self.stored[document["metadata"]["uid"]] = document
        self.most_mib = max(self.most_mib, self.used_mib)
        self._tell(document, gone=False)

    def delete(self, uid: str) -> None:
        self._tell(self.stored.pop(uid), gone=True)

    @property
    def used_mib(self) -> int:
        total = 0
        for one in self.stored.values():
            (request,) = one["spec"]["devices"]["requests"]
            total += int(request["exactly"]["capacity"]["requests"]["memory"].removesuffix("Gi")) << 10
        return total

    def status(self, name: str = NAME) -> JSON:
        (found,) = [one for one in self.store.known(NAMESPACE) if one["metadata"]["name"] == name]
        return dict(found.get("status") or {})

    async def count(self, replica: int = 0) -> JSON:
        await self.replicas[replica].count(namespace=NAMESPACE, name=NAME)
        return self.status()

    def note(self) -> None:
        """Every replica watches the quota."""
        for one in self.replicas:
            for document in self.store.known(NAMESPACE):
                one.overdue.note(document)

    def _tell(self, document: JSON, *, gone: bool) -> None:
        self._version += 1
        version, view = self._version, claim_view(document, carried=False)

        def told(replica: int) -> None:
            key = f"{NAMESPACE}/{document['metadata']['name']}"
            before, after = (view, None) if gone else (None, view)
            self.books[replica].note(key, before, after)
            self.seen[replica] = version

        loop = asyncio.get_running_loop()
        for number in range(len(self.replicas)):
            if self.lag_s:
                # Each watch is in order; each replica has its own lag.
                loop.call_later(self.lag_s * (number + 1), told, number)
            else:
                told(number)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _wall() -> datetime:
    return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=_now())
