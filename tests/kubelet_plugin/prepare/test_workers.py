"""Threads for work that may hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait

import pytest

from kubelet_plugin.prepare.workers import KEPT, Workers


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Lets go whatever waits for it, at the end at the latest."""
    found = threading.Event()
    yield found
    found.set()


def fail() -> None:
    raise ValueError("not now")


def test_work_is_done_and_failures_are_the_askers() -> None:
    workers = Workers("test")
    assert workers.submit(lambda number: number + 1, 1).result(60) == 2
    with pytest.raises(ValueError, match="not now"):
        workers.submit(fail).result(60)
    assert workers.submit(lambda: 3).result(60) == 3
    assert workers.end(timeout_s=60) == 0


def test_threads_that_hang_take_none_from_others_where_seats_bound_them(over: threading.Event) -> None:
    workers = Workers("test")
    for _ in range(200):
        workers.submit(over.wait, 30)
    assert workers.submit(lambda: "done").result(60) == "done"


def test_only_so_many_are_at_work_at_once(over: threading.Event) -> None:
    workers = Workers("test", most=3)
    inside = threading.Semaphore(0)

    def work() -> None:
        inside.release()
        over.wait(120)

    begun = [workers.submit(work) for _ in range(8)]
    for _ in range(3):
        assert inside.acquire(timeout=60)
    assert not inside.acquire(timeout=0.05)
    over.set()
    assert not wait(begun, timeout=60).not_done
    assert workers.end(timeout_s=60) == 0


def test_who_steps_aside_makes_room_for_the_next_and_takes_it_again_when_it_steps_back(
    over: threading.Event,
) -> None:
    workers = Workers("test", most=2)
    aside = threading.Semaphore(0)

    def hang() -> None:
        workers.step_aside()
        aside.release()
        over.wait(120)
        workers.step_back()

    begun = [workers.submit(hang) for _ in range(40)]
    for _ in range(40):
        assert aside.acquire(timeout=60)
    assert workers.submit(lambda: "done").result(60) == "done"
    over.set()
    assert not wait(begun, timeout=60).not_done
    held, inside = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        inside.release()
        held.wait(120)

    stuck = [workers.submit(hold) for _ in range(4)]
    for _ in range(2):
        assert inside.acquire(timeout=60)
    # There are threads enough that have nothing to do.
    assert not inside.acquire(timeout=0.05)
    held.set()
    assert not wait(stuck, timeout=60).not_done
    assert workers.end(timeout_s=60) == 0


def test_of_threads_that_are_idle_no_more_than_are_kept_stay(over: threading.Event) -> None:
    workers = Workers("many")
    done = [workers.submit(over.wait, 30) for _ in range(4 * KEPT)]
    over.set()
    assert not wait(done, timeout=60).not_done
    until = time.monotonic() + 60
    while sum(one.name == "many" for one in threading.enumerate()) > KEPT:
        assert time.monotonic() < until
        time.sleep(0.005)
    assert workers.submit(lambda: "done").result(60) == "done"
    assert workers.end(timeout_s=60) == 0


def test_at_the_end_what_hangs_is_counted_and_left(over: threading.Event) -> None:
    workers = Workers("test")
    inside = threading.Semaphore(0)

    def hang() -> None:
        inside.release()
        over.wait(120)

    workers.submit(lambda: None).result(60)
    hanging = [workers.submit(hang) for _ in range(2)]
    for _ in range(2):
        assert inside.acquire(timeout=60)
    assert workers.end(timeout_s=0.05) == 2
    with pytest.raises(RuntimeError, match="ended"):
        workers.submit(lambda: None)
    over.set()
    assert not wait(hanging, timeout=60).not_done
    assert workers.end(timeout_s=60) == 0


def test_no_thread_keeps_the_process_from_ending(over: threading.Event) -> None:
    workers = Workers("left behind")
    workers.submit(over.wait, 30)
    found = [one for one in threading.enumerate() if one.name == "left behind"]
    assert [one.daemon for one in found] == [True]


def test_work_that_waits_when_the_workers_end_is_done_first(over: threading.Event) -> None:
    workers = Workers("test", most=1)
    first = workers.submit(over.wait, 30)
    second = workers.submit(lambda: "done")
    over.set()
    assert workers.end(timeout_s=60) == 0
    assert (first.result(0), second.result(0)) == (True, "done")


def test_work_that_nobody_wants_any_more_is_not_begun(over: threading.Event) -> None:
    workers = Workers("test", most=1)
    workers.submit(over.wait, 30)
    unwanted = workers.submit(fail)
    assert unwanted.cancel()
    over.set()
    workers.shutdown()
    assert unwanted.cancelled()


def test_work_that_is_refused_for_want_of_a_thread_is_not_done_later_and_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers("test")
    done: list[str] = []
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="new thread"):
            workers.submit(done.append, "refused")
    workers.submit(done.append, "again").result(60)
    assert workers.end(timeout_s=60) == 0
    assert done == ["again"]


def test_who_steps_aside_goes_on_where_there_is_no_thread_for_the_next(
    over: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers("test", most=1)
    inside, start = threading.Event(), threading.Thread.start

    def aside() -> str:
        inside.set()
        over.wait(120)
        with monkeypatch.context() as without:
            without.setattr(threading.Thread, "start", none_left)
            workers.step_aside()
        workers.step_back()
        return "went on"

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "test":
            raise RuntimeError("can't start new thread")
        start(thread)

    first = workers.submit(aside)
    assert inside.wait(60)
    second = workers.submit(lambda: "done")
    over.set()
    assert (first.result(60), second.result(60)) == ("went on", "done")
    assert workers.end(timeout_s=60) == 0
