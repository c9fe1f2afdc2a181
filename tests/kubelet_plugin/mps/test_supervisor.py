"""The supervisor's loop: a signal ends it and its daemon, and nothing else does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from driver.isolation.service import MpsState
from kubelet_plugin.mps import supervisor as module
from kubelet_plugin.mps.client import SOCKET, MpsSupervised
from kubelet_plugin.mps.supervisor import Supervisor


class Looks:
    """Stands for the reconciler: each look does the next thing, the last one over and over."""

    daemon = SimpleNamespace(descriptor=-1)
    next_s = 0.01

    def __init__(self, *looks: Callable[[], MpsState]) -> None:
        self.looks = list(looks)
        self.looked = 0
        self.stopped_after: list[int] = []

    def start(self) -> None:
        """Nothing to make."""

    def sync(self) -> MpsState:
        self.looked += 1
        return (self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])()

    def stop(self) -> None:
        self.stopped_after.append(self.looked)


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_AFTER_FAILURE_S", 0.01)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def run(folder: Path, looks: Any) -> None:
    Supervisor(folder, reconciler=looks).run()


def fails(failure: Exception) -> Callable[[], MpsState]:
    def look() -> MpsState:
        raise failure

    return look


def terminated() -> MpsState:
    os.kill(os.getpid(), signal.SIGTERM)
    return MpsState()


@pytest.mark.parametrize("failure", [OSError(28, "No space"), ValueError("4300 digits"), KeyError("a bug")])
def test_whatever_fails_in_a_look_only_a_signal_ends_the_daemon(tmp_path: Path, failure: Exception) -> None:
    looks = Looks(fails(failure), fails(failure), MpsState, fails(failure), terminated)
    run(tmp_path, looks)
    assert looks.stopped_after == [5]


def test_whatever_fails_between_two_looks_only_a_signal_ends_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(MpsState, MpsState, terminated)
    real, failures = module._accepted, [OSError(24, "Too many open files"), RuntimeError("a bug")]

    def accepted(listening: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(listening)

    monkeypatch.setattr(module, "_accepted", accepted)
    run(tmp_path, looks)
    assert failures == []
    assert looks.stopped_after == [3]


def test_who_asks_while_a_look_fails_is_told_what_failed(tmp_path: Path) -> None:
    answers: list[MpsState] = []

    def ask() -> None:
        answers.append(MpsSupervised(tmp_path).state())
        os.kill(os.getpid(), signal.SIGTERM)

    def first() -> MpsState:
        asking.start()
        return MpsState()

    asking = threading.Thread(target=ask)
    run(tmp_path, Looks(first, fails(KeyError("a bug"))))
    asking.join()
    assert "KeyError('a bug')" in answers[0].problem


def test_a_loop_that_ends_without_a_signal_leaves_the_daemon_to_the_next_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(MpsState)

    def ended(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Supervisor, "_loop", ended)
    with pytest.raises(MemoryError):
        run(tmp_path, looks)
    assert looks.stopped_after == []
    assert not (tmp_path / SOCKET).exists()
