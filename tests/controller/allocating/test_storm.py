"""Two replicas, an API server that refuses a third of all writes, and leaders that die in the middle of one.

What must hold at every instant: what is stored never gives out more of a card than it has. And in the end
each claim is placed, or its pod has been told why not.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from typing import Any

import pytest

from driver.kube.client import ApiError, UnreachableError, error_for
from driver.quantities import parse_quantity
from tests.controller.allocating.world import World, card
from tests.support.scripted_api import Request

NODES = ("n1", "n2")
CARDS = 2
MIB = 1000


class Storm:
    """Replicas around one store of claims; one of them leads at a time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.first = self._replica(None)
        self.replicas = [self.first, self._replica(self.first)]
        self.leader = 0
        self.work: asyncio.Task[None] | None = None

    def _replica(self, other: World | None) -> World:
        world = World(nodes=NODES)
        for node in NODES:
            world.cards(node, *(card(f"card-{number}", mib=MIB) for number in range(CARDS)))
        if other is not None:
            world.stored, world.versions = other.stored, other.versions
        world.leading = False
        world.refuse = self._before
        world.after = self._after
        return world

    def _before(self, request: Request) -> ApiError | None:
        if request.method == "GET" or self.chance.random() > 0.3:
            return None
        return self.chance.choice(
            [
                error_for(429, message="slow down"),
                error_for(409, message="changed"),
                error_for(503, message="etcd is busy"),
                UnreachableError("timed out", status=0),
            ]
        )

    def _after(self, request: Request) -> ApiError | None:
        """What was stored is seen by all, sooner or later; the answer may be lost on the way."""
        self.check()
        name = request.path.split("/")[7]
        document = copy.deepcopy(self.first.stored[name])
        for world in self.replicas:
            asyncio.get_running_loop().call_later(
                self.chance.random() * 5, world.claims.observe, copy.deepcopy(document)
            )
        lost = request.method == "PUT" and self.chance.random() < 0.15
        return UnreachableError("the answer was lost", status=0) if lost else None

    def check(self) -> None:
        sums: Counter[tuple[str, str, str]] = Counter()
        for claim in self.first.stored.values():
            allocation = (claim.get("status") or {}).get("allocation") or {}
            for one in (allocation.get("devices") or {}).get("results") or []:
                for name, amount in one["consumedCapacity"].items():
                    sums[one["pool"], one["device"], name] += parse_quantity(amount).rounded_up
        for (pool, device, name), total in sums.items():
            assert total <= (MIB << 20 if name == "memory" else 100), (pool, device, name, total)

    def lead(self) -> None:
        world = self.replicas[self.leader]
        world.leading = True
        self.work = asyncio.create_task(
            world.part.queue.run(world.part.reconcile, workers=4, first=world.part.begin)
        )

    async def kill(self) -> None:
        """The leader ends in the middle of whatever it does; the other one takes over after the Lease."""
        assert self.work is not None
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)
        self.replicas[self.leader].leading = False
        self.replicas[self.leader] = self._replica(self.first)
        for name, claim in list(self.first.stored.items()):
            self.replicas[self.leader].claims.observe(copy.deepcopy(claim))
            self.replicas[self.leader].pod(name, name)
        self.leader = 1 - self.leader
        await asyncio.sleep(self.chance.random() * 15)
        self.lead()

    def ask(self, name: str) -> None:
        memory = f"{self.chance.choice([100, 300, 500, 1000])}Mi"
        cores = str(self.chance.choice([0, 20, 50]))
        self.first.claim(name, memory, cores)
        for world in self.replicas:
            if world is not self.first:
                world.claims.observe(copy.deepcopy(self.first.stored[name]))
            world.pod(name, name)

    def answered(self) -> set[str]:
        return {answer.pod.partition("/")[2] for world in self.replicas for answer in world.answers}


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_no_card_is_over_committed_and_each_claim_is_placed_or_told(seed: int) -> None:
    storm = Storm(seed)
    storm.lead()
    for number in range(60):
        storm.ask(f"c{number}")
        await asyncio.sleep(storm.chance.random() * 2)
        if number % 15 == 7:
            await storm.kill()
    await asyncio.sleep(600)
    storm.check()
    placed = {name for name, one in storm.first.stored.items() if (one.get("status") or {}).get("allocation")}
    told = storm.answered()
    assert placed
    assert storm.first.stored.keys() - placed - told == set()
    assert storm.work is not None
    storm.work.cancel()
    await asyncio.gather(storm.work, return_exceptions=True)


def test_the_store_keeps_what_is_asked_of_it() -> None:
    """The storm's own check can fail."""
    storm_of: Any = Storm.__new__(Storm)
    storm_of.first = World.__new__(World)
    results = [{"pool": "p", "device": "d", "consumedCapacity": {"memory": "600Mi"}}] * 2
    storm_of.first.stored = {"c": {"status": {"allocation": {"devices": {"results": results}}}}}
    with pytest.raises(AssertionError):
        storm_of.check()
