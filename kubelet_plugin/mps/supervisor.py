"""The process that looks after the MPS daemon of a node.

Flow: a loop that waits for an agent's question, for the daemon's end, for a signal and for the next look
(`reconcile`), whichever comes first; every one of them leads to the same `sync`, whose answer goes to all who
asked. So agents that ask at the same time cost one look, and what was written before a question is in its
answer.

Limits: one at a time on a folder, by a lock. When it ends, the daemon ends, and with it every program that
uses it: an upgrade of this process is an administrator's decision. So only a signal ends it; whatever fails
within the loop is logged, told to who asks, and tried again.
"""

from __future__ import annotations

import fcntl
import os
import select
import selectors
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import structlog

from driver.errors import StateError
from driver.isolation.service import MpsState
from kubelet_plugin.mps.client import SOCKET
from kubelet_plugin.mps.reconcile import Reconciler
from kubelet_plugin.mps.wire import encode, short_path

log = structlog.get_logger(__name__)

_QUESTION_S = 1.0
_SEND_S = 5.0
_AFTER_FAILURE_S = 1.0
_WAITING = 64


class MpsBusyError(StateError):
    """Another supervisor works on the same folder."""

    reason: ClassVar[str] = "MpsBusy"
    retriable: ClassVar[bool] = True


class Supervisor:
    """One life of the supervisor."""

    def __init__(self, folder: Path, *, reconciler: Reconciler) -> None:
        self._folder = folder
        self._reconciler = reconciler
        self._selector = selectors.DefaultSelector()
        self._watched = -1
        self._stopping = False
        self._problem = ""

    def run(self) -> None:
        """Works until SIGTERM or SIGINT.

        Raises:
            MpsBusyError: Another one is at work here.
            OSError: The folder cannot be used.
        """
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        with (self._folder / "supervisor.lock").open("w") as lock:
            self._lock(lock.fileno())
            woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            self._selector.register(woken, selectors.EVENT_READ)
            self._reconciler.start()
            with self._listening() as listening:
                self._selector.register(listening, selectors.EVENT_READ)
                log.info("serving", folder=str(self._folder))
                try:
                    self._loop(listening, woken=woken)
                    self._reconciler.stop()
                finally:
                    (self._folder / SOCKET).unlink(missing_ok=True)
        log.info("stopped")

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MpsBusyError(
                f"Another supervisor of MPS works on {self._folder}.",
                remedy="It is tried again; two DaemonSets on one node need folders of their own.",
            ) from None

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _listening(self) -> socket.socket:
        path = self._folder / SOCKET
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with short_path(path) as short:
                listening.bind(short)
        finally:
            os.umask(before)
        listening.listen(_WAITING)
        listening.setblocking(False)
        return listening

    def _loop(self, listening: socket.socket, *, woken: int) -> None:
        self._look()
        while not self._stopping:
            try:
                self._turn(listening, woken=woken)
            except Exception as failed:  # noqa: BLE001 - see this module's limits
                _log_failure("the supervisor of MPS goes on after a failure", failed)
                # What failed may be ready again at once (no descriptors left), a signal still counts.
                select.select([woken], [], [], _AFTER_FAILURE_S)

    def _turn(self, listening: socket.socket, *, woken: int) -> None:
        self._watch_daemon()
        self._selector.select(timeout=self._reconciler.next_s)
        with suppress(BlockingIOError):
            os.read(woken, 1 << 10)
        if self._stopping:
            return
        asking = _accepted(listening)
        state = self._look()
        for connection in asking:
            _answer(connection, state)

    def _look(self) -> MpsState:
        try:
            state = self._reconciler.sync()
        except Exception as failed:  # noqa: BLE001 - see this module's limits
            _log_failure("a look at MPS failed", failed)
            state = MpsState(problem=f"The supervisor of MPS cannot do its work: {failed!r}.")
        if state.problem != self._problem:
            self._problem = state.problem
            log.info(
                "MPS holds what is wanted" if not state.problem else "MPS does not", problem=state.problem
            )
        return state

    def _watch_daemon(self) -> None:
        now = self._reconciler.daemon.descriptor
        if now == self._watched:
            return
        if self._watched >= 0:
            with suppress(KeyError, ValueError, OSError):
                self._selector.unregister(self._watched)
        self._watched = now
        if now >= 0:
            self._selector.register(now, selectors.EVENT_READ)


def _log_failure(what: str, failed: Exception) -> None:
    # Who reads the log may be what is broken.
    with suppress(Exception):
        log.error(what, exc_info=failed)


def _accepted(listening: socket.socket) -> list[socket.socket]:
    found: list[socket.socket] = []
    while len(found) < _WAITING:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            break
        found.append(connection)
    return found


def _answer(connection: socket.socket, state: MpsState) -> None:
    with connection, suppress(OSError):
        connection.settimeout(_QUESTION_S)
        connection.recv(16)
        connection.settimeout(_SEND_S)
        connection.sendall(encode(state))
