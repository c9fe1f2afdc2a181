"""Two agents at one claim: what one has answered from, the other does not take back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from driver.errors import DragomanError, IsolationError
from kubelet_plugin.prepare.effects import Effects
from kubelet_plugin.prepare.engine import PrepareEngine
from tests.support.node_world import JSON, World, claim, pod, prepare, result, uid_of, unprepare

pytestmark = pytest.mark.asyncio


class Late:
    """Isolation that waits at its first question, and then fails."""

    def __init__(
        self, world: World, monkeypatch: pytest.MonkeyPatch, *, verb: str = "isolation_edits"
    ) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        self._first = True
        self._asked = getattr(world.cards, verb)
        monkeypatch.setattr(world.cards, verb, self)

    def __call__(self, *args: Any, **more: Any) -> Any:
        if self._first:
            self._first = False
            self.reached.set()
            assert self.go.wait(60)
            raise IsolationError("a service did not answer in time")
        return self._asked(*args, **more)

    @contextlib.asynccontextmanager
    async def during(self, work: asyncio.Task[Any]) -> AsyncIterator[None]:
        """The time for which `work` is held up; it is over at the end."""
        assert await asyncio.to_thread(self.reached.wait, 10)
        yield
        self.go.set()
        with contextlib.suppress(DragomanError):
            await work


@pytest.fixture
def found(world: World) -> JSON:
    claimed = claim("claim", result())
    world.add(claimed, pod())
    return claimed


async def test_a_commit_that_fails_late_does_not_take_back_what_the_other_agent_answered(
    world: World, found: JSON, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(world, monkeypatch)
    async with world.engine() as old, world.engine() as new:
        # The kubelet gave this call up, and asks the agent that registered last.
        async with late.during(asyncio.create_task(prepare(old, found))):
            assert (await prepare(new, found)).devices
        for engine in (old, new):
            await engine.restore()
            assert engine.use("card-0").memory_mib == 100
        assert world.env(found) >= {"LIMIT_0=100m"}
        assert len(world.regions) == 1


async def test_nor_does_it_take_back_what_was_answered_while_the_api_server_is_away(
    world: World, found: JSON, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(world, monkeypatch)
    async with world.engine() as old, world.engine() as new:
        async with late.during(asyncio.create_task(prepare(old, found))):
            await new.restore()
            world.claims.away = True
            assert (await prepare(new, found)).devices
        assert world.spec(found)
        assert uid_of("claim") in new.records


async def test_nor_what_the_other_agent_made(
    world: World, found: JSON, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.engine() as old, world.engine() as new:
        # No marks can be left, as on a full disk.
        answers = world.folder / "state" / "answers"
        answers.rename(answers.with_name("elsewhere"))
        reserve = old._state.reserve

        def reserve_late(*args: Any, **more: Any) -> Any:
            asyncio.run_coroutine_threadsafe(prepare(new, found), loop).result(10)
            world.cards.refuse_edits = IsolationError("not for you")
            return reserve(*args, **more)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(old._state, "reserve", reserve_late)
        monkeypatch.setattr(old._effects, "repeat", lambda *_, **__: None)
        with pytest.raises(IsolationError, match="not for you"):
            await prepare(old, found)
        assert uid_of("claim") in new.records
        assert world.spec(found)


async def test_what_is_being_taken_back_is_answered_by_nobody_until_that_is_over(
    world: World, found: JSON, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cards.refuse_edits = IsolationError("not now")
    late = Late(world, monkeypatch, verb="undo")
    async with world.engine() as old, world.engine() as new:
        async with late.during(asyncio.create_task(prepare(old, found))):
            world.cards.refuse_edits = None
            with pytest.raises(DragomanError, match="taking back") as refused:
                await prepare(new, found)
            assert (refused.value.reason, refused.value.retriable) == ("StateBusy", True)
        assert (await prepare(new, found)).devices
        assert world.spec(found)


async def test_a_claim_whose_taking_back_was_killed_is_answered(world: World, found: JSON) -> None:
    async with world.engine() as old, world.engine() as new:
        await prepare(old, found)
        left = world.folder / "state" / "answers" / f"{uid_of('claim')}.taking-back"
        left.touch()
        assert (await prepare(new, found)).devices
        assert not left.exists()


async def test_a_record_that_was_made_anew_by_the_other_agent_is_its_own(
    world: World, found: JSON, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.engine() as old, world.engine() as new:
        # The new agent knew the claim as its own, before.
        await prepare(new, found)
        await unprepare(old, found)
        late = Late(world, monkeypatch)
        async with late.during(asyncio.create_task(prepare(old, found))):
            assert (await prepare(new, found)).devices
        assert uid_of("claim") in new.records
        assert world.spec(found)


async def test_no_mark_outlives_its_claim(world: World, found: JSON) -> None:
    answers = world.folder / "state" / "answers"
    async with world.engine() as old, world.engine() as new:
        await prepare(old, found)
        await prepare(new, found)
        assert [path.name for path in answers.iterdir()] == [uid_of("claim")]
        await unprepare(old, found)
        assert list(answers.iterdir()) == []
        (answers / uid_of("nobody")).touch()
        (answers / f"{uid_of('nobody')}.taking-back").touch()
    async with world.engine():
        assert list(answers.iterdir()) == []


async def test_on_a_full_disk_what_failed_is_undone_all_the_same(world: World, found: JSON) -> None:
    world.cards.refuse_edits = IsolationError("not now")
    async with world.engine() as engine:
        (world.folder / "state" / "answers").rmdir()
        with pytest.raises(IsolationError):
            await prepare(engine, found)
        assert engine.records == {}


async def test_what_another_agent_prepares_during_a_look_is_no_orphan(
    world: World, found: JSON, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.engine() as old, world.engine() as new:
        loop = asyncio.get_running_loop()
        held_claims = world.cards.held_claims

        def held_after_a_prepare() -> frozenset[str]:
            asyncio.run_coroutine_threadsafe(prepare(new, found), loop).result(10)
            return held_claims()

        monkeypatch.setattr(world.cards, "held_claims", held_after_a_prepare)
        assert await asyncio.to_thread(_effects(old).orphans) == frozenset()
        assert len(world.regions) == 1


def _effects(engine: PrepareEngine) -> Effects:
    return engine._effects
