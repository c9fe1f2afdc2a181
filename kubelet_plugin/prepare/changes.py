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
from dataclasses import dataclass
from pathlib import Path

from kubelet_plugin.prepare.durable import write_all

_LARGE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What others changed.

    Attributes:
        uids: UIDs that they announced, as far as can be told.
        everything: There may be more, so everything has to be read again.
    """

    uids: frozenset[str]
    everything: bool = False


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

    def seen(self) -> Seen:
        """What others announced since the last call."""
        try:
            current = self._path.stat()
        except FileNotFoundError:
            announced = self._tail()
            self._replace()
            return Seen(uids=announced, everything=True)
        if self._handle < 0 or not os.path.samestat(current, os.fstat(self._handle)):
            # The old file stays open until here, so that its inode cannot come back as the new one's.
            announced = self._tail()
            self._open()
            self._read = 0
            return Seen(uids=announced | self._tail(), everything=True)
        if current.st_size < self._read:
            self._read = 0
            return Seen(uids=self._tail(), everything=True)
        return Seen(uids=self._tail())

    def _tail(self) -> frozenset[str]:
        """Names from where the last call stopped."""
        if self._handle < 0:
            return frozenset()
        size = os.fstat(self._handle).st_size
        if size <= self._read:
            return frozenset()
        tail = os.pread(self._handle, size - self._read, self._read)
        self._read = size
        return frozenset(tail.decode(errors="replace").split())

    def announce(self, uid: str) -> None:
        """Tells others that a record is about to change; on a full disk by making them read everything."""
        # A line begins with its own newline: what a full disk cut off before stays a line of its own.
        line = f"\n{uid}\n".encode()
        try:
            if self._read > _LARGE:
                self._replace()
            write_all(self._handle, line)
        except OSError:
            self._replace()
            with contextlib.suppress(OSError):
                write_all(self._handle, line)
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
