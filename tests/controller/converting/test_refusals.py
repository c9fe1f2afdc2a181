"""Pods that cannot be converted: told, counted, and tried again at one pace however many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.converting.refusals import Refusals
from controller.events import Events, Subject
from controller.metrics import Metrics
from driver.errors import ConfigError
from driver.kube.client import KubeClient, error_for
from driver.kube.resources import PODS
from tests.support.scripted_api import Request, ScriptedTransport

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

NO_RECORD = ConfigError("This is no record of a conversion.", field="metadata.annotations")


class World:
    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.counts: list[int] = []
        self.deaf = False
        self.transport = ScriptedTransport(self._answer)
        self.refusals = Refusals(Events(KubeClient(self.transport), instance="one", metrics=Metrics()))

    @property
    def requests(self) -> int:
        return len(self.transport.requests)

    def _answer(self, request: Request) -> Any:
        if self.deaf:
            return error_for(429, message="too many")
        if request.method == "PATCH":
            self.counts.append(request.body["series"]["count"])
            return request.body
        name = request.body["metadata"]["name"]
        if name in self.made:
            return error_for(409, message="exists")
        self.made[name] = request.body
        return request.body

    async def tell(self, name: str = "web", *, uid: str = "", refused: ConfigError = NO_RECORD) -> float:
        pod = Subject(resource=PODS, name=name, namespace="team", uid=uid or name)
        return await self.refusals.tell(f"team/{name}", pod, refused)


async def test_a_pod_that_waits_for_an_hour_has_one_event_that_is_counted_up_every_five_minutes() -> None:
    world = World()
    for _ in range(60):
        await asyncio.sleep(await world.tell())
    assert len(world.made) == 1
    assert world.counts == list(range(2, 13))
    assert world.requests == 12


async def test_another_reason_is_said_at_once() -> None:
    world = World()
    await world.tell()
    await asyncio.sleep(60)
    await world.tell(refused=ConfigError("There is no such class.", field="spec"))
    assert len(world.made) == 2


async def test_the_next_pod_of_a_name_is_told_at_once() -> None:
    world = World()
    await world.tell(uid="first")
    await asyncio.sleep(60)
    await world.tell(uid="second")
    assert len(world.made) == 2


async def test_what_the_api_server_did_not_take_is_said_at_the_next_try() -> None:
    world = World()
    world.deaf = True
    again = await world.tell()
    world.deaf = False
    await asyncio.sleep(again)
    await world.tell()
    assert len(world.made) == 1


async def test_ten_thousand_pods_at_once_are_told_twenty_a_second_and_nobody_waits_meanwhile() -> None:
    world = World()
    loop = asyncio.get_running_loop()
    began = loop.time()
    due = [await world.tell(f"p{number}") for number in range(10_000)]
    assert loop.time() == began
    assert world.requests <= 21
    assert due[0] == 60
    assert due[-1] == pytest.approx(60 + 9_999 / 10, abs=1)
    for second in range(1, 11):
        await asyncio.sleep(1)
        for number in range(100):
            await world.tell(f"q{second}-{number}")
    assert 200 <= world.requests <= 221


async def test_each_of_a_crowd_is_told_when_it_is_tried_again() -> None:
    world = World()

    async def wait(name: str) -> None:
        await asyncio.sleep(await world.tell(name))
        await world.tell(name)

    await asyncio.gather(*(wait(f"p{number}") for number in range(1_000)))
    assert len(world.made) == 1_000


async def test_a_pod_that_is_changed_all_the_time_puts_off_nobody_else() -> None:
    world = World()
    for _ in range(1_000):
        await world.tell("restless")
    assert await world.tell("other") == pytest.approx(60.1)
    await asyncio.sleep(20)
    assert await world.tell("restless") == pytest.approx(40)


async def test_who_is_not_there_any_more_is_forgotten() -> None:
    world = World()
    await world.tell("a")
    await world.tell("b")
    world.refusals.keep({"team/a"})
    await world.tell("a")
    assert world.requests == 2
    world.refusals.forget("team/a")
    await world.tell("a")
    await world.tell("b")
    assert world.requests == 2 + 2 * 2
