"""Dead claims are freed, live ones never, and doubts are resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.collecting import Collector
from tests.support.node_world import card, claim, pod, prepare, result, uid_of, unprepare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kubelet_plugin.prepare.engine import PrepareEngine
    from kubelet_plugin.prepare.records import ClaimRecord
    from tests.support.node_world import JSON, World

pytestmark = pytest.mark.asyncio


class Kubelet:
    """Lists claims in use by name, and by UID where it is told to."""

    def __init__(self, *names: str, uids: dict[str, str] | None = None) -> None:
        known = uids or {}
        self.claims: frozenset[ClaimRef] | None = frozenset(
            ClaimRef(namespace="default", name=name, uid=known.get(name, "")) for name in (*names, *known)
        )

    async def claims_in_use(self) -> frozenset[ClaimRef] | None:
        return self.claims


async def collect(
    world: World, engine: PrepareEngine, kubelet: Kubelet, *, rounds: int = 2
) -> frozenset[str]:
    """Some rounds; what was freed in all of them."""
    collector = Collector(engine, claims=world.claims, pod_resources=kubelet)
    return frozenset[str]().union(*[await collector.collect() for _ in range(rounds)])


async def freed(
    world: World, kubelet: Kubelet, *, change: JSON | None = None, gone: bool = False, rounds: int = 2
) -> int:
    """Prepares a claim, lets its object change or go, collects, and counts the records that went."""
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        if gone:
            world.claims.drop(found)
        if change:
            world.add(change)
        await collect(world, engine, kubelet, rounds=rounds)
        return 1 - len(engine.records)


@pytest.mark.parametrize(
    "change",
    [
        claim("claim"),
        claim("claim", result(), uid="another"),
        claim("claim", result(pool="elsewhere/dragoman")),
    ],
    ids=["released", "made anew", "elsewhere"],
)
async def test_a_claim_that_is_released_and_not_in_use_is_freed(world: World, change: JSON) -> None:
    assert await freed(world, Kubelet(), change=change) == 1
    assert (world.records, world.cdi_files, world.regions) == ([], [], [])


async def test_a_claim_that_is_gone_and_not_in_use_is_freed(world: World) -> None:
    assert await freed(world, Kubelet(), gone=True) == 1


async def test_what_is_found_dead_only_once_is_kept(world: World) -> None:
    assert await freed(world, Kubelet(), gone=True, rounds=1) == 0


async def test_a_claim_that_is_gone_but_in_use_is_kept(world: World) -> None:
    assert await freed(world, Kubelet("claim"), gone=True) == 0


async def test_a_claim_that_lives_is_kept_even_if_the_kubelet_does_not_know_it_yet(world: World) -> None:
    assert await freed(world, Kubelet()) == 0


async def test_everything_is_kept_while_the_kubelet_does_not_answer(world: World) -> None:
    kubelet = Kubelet()
    kubelet.claims = None
    assert await freed(world, kubelet, gone=True) == 0


async def test_everything_is_kept_while_the_api_server_is_away(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        world.claims.away = True
        await collect(world, engine, Kubelet())
        assert len(engine.records) == 1


async def with_damaged_record(world: World) -> JSON:
    found = claim("claim", result(memory="600Mi"))
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
    (world.folder / "state" / "claims" / f"{uid_of('claim')}.json").write_bytes(b"")
    return found


async def test_the_record_of_a_claim_in_use_is_made_anew_from_its_allocation(world: World) -> None:
    await with_damaged_record(world)
    async with world.engine() as engine:
        assert engine.problems
        await collect(world, engine, Kubelet("claim"))
        assert engine.problems == ()
        assert engine.use("card-0").memory_mib == 600


async def test_a_damaged_record_that_no_claim_in_use_has_is_given_back(world: World) -> None:
    await with_damaged_record(world)
    async with world.engine() as engine:
        await collect(world, engine, Kubelet())
        assert engine.problems == ()
    assert (world.records, world.cdi_files) == ([], [])


async def test_a_doubt_stays_while_the_api_server_is_away(world: World) -> None:
    await with_damaged_record(world)
    world.claims.away = True
    async with world.engine() as engine:
        await collect(world, engine, Kubelet("claim"))
        assert [doubt.uid for doubt in engine.doubts] == [uid_of("claim")]


async def test_the_cdi_file_of_a_claim_in_doubt_is_left_to_its_containers(world: World) -> None:
    await with_damaged_record(world)
    async with world.engine() as engine:
        await engine.restore()
    assert len(world.cdi_files) == 1


@pytest.mark.parametrize("between", ["in use", "not known"])
async def test_a_claim_is_freed_only_if_it_is_dead_in_two_rounds_one_after_the_other(
    world: World, between: str
) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    kubelet = Kubelet()
    async with world.engine() as engine:
        await prepare(engine, found)
        world.claims.drop(found)
        collector = Collector(engine, claims=world.claims, pod_resources=kubelet)
        assert await collector.collect() == frozenset()
        kubelet.claims = Kubelet("claim").claims if between == "in use" else None
        assert await collector.collect() == frozenset()
        kubelet.claims = frozenset()
        assert await collector.collect() == frozenset()
        assert await collector.collect() == {uid_of("claim")}


async def test_a_doubt_stays_while_a_name_in_use_leads_to_no_claim(world: World) -> None:
    world.claims.drop(await with_damaged_record(world))
    async with world.engine() as engine:
        assert await collect(world, engine, Kubelet("claim")) == frozenset()
        assert [doubt.uid for doubt in engine.doubts] == [uid_of("claim")]


async def test_a_doubt_stays_while_a_name_in_use_leads_to_a_claim_made_anew(world: World) -> None:
    await with_damaged_record(world)
    world.add(claim("claim", result(), uid="another"))
    async with world.engine() as engine:
        assert await collect(world, engine, Kubelet("claim")) == frozenset()
        assert [doubt.uid for doubt in engine.doubts] == [uid_of("claim")]


async def test_a_doubt_whose_uid_the_kubelet_lists_stays_though_the_claim_is_gone(world: World) -> None:
    world.claims.drop(await with_damaged_record(world))
    async with world.engine() as engine:
        assert await collect(world, engine, Kubelet(uids={"claim": uid_of("claim")})) == frozenset()
        assert [doubt.uid for doubt in engine.doubts] == [uid_of("claim")]


async def test_a_doubt_goes_where_the_kubelet_lists_only_other_uids(world: World) -> None:
    world.claims.drop(await with_damaged_record(world))
    async with world.engine() as engine:
        assert await collect(world, engine, Kubelet(uids={"b": uid_of("b")})) == {uid_of("claim")}


async def test_a_claim_in_use_whose_record_is_lost_is_prepared_again(world: World) -> None:
    found = claim("claim", result(memory="600Mi"))
    world.add(found, pod())
    kubelet = Kubelet(uids={"claim": uid_of("claim")})
    async with world.engine() as engine:
        await collect(world, engine, kubelet, rounds=1)
        assert engine.records == {}
        await collect(world, engine, kubelet)
        assert engine.use("card-0").memory_mib == 600


async def test_a_claim_that_was_unprepared_between_two_rounds_is_not_prepared_again(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    kubelet = Kubelet(uids={"claim": uid_of("claim")})
    async with world.engine() as engine:
        await prepare(engine, found)
        collector = Collector(engine, claims=world.claims, pod_resources=kubelet)
        await collector.collect()
        await unprepare(engine, found)
        await collector.collect()
        kubelet.claims = frozenset()
        await collector.collect()
        assert engine.records == {}


async def test_one_claim_that_cannot_be_read_keeps_neither_dead_claims_nor_the_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile, dead = claim("hostile", result(share="h")), claim("dead", result(share="d"))
    for found in (hostile, dead):
        world.add(found, pod(claims={"gpu": found["metadata"]["name"]}))
    real = world.claims.get_claim

    async def get_claim(*, namespace: str, name: str) -> JSON:
        if name == "hostile":
            raise RecursionError("maximum recursion depth exceeded")
        return await real(namespace=namespace, name=name)

    async with world.engine() as engine:
        await prepare(engine, hostile)
        await prepare(engine, dead)
        monkeypatch.setattr(world.claims, "get_claim", get_claim)
        world.claims.drop(dead)
        assert await collect(world, engine, Kubelet()) == {uid_of("dead")}


async def test_a_claim_in_use_that_cannot_be_read_keeps_the_doubts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_damaged_record(world)

    async def get_claim(*, namespace: str, name: str) -> JSON:
        raise RecursionError("maximum recursion depth exceeded")

    async with world.engine() as engine:
        monkeypatch.setattr(world.claims, "get_claim", get_claim)
        assert await collect(world, engine, Kubelet("hostile")) == frozenset()
        assert [doubt.uid for doubt in engine.doubts] == [uid_of("claim")]


async def during_the_second_round(
    world: World, engine: PrepareEngine, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Awaitable[None]]
) -> frozenset[str]:
    """Two rounds; `work` happens in the second while the API server is asked about the claim "late"."""
    collector = Collector(engine, claims=world.claims, pod_resources=Kubelet())
    await collector.collect()
    asked = world.claims.get_claim

    async def get_claim(*, namespace: str, name: str) -> JSON:
        if name == "late":
            monkeypatch.setattr(world.claims, "get_claim", asked)
            await work()
        return await asked(namespace=namespace, name=name)

    monkeypatch.setattr(world.claims, "get_claim", get_claim)
    return await collector.collect()


@pytest.mark.parametrize("shares", [("a", "b"), ("", "")], ids=["with shareIDs", "the same whole card"])
async def test_a_claim_that_is_prepared_anew_since_it_was_found_dead_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, shares: tuple[str, str]
) -> None:
    # One that is given whole has no shareID, so that one allocation looks like another.
    world.cards.found["card-0"] = card(shareable=bool(shares[0]))
    world.cards.found["card-1"] = card("card-1", pci="0000:af:00.0")
    first, again = (claim("claim", result(share=share)) for share in shares)
    late = claim("late", result(device="card-1", share="z"), pods=("late",), owner="late")
    world.add(first, pod(), late, pod("late", claims={"gpu": "late"}))
    async with world.engine() as engine:
        await prepare(engine, first)
        await prepare(engine, late)
        world.add(claim("claim"))

        async def work() -> None:
            world.add(again)
            await prepare(engine, again)

        assert await during_the_second_round(world, engine, monkeypatch, work) == frozenset()
        assert uid_of("claim") in engine.records
        assert world.spec(again)


async def test_a_damaged_record_that_is_made_anew_since_it_was_judged_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await with_damaged_record(world)
    async with world.engine() as engine:
        asked = engine.free

        async def free(ref: ClaimRef, *, judged: ClaimRecord | None) -> bool:
            await prepare(engine, found)
            return await asked(ref, judged=judged)

        monkeypatch.setattr(engine, "free", free)
        assert await collect(world, engine, Kubelet()) == frozenset()
        assert uid_of("claim") in engine.records
