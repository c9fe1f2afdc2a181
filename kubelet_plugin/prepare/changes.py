"""Tells two agents that share a state folder what the other one changed.

Purpose: during a rolling update two agents run side by side, each with the ledger in memory. Each change of a
record is announced in a file that only grows; its size is the generation. Whoever finds it larger than last
time reads the names of what changed, and nothing else.

Flow: `announce` before the record itself changes (a kill in between costs the other agent one needless look);
`seen` under the lock, before anything is decided.

Limits: both under the folder's lock only. Nothing here has to survive a loss of power: whoever starts reads
all records anyway.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kubelet_plugin.prepare.durable import write_all

_LARGE = 1 << 20


class ChangeLog:
    """The file in which changes are announced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        self._read = 0

    def close(self) -> None:
        """Gives the file back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def seen(self) -> frozenset[str] | None:
        """UIDs that others announced since the last call; None where everything has to be read again."""
        try:
            current = self._path.stat()
        except FileNotFoundError:
            self._replace()
            return None
        if self._handle < 0 or not os.path.samestat(current, os.fstat(self._handle)):
            # The old file stays open until here, so that its inode cannot come back as the new one's.
            self._open()
            self._read = os.fstat(self._handle).st_size
            return None
        if current.st_size == self._read:
            return frozenset()
        if current.st_size < self._read:
            self._read = current.st_size
            return None
        tail = os.pread(self._handle, current.st_size - self._read, self._read)
        self._read = current.st_size
        return frozenset(tail.decode(errors="replace").split())

    def announce(self, uid: str) -> None:
        """Tells others that a record is about to change; on a full disk by making them read everything."""
        try:
            if self._read > _LARGE:
                self._replace()
            # A line begins with its own newline: what a full disk cut off before stays a line of its own.
            write_all(self._handle, f"\n{uid}\n".encode())
        except OSError:
            self._replace()
        self._read = os.fstat(self._handle).st_size

    def _replace(self) -> None:
        fresh = self._path.with_name(f".{self._path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.touch(mode=0o600)
        fresh.rename(self._path)
        self._open()
        self._read = 0

    def _open(self) -> None:
        self.close()
        self._handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
