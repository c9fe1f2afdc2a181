"""What is said of objects in Events, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.announcing import EVENTS_PER_S, Announcer, Words
from controller.events import Events, Subject
from controller.metrics import Metrics
from driver.kube.client import ApiError, KubeClient, error_for
from driver.kube.resources import PODS
from tests.support.scripted_api import Request, ScriptedTransport

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

FULL, FULLER = Words("Full", "All is taken."), Words("Full", "More is taken.")
OTHER = Words("Other", "Something else.")


class Said:
    def __init__(self, **how: Any) -> None:
        self.refused: ApiError | None = None
        self.transport = ScriptedTransport(self._answer)
        events = Events(KubeClient(self.transport), instance="i", metrics=Metrics())
        self.announcer = Announcer(events, **{"again_s": 300, **how})

    def _answer(self, request: Request) -> Any:
        return self.refused or request.body

    async def say(self, words: Words, *, key: str = "p", uid: str = "u", subjects: int = 1) -> bool:
        about = [Subject(resource=PODS, name=f"{key}{n}", namespace="ns", uid=uid) for n in range(subjects)]
        return await self.announcer.say(key, uid, words, about)

    def left_s(self, words: Words | None, *, key: str = "p", uid: str = "u") -> float:
        return self.announcer.left_s(key, uid, words)


async def test_the_same_is_said_again_after_a_while_and_then_only_counted() -> None:
    said = Said()
    assert said.left_s(FULL) == 0
    await said.say(FULL)
    assert (said.left_s(FULL), said.left_s(OTHER), said.left_s(None)) == (300, 0, 0)
    await asyncio.sleep(300)
    assert said.left_s(FULL) == 0
    await said.say(FULL)
    assert [request.method for request in said.transport.requests] == ["POST", "PATCH"]


async def test_another_note_is_news_unless_the_reason_alone_counts() -> None:
    by_words, by_reason = Said(), Said(by_reason=True)
    for said in (by_words, by_reason):
        await said.say(FULL)
    assert (by_words.left_s(FULLER), by_reason.left_s(FULLER)) == (0, 300)
    await by_reason.say(FULLER)
    assert [request.method for request in by_reason.transport.requests] == ["POST", "POST"]


async def test_nothing_is_said_of_an_object_that_was_told_something_a_moment_ago() -> None:
    said = Said(least_s=30)
    await said.say(FULL)
    assert (said.left_s(OTHER), said.left_s(None)) == (30, 30)
    await asyncio.sleep(30)
    assert (said.left_s(OTHER), said.left_s(FULL)) == (0, 270)


async def test_an_object_made_anew_under_its_key_was_told_nothing() -> None:
    said = Said(least_s=30)
    await said.say(FULL)
    assert said.left_s(FULL, uid="new") == 0


async def test_what_was_not_written_counts_as_not_said() -> None:
    said = Said()
    said.refused = error_for(429, message="slowly")
    assert not await said.say(FULL)
    said.refused = None
    assert said.left_s(FULL) == 0
    assert await said.say(FULL)


async def test_who_says_something_waits_until_there_is_room_for_another_event() -> None:
    said = Said()
    await said.say(FULL, subjects=3)
    assert said.announcer.room_s() == pytest.approx(3 / EVENTS_PER_S)
    await asyncio.sleep(3 / EVENTS_PER_S)
    assert said.announcer.room_s() == pytest.approx(0, abs=1e-6)


async def test_after_a_silence_so_many_may_come_at_once_as_was_said() -> None:
    said, written = Said(at_once=4), 0
    while not said.announcer.room_s():
        written += await said.say(FULL, key=f"p{written}")
    assert written == 4
    await asyncio.sleep(1 / EVENTS_PER_S)
    assert said.announcer.room_s() == pytest.approx(0, abs=1e-6)


async def test_what_is_forgotten_was_never_said() -> None:
    said = Said()
    for key in ("p", "q", "r"):
        await said.say(FULL, key=key)
    said.announcer.forget("p")
    said.announcer.keep(["r"])
    assert [said.left_s(FULL, key=key) for key in ("p", "q", "r")] == [0, 0, 300]
