"""Dead claims are freed, live ones never, and doubts are resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubelet_plugin.prepare.collecting import collect_garbage
from tests.support.node_world import claim, pod, prepare, result, uid_of

if TYPE_CHECKING:
    from kubelet_plugin.prepare.engine import PrepareEngine
    from tests.support.node_world import JSON, World

pytestmark = pytest.mark.asyncio


class Kubelet:
    def __init__(self, *names: str) -> None:
        self.names: frozenset[tuple[str, str]] | None = frozenset(("default", name) for name in names)

    async def claims_in_use(self) -> frozenset[tuple[str, str]] | None:
        return self.names


async def collect(world: World, engine: PrepareEngine, kubelet: Kubelet, *, rounds: int = 2) -> None:
    for _ in range(rounds):
        await collect_garbage(engine, claims=world.claims, pod_resources=kubelet)


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


async def test_a_claim_that_the_kubelet_names_in_between_is_kept(world: World) -> None:
    found = claim("claim", result())
    world.add(found, pod())
    async with world.engine() as engine:
        await prepare(engine, found)
        world.claims.drop(found)
        for kubelet in (Kubelet(), Kubelet("claim"), Kubelet()):
            await collect(world, engine, kubelet, rounds=1)
        assert len(engine.records) == 1


async def test_a_claim_that_is_gone_but_in_use_is_kept(world: World) -> None:
    assert await freed(world, Kubelet("claim"), gone=True) == 0


async def test_a_claim_that_lives_is_kept_even_if_the_kubelet_does_not_know_it_yet(world: World) -> None:
    assert await freed(world, Kubelet()) == 0


async def test_everything_is_kept_while_the_kubelet_does_not_answer(world: World) -> None:
    kubelet = Kubelet()
    kubelet.names = None
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
