"""A claim that is prepared by another allocation than the one that it has now, or that is prepared anew."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kubelet_plugin.prepare.effects import FormerAllocationError
from tests.support.node_world import claim, pod, prepare, ref, result, unprepare

if TYPE_CHECKING:
    from kubelet_plugin.prepare.claims import ClaimRef
    from tests.support.node_world import JSON, World

pytestmark = pytest.mark.asyncio


def allocated() -> JSON:
    return claim("claim", result(memory="600Mi"))


def allocated_anew() -> JSON:
    return claim("claim", result(memory="700Mi", share="b"))


class Kubelet:
    """What the kubelet says is in use."""

    def __init__(self, *refs: ClaimRef, silent: bool = False) -> None:
        self.refs, self.silent = frozenset(refs), silent

    async def claims_in_use(self) -> frozenset[ClaimRef] | None:
        return None if self.silent else self.refs


@pytest.mark.parametrize("silent", [False, True])
async def test_what_the_kubelet_has_in_use_by_another_allocation_is_kept(
    world: World, *, silent: bool
) -> None:
    former, again = allocated(), allocated_anew()
    world.add(former, pod())
    world.kubelet = kubelet = Kubelet(ref(former), silent=silent)
    async with world.engine() as engine:
        await prepare(engine, former)
        # As after etcd was restored to an older state.
        world.add(again)
        for _ in range(2):
            with pytest.raises(FormerAllocationError) as refused:
                await prepare(engine, again)
            assert (refused.value.reason, refused.value.retriable) == ("FormerAllocation", True)
        assert engine.use("card-0").memory_mib == 600
        assert "LIMIT_0=600m" in world.env(former)
        # A name alone says that a pod waits for the claim, not that it has it.
        kubelet.refs, kubelet.silent = frozenset({replace(ref(former), uid="")}), False
        await prepare(engine, again)
        assert engine.use("card-0").memory_mib == 700


async def test_a_plan_that_is_older_than_what_another_agent_prepared_meanwhile_undoes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = allocated(), allocated_anew()
    world.add(old, pod())
    hangs, begun = threading.Event(), threading.Event()
    get_pod = world.claims.get_pod

    async def late_pod(**asked: Any) -> JSON | None:
        if not begun.is_set():
            begun.set()
            # Who goes the quick way has a thread of its own, and must not be suspended.
            waited = hangs.wait(30) if world.quick else await asyncio.to_thread(hangs.wait, 30)
            assert waited
        return await get_pod(**asked)

    monkeypatch.setattr(world.claims, "get_pod", late_pod)
    async with world.engine() as first, world.engine() as second:
        late = asyncio.create_task(prepare(first, old))
        assert await asyncio.to_thread(begun.wait, 10)
        await unprepare(second, old)
        world.add(new)
        given = await prepare(second, new)
        hangs.set()
        (answer,) = await asyncio.gather(late, return_exceptions=True)
        # The quick way leaves it to the other one, which reads the claim again.
        assert answer == given if world.quick else "allocated anew while it was" in str(answer)
        assert second.use("card-0").memory_mib == 700
        assert await prepare(second, new) == given
        assert "LIMIT_0=700m" in world.env(new)


async def test_an_unprepare_that_hung_gives_back_nothing_that_was_prepared_anew_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = allocated(), allocated_anew()
    world.add(old, pod())
    hangs, begun = threading.Event(), threading.Event()
    undo = world.cards.undo

    def undone(*arguments: Any, **more: Any) -> None:
        undo(*arguments, **more)
        if not begun.is_set():
            begun.set()
            assert hangs.wait(30)

    monkeypatch.setattr(world.cards, "undo", undone)
    async with world.engine() as first, world.engine() as second:
        await prepare(first, old)
        late = asyncio.create_task(unprepare(first, old))
        assert await asyncio.to_thread(begun.wait, 10)
        await unprepare(second, old)
        world.add(new)
        await prepare(second, new)
        hangs.set()
        await late
        await first.restore()
        assert (first.use("card-0").memory_mib, second.use("card-0").memory_mib) == (700, 700)
        assert "LIMIT_0=700m" in world.env(new)


async def test_what_another_agent_prepared_while_the_kubelet_was_asked_is_kept(world: World) -> None:
    former, again = allocated(), allocated_anew()
    newest = claim("claim", result(memory="800Mi", share="c"))
    begun = False

    class Asked(Kubelet):
        async def claims_in_use(self) -> frozenset[ClaimRef] | None:
            nonlocal begun
            if not begun:
                begun = True
                world.add(newest)
                await prepare(second, newest)
            return self.refs

    world.add(former, pod())
    world.kubelet = Asked()
    async with world.engine() as first, world.engine() as second:
        await prepare(first, former)
        world.add(again)
        with pytest.raises(FormerAllocationError):
            await prepare(first, again)
        assert begun
        assert (first.use("card-0").memory_mib, second.use("card-0").memory_mib) == (800, 800)
        assert "LIMIT_0=800m" in world.env(newest)
