"""Two replicas, an API server in trouble, a scheduler that refuses, and leaders that die or stand still.

What must hold at every instant: what is stored never gives out more of a card than it has. And in the end
each pod has its claims, or has been told why not; nothing is held that nobody needs; and the books are empty
of doubts and equal to what is stored.
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from controller.allocating.views import claim_view
from driver.allocation import Snapshot
from driver.allocation.cluster import Cluster
from tests.controller.allocating.storm import Storm, held

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@pytest.fixture(autouse=True)
def no_work_costs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What work costs decides who is next and who rests: on a busy machine a seed would be another storm."""
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)


async def weather(storm: Storm, *, pods: int, restores: bool = False) -> None:
    """Lets it storm, and then be calm until nothing happens any more."""
    storm.lead()
    life = asyncio.create_task(storm.live())
    for number in range(pods):
        # Now and then somebody comes back under a name that was there before.
        name = (
            f"p{storm.chance.randrange(number)}" if storm.chance.random() < 0.2 and number else f"p{number}"
        )
        if name not in storm.pods and name not in storm.claims and f"{name}-more" not in storm.claims:
            storm.make(name)
        await asyncio.sleep(storm.chance.random() * 2)
        if number % 10 == 7:
            await storm.kill()
        if number % 10 == 3:
            await storm.stop()
        if restores and number % 10 == 0:
            storm.back_up()
        if restores and number % 10 == 5:
            storm.restore()
    storm.calm = True
    await asyncio.sleep(900)
    # What it sees is checked there too, and an exception of a task is nobody's until it is asked for.
    assert not life.done(), life.exception()
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


@pytest.mark.parametrize("drops_shares", [False, True])
@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happens_no_card_is_over_committed_and_each_pod_is_placed_or_told(
    seed: int, drops_shares: bool
) -> None:
    await storms(seed, drops_shares=drops_shares)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("drops_shares", "guarded", "restores"),
    [(False, False, False), (True, False, False), (False, True, False)],
)
async def test_that_holds_in_many_storms(drops_shares: bool, guarded: bool, restores: bool) -> None:
    for seed in range(2, 40):
        try:
            await storms(seed, drops_shares=drops_shares, guarded=guarded, restores=restores)
        except AssertionError as failed:
            raise AssertionError(f"seed {seed}") from failed


async def test_that_holds_where_a_webhook_lets_nobody_take_a_finalizer_off() -> None:
    await storms(0, drops_shares=False, guarded=True)


async def storms(seed: int, *, drops_shares: bool, guarded: bool = False, restores: bool = False) -> None:
    """Lets it storm, and looks at what is left."""
    storm = Storm(seed, drops_shares=drops_shares, guarded=guarded)
    await weather(storm, pods=40, restores=restores)
    assert storm.over == []
    leader = storm.now_leading
    told = storm.told | {answer.pod.partition("/")[2] for answer in leader.answers}
    placed = 0
    for name, pod in storm.pods.items():
        claims = [storm.claims[one["resourceClaimName"]] for one in pod["spec"]["resourceClaims"]]
        if all(held(claim) for claim in claims):
            placed += 1
            assert all(
                pod["metadata"]["uid"] in {one["uid"] for one in claim["status"]["reservedFor"]}
                for claim in claims
            ), name
        else:
            assert name in told
            assert not any(held(claim) and not claim["status"].get("reservedFor") for claim in claims), name
    assert placed
    named = {one["resourceClaimName"] for pod in storm.pods.values() for one in pod["spec"]["resourceClaims"]}
    assert {name for name, claim in storm.claims.items() if held(claim)} <= named
    books = leader.part.books
    assert (books._assumed, books._doubted) == ({}, {})
    stored = [json.loads(text) for text in (claim_view(one).held for one in storm.claims.values()) if text]
    snapshot = Snapshot.build(slices=leader.part._cards.slices(), classes=[])
    anew, known = Cluster.build(snapshot, claims=stored).snapshot.in_use, books._state().snapshot.in_use
    assert (known.whole, dict(known.shares), dict(known.consumed)) == (
        anew.whole,
        dict(anew.shares),
        dict(anew.consumed),
    )
    waiting = {f"default/{name}" for name, pod in storm.pods.items() if not pod["spec"].get("nodeName")}
    assert leader.part._usage._expected.keys() <= waiting
    assert storm.work is not None
    storm.work.cancel()
    await asyncio.gather(storm.work, return_exceptions=True)
