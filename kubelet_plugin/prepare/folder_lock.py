"""The lock of the state folder: one thread of one agent at a time, of all that share the folder.

Flow: a mutex between this process's threads, then `flock` on a file between the two agents that run side by
side during a rolling update. Whoever dies lets go of it, since the kernel does.

Limits: blocks, for no longer than it was told to; no fsync may happen while it is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from driver.errors import StateError

_POLL_S = 0.002


class StateBusyError(StateError):
    """Another agent on this node holds the lock and does not let go (stopped, or its disk hangs)."""

    reason: ClassVar[str] = "StateBusy"
    retriable: ClassVar[bool] = True


class FolderLock:
    """A lock by a file.

    Args:
        path: The file; made where it is missing.
        wait_s: For how long it is waited for.
    """

    def __init__(self, path: Path, *, wait_s: float) -> None:
        self.path = path
        self._wait_s = wait_s
        self._mutex = threading.Lock()
        self._file = -1

    def open(self) -> None:
        """Opens the file; OSError if that is not possible."""
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Gives the file back; nobody holds the lock from here on."""
        with self._mutex:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock.

        Raises:
            StateBusyError: Somebody else does.
        """
        deadline = time.monotonic() + self._wait_s
        if not self._mutex.acquire(timeout=self._wait_s):
            raise self._busy()
        try:
            self._take(deadline)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def _take(self, deadline: float) -> None:
        while True:
            # Not a blocking call: an agent that is stopped while it holds the lock must not take all our
            # threads with it.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() > deadline:
                raise self._busy()
            time.sleep(_POLL_S)

    def _busy(self) -> StateBusyError:
        return StateBusyError(
            f"The state of this node was locked for more than {self._wait_s:g} s.",
            remedy="Look for a second, stopped agent on the node. The kubelet tries again.",
        )
