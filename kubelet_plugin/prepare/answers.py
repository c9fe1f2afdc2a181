"""Whether anybody but its maker has answered from a record, so that nobody takes back what others rely on.

Purpose: during a rolling update two agents run side by side. One reserves and is held up (a service that does
not answer, another lock, a disk); the kubelet gives up, asks the other one, which finds the record and
answers. When the first one fails after all, containers may run on what it made: it must not be undone.

Flow: `answer` before a reply from a record that another agent made leaves a mark -> `take_back` says no where
there is one; otherwise the claim is locked until that is over, and `answer` refuses meanwhile, for a retry.

Limits: under the state folder's lock only, but for the time in which a claim is taken back. Marks need not
survive a loss of power, since no commit does. On a full disk none is left: better than no answer at all, and
than reservations that nobody gives back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)
_TAKING_BACK = ".taking-back"


class Answers:
    """The marks of one node, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settled: set[str] = set()

    def open(self, *, is_known: Callable[[str], bool]) -> None:
        """Makes the folder and removes marks of claims without a record."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in list(self._folder.iterdir()):
            if not is_known(path.name.removesuffix(_TAKING_BACK)):
                _remove(path)

    def made(self, uid: str) -> None:
        """Notes that this agent makes the record: until its own commit is over nobody asks it again."""
        self._settled.add(uid)
        _remove(self._folder / uid)

    def changed(self, uid: str) -> None:
        """Notes that another agent changed the record."""
        self._settled.discard(uid)

    def forget(self, uid: str) -> None:
        """Removes the mark of a claim that is released."""
        self._settled.discard(uid)
        _remove(self._folder / uid)

    def answer(self, uid: str) -> bool:
        """Marks the record as one that somebody relies on.

        Returns:
            False where it is being taken back at this moment.
        """
        if uid in self._settled:
            return True
        if self._is_taken_back(uid):
            return False
        try:
            (self._folder / uid).touch(mode=0o600)
        except OSError as refused:
            _log.warning("answer not marked", claim=uid, error=str(refused))
        self._settled.add(uid)
        return True

    def take_back(self, uid: str) -> contextlib.ExitStack | None:
        """Locks the claim until what is returned is closed; None where somebody relies on the record."""
        if (self._folder / uid).exists():
            return None
        path = self._folder / f"{uid}{_TAKING_BACK}"
        with contextlib.ExitStack() as stack:
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, handle)
                stack.callback(_remove, path)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as refused:
                _log.warning("claim is taken back without a lock", claim=uid, error=str(refused))
            return stack.pop_all()

    def _is_taken_back(self, uid: str) -> bool:
        path = self._folder / f"{uid}{_TAKING_BACK}"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            # Whoever took it back was killed.
            _remove(path)
            return False
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
