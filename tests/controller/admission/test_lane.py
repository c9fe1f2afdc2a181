"""Large reviews come one after the other, and leave the event loop to others."""

from __future__ import annotations

import asyncio

import pytest

from controller.admission.lane import AdmissionBusyError, Lane

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def stay(lane: Lane, *, seconds: float = 0.0, spent_s: float = 0.0) -> float:
    async with lane.turn() as turn:
        entered = asyncio.get_running_loop().time()
        turn.spent_s = spent_s
        await asyncio.sleep(seconds)
    return entered


async def test_one_is_in_it_at_a_time() -> None:
    lane = Lane()
    began = asyncio.get_running_loop().time()
    entered = await asyncio.gather(*(stay(lane, seconds=0.5) for _ in range(4)))
    assert [round(one - began, 1) for one in entered] == [0.0, 0.5, 1.0, 1.5]


async def test_after_each_the_loop_is_left_to_others_for_four_times_what_it_took() -> None:
    lane = Lane()
    began = asyncio.get_running_loop().time()
    entered = await asyncio.gather(*(stay(lane, spent_s=0.1) for _ in range(4)))
    assert [round(one - began, 1) for one in entered] == [0.0, 0.4, 0.8, 1.2]


async def test_who_waits_too_long_is_refused_and_takes_nobodys_turn() -> None:
    lane = Lane()
    first = asyncio.create_task(stay(lane, seconds=10))
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    with pytest.raises(AdmissionBusyError) as refused:
        await stay(lane)
    assert asyncio.get_running_loop().time() - began == pytest.approx(2)
    assert refused.value.reason == "AdmissionBusy"
    await first
    await stay(lane)


async def test_who_comes_after_too_many_is_refused_at_once() -> None:
    lane = Lane()
    tasks = [asyncio.create_task(stay(lane, seconds=0.1)) for _ in range(9)]
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    with pytest.raises(AdmissionBusyError):
        await stay(lane)
    assert asyncio.get_running_loop().time() == began
    await asyncio.gather(*tasks)


async def test_one_that_fails_lets_the_next_one_in() -> None:
    lane = Lane()
    with pytest.raises(ValueError, match="odd"):
        async with lane.turn():
            raise ValueError("odd")
    await stay(lane)
