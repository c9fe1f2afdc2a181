"""The end of the process: the work stops and the Lease is free at once, webhooks go on for some seconds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from controller.health import Health
from controller.queue import WorkQueue
from controller.running import work
from controller.settings import Settings
from tests.controller.test_app import Cluster

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Webhooks:
    """Admission, which takes `takes_s` to end."""

    def __init__(self, *, ready: bool = True, takes_s: float = 0.0) -> None:
        self.ready = ready
        self.draining_at = self.cancelled_at = self.ended_at = 0.0
        self._takes_s = takes_s
        self.informers_gone_before = False

    def drain(self) -> None:
        self.draining_at = asyncio.get_running_loop().time()

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled_at = asyncio.get_running_loop().time()
            await asyncio.sleep(self._takes_s)
            self.ended_at = asyncio.get_running_loop().time()
            names = {task.get_name() for task in asyncio.all_tasks()}
            self.informers_gone_before = not any(name.startswith("informer of") for name in names)


class Process:
    def __init__(self, webhooks: Webhooks | None) -> None:
        self.cluster = Cluster()
        self.settings = Settings()
        self.health = Health(clock=asyncio.get_running_loop().time)
        self.stop = asyncio.Event()
        self.shell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        parts = self.cluster.parts(self.settings)
        if webhooks is not None:
            quoting = SimpleNamespace(queue=WorkQueue(name="quotas"), settle=None, begin=list)
            admits: Any = SimpleNamespace(admission=webhooks, templates=None, quoting=quoting)
            parts = replace(parts, admitting=admits)
        self.task = asyncio.create_task(
            work(parts, self.settings, health=self.health, stop=self.stop, ended=self.shell)
        )

    @property
    def leader(self) -> str:
        assert self.cluster.lease is not None
        return str(self.cluster.lease["spec"]["holderIdentity"])

    async def end(self) -> float:
        """Seconds that it took."""
        began = asyncio.get_running_loop().time()
        self.stop.set()
        await self.task
        return asyncio.get_running_loop().time() - began


async def test_webhooks_are_answered_for_five_seconds_after_the_signal() -> None:
    webhooks = Webhooks()
    process = Process(webhooks)
    await asyncio.sleep(20)
    told = asyncio.get_running_loop().time()
    await process.end()
    assert webhooks.draining_at == pytest.approx(told, abs=0.01)
    assert webhooks.cancelled_at == pytest.approx(told + 5, abs=0.01)


async def test_the_lease_is_free_and_the_replica_not_ready_while_webhooks_are_still_answered() -> None:
    process = Process(Webhooks())
    await asyncio.sleep(20)
    assert process.leader == "me"
    assert process.health.not_ready() == ()
    process.stop.set()
    await asyncio.sleep(1)
    assert process.leader == ""
    assert process.health.not_ready() == ("The controller is ending.",)
    assert process.health.problems() == ()
    assert not process.task.done()
    await process.task


async def test_what_is_being_answered_still_has_the_informers() -> None:
    webhooks = Webhooks(takes_s=3)
    process = Process(webhooks)
    await asyncio.sleep(20)
    assert await process.end() == pytest.approx(8, abs=0.01)
    assert webhooks.ended_at
    assert not webhooks.informers_gone_before


async def test_a_replica_that_nobody_asks_yet_ends_at_once() -> None:
    for webhooks in (None, Webhooks(ready=False)):
        process = Process(webhooks)
        await asyncio.sleep(20)
        assert await process.end() == pytest.approx(0, abs=0.1)


async def test_a_part_that_ends_meanwhile_is_waited_for_no_longer() -> None:
    process = Process(Webhooks())
    await asyncio.sleep(20)
    process.stop.set()
    await asyncio.sleep(1)
    process.shell.set_result(None)
    began = asyncio.get_running_loop().time()
    await process.task
    assert asyncio.get_running_loop().time() == pytest.approx(began, abs=0.01)


async def test_a_failure_is_told_at_once() -> None:
    process = Process(Webhooks())
    await asyncio.sleep(20)
    process.shell.set_result(None)
    began = asyncio.get_running_loop().time()
    with pytest.raises(RuntimeError, match="A part of the controller ended"):
        await process.task
    assert asyncio.get_running_loop().time() == pytest.approx(began, abs=0.01)
