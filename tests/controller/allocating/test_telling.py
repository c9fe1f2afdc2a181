"""What people are told about pods that wait for our allocator."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from controller.allocating.telling import Telling
from controller.events import Events
from controller.explaining.answers import note_of
from controller.metrics import Metrics
from driver.kube.client import KubeClient, error_for
from tests.controller.allocating.world import World
from tests.support.scripted_api import Request, ScriptedTransport

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Told:
    """A world whose answers are told."""

    def __init__(self) -> None:
        self.world = World()
        self.refuses = 0
        self.transport = ScriptedTransport(self._answer)
        self.telling = Telling(
            self.world.part.sources,
            self.world.part.books,
            Events(KubeClient(self.transport), instance="i", metrics=Metrics()),
            question_of=self.world.part.allocator.question,
            note_of=lambda found, single: note_of(found, single=single),
            again_s=300,
        )

    def _answer(self, request: Request) -> Any:
        if self.refuses:
            self.refuses -= 1
            return error_for(429, message="slowly")
        return request.body

    async def decide(self, *pods: str) -> None:
        before = len(self.world.answers)
        await self.world.reconcile(*pods)
        for answer in self.world.answers[before:]:
            self.telling.note(answer)

    @property
    def notes(self) -> list[tuple[str, str, str]]:
        return [
            (sent.body["regarding"]["kind"], sent.body["reason"], sent.body["note"])
            for sent in self.transport.requests
            if sent.method == "POST"
        ]


async def test_pod_and_claim_are_told_what_is_missing_and_what_would_help() -> None:
    told = Told()
    told.world.ask("a", "800Mi")
    told.world.ask("b", "400Mi")
    await told.decide("a", "b")
    await told.telling.tell("default/b")
    assert [(kind, reason) for kind, reason, _ in told.notes] == [
        ("Pod", "NoDevice"),
        ("ResourceClaim", "NoDevice"),
    ]
    note = told.notes[0][2]
    assert "asks 400Mi, free 200Mi of 1000Mi" in note
    assert "Would help" in note
    assert "default/a" not in note, "another one's claim is nobody's business"


async def test_what_is_wrong_with_the_claim_itself_is_told_in_its_own_words() -> None:
    told = Told()
    told.world.kept = False
    told.world.ask("p", memory="")
    await told.decide("p")
    await told.telling.tell("default/p")
    assert {reason for _, reason, _ in told.notes} == {"ClaimNotStamped"}
    assert "make the template anew first" in told.notes[0][2]


async def test_where_no_node_is_left_meanwhile_the_answer_that_there_was_is_told() -> None:
    told = Told()
    told.world.ask("p", "2000Mi")
    await told.decide("p")
    told.world.offered.clear()
    await told.telling.tell("default/p")
    assert [reason for _, reason, _ in told.notes] == ["NoDevice"] * 2


async def test_an_unchanged_answer_is_told_again_only_after_a_while_and_then_counted() -> None:
    told = Told()
    told.world.ask("p", "2000Mi")
    await told.decide("p")
    assert await told.telling.tell("default/p") == 300
    first = len(told.transport.requests)
    await asyncio.sleep(100)
    assert await told.telling.tell("default/p") == 200
    assert len(told.transport.requests) == first
    await asyncio.sleep(200)
    await told.telling.tell("default/p")
    assert [sent.method for sent in told.transport.requests[first:]] == ["PATCH", "PATCH"]


@pytest.mark.parametrize("refused", [1, 2])
async def test_what_the_api_server_would_not_take_is_told_again_soon(refused: int) -> None:
    told = Told()
    told.world.ask("p", "2000Mi")
    await told.decide("p")
    told.refuses = refused
    assert await told.telling.tell("default/p") == 5
    del told.transport.requests[:]
    assert await told.telling.tell("default/p") == 300
    assert [(kind, reason) for kind, reason, _ in told.notes] == [
        ("Pod", "NoDevice"),
        ("ResourceClaim", "NoDevice"),
    ]


async def test_a_pod_that_got_its_claims_is_told_nothing() -> None:
    told = Told()
    told.world.ask("a", "800Mi")
    told.world.ask("b", "800Mi")
    await told.decide("a", "b")
    told.world.take_back("a")
    await told.decide("b")
    assert await told.telling.tell("default/b") is None
    assert told.notes == []


async def test_a_pod_that_is_gone_is_told_nothing() -> None:
    told = Told()
    told.world.ask("p", "2000Mi")
    await told.decide("p")
    told.world.pod("p")
    assert await told.telling.tell("default/p") is None
    assert told.notes == []


async def test_reasons_that_change_to_and_fro_are_not_told_each_time() -> None:
    told = Told()
    told.world.ask("p", "2000Mi")
    for _ in range(50):
        for offered in (set[str](), {"n1"}):
            told.world.offered = offered
            await told.decide("p")
            await told.telling.tell("default/p")
        await asyncio.sleep(1)
    assert len(told.transport.requests) <= 4


async def test_a_pod_made_anew_under_its_name_is_told_at_once() -> None:
    told = Told()
    told.world.ask("p", "2000Mi")
    await told.decide("p")
    await told.telling.tell("default/p")
    first = len(told.notes)
    document = {
        "metadata": {"name": "p", "namespace": "default", "uid": "another"},
        "spec": {"containers": [{}], "resourceClaims": [{"name": "p", "resourceClaimName": "p"}]},
    }
    told.world._put(told.world.pods, document)
    await told.decide("p")
    await told.telling.tell("default/p")
    assert len(told.notes) == 2 * first


async def test_many_pods_are_told_no_faster_than_the_api_server_likes() -> None:
    told = Told()
    for number in range(50):
        told.world.ask(f"p{number}", "2000Mi")
        await told.decide(f"p{number}")
    began = asyncio.get_running_loop().time()
    for number in range(50):
        await told.telling.tell(f"default/p{number}")
        await told.telling.rest()
    assert asyncio.get_running_loop().time() - began >= 100 / 20


async def test_nothing_of_an_answer_is_kept_but_its_words() -> None:
    told = Told()
    told.world.kept = False
    told.world.ask("p", memory="")
    await told.decide("p")
    error = weakref.ref(told.world.answers.pop().error)
    gc.collect()
    assert error() is None
    await told.telling.tell("default/p")
    assert {reason for _, reason, _ in told.notes} == {"ClaimNotStamped"}
