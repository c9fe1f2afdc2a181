"""The quick way of a prepare. That it decides as the other does, all tests show, since they run both ways."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kubelet_plugin.prepare.engine import _QUICK_THREADS
from kubelet_plugin.prepare.quick import run_here
from tests.support.node_world import Claims, World, claim, pod, prepare, ref, result, unprepare

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio


class Stuck(Claims):
    """An API server that accepts questions and answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = False
        self.waiting = threading.Semaphore(0)
        self.answers = threading.Event()

    async def get_claim(self, *, namespace: str, name: str) -> Any:
        if self.stuck:
            self.waiting.release()
            assert self.answers.wait(120)
        return await super().get_claim(namespace=namespace, name=name)


async def test_unprepare_does_not_wait_for_prepares_that_wait_for_the_api_server(tmp_path: Path) -> None:
    claims = Stuck()
    world = World(tmp_path, quick=True, claims=claims)
    held = claim("claim", result(share="held"))
    others = [claim(f"other-{number}", result(share=f"{number}")) for number in range(_QUICK_THREADS + 2)]
    world.add(held, pod(), *others)
    async with world.engine() as engine:
        await prepare(engine, held)
        claims.stuck = True
        running = [asyncio.create_task(engine.prepare([ref(one)])) for one in others]
        for _ in range(_QUICK_THREADS):
            await asyncio.to_thread(claims.waiting.acquire, timeout=60)
        await asyncio.wait_for(unprepare(engine, held), 60)
        assert ref(held).uid not in engine.records
        claims.answers.set()
        await asyncio.gather(*running)


async def test_claims_of_one_call_share_what_is_read_and_go_the_other_way(tmp_path: Path) -> None:
    world = World(tmp_path, quick=True)
    pair = [claim(name, result(share=name, device=f"card-{name}")) for name in ("a", "b")]
    world.add(*pair, pod())
    async with world.engine() as engine:
        await engine.prepare([ref(one) for one in pair])
    assert world.claims.asked.count(("Pod", "pod")) <= 1


async def test_a_coroutine_that_does_not_suspend_runs_to_its_end_without_a_loop() -> None:
    async def answer() -> int:
        return 42

    async def ask() -> int:
        return await answer()

    assert await asyncio.to_thread(lambda: run_here(ask())) == 42


async def test_a_coroutine_that_suspends_is_a_bug_and_not_a_wrong_answer() -> None:
    async def wait() -> None:
        await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match="waits for something"):
        run_here(wait())
