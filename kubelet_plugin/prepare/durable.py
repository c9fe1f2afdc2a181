"""Files that are either there with all their bytes or not there at all, also after a loss of power.

Flow: `stage` writes a temporary file of unique name beside the target and makes its bytes durable; `publish`
renames it; `sync_folder` makes the rename durable. The three are apart because the reservation is checked
between the first two, under a lock in which no fsync may happen.

Limits: blocks; for threads only. A temporary file is locked (`flock`) by its writer for as long as it lives,
so that an agent that starts beside a running one removes only what a dead one left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from driver.errors import PrepareError

TEMPORARY = ".tmp"


class NodeStorageError(PrepareError):
    """The node's disk refused what has to be kept (full, read-only, broken)."""

    reason: ClassVar[str] = "NodeStorage"
    retriable: ClassVar[bool] = True


class Staged:
    """A temporary file whose bytes are durable and whose name is not the final one yet."""

    def __init__(self, *, temporary: Path, target: Path) -> None:
        self._temporary = temporary
        self._target = target
        self.published = False

    def publish(self) -> None:
        """Gives the file its name, in place of what had it before. Not durable before `sync_folder`."""
        self._temporary.rename(self._target)
        self.published = True


@contextlib.contextmanager
def stage(target: Path, content: bytes, *, mode: int) -> Iterator[Staged]:
    """Writes `content` durably beside `target`; removed at the end unless it was published.

    Raises:
        NodeStorageError: The disk is full or refuses to write.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}{TEMPORARY}")
    staged = Staged(temporary=temporary, target=target)
    handle = -1
    try:
        with storage_errors(target):
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.fchmod(handle, mode)  # the agent's umask may be anything
            write_all(handle, content)
            os.fsync(handle)
        yield staged
    finally:
        if handle >= 0:
            if not staged.published:
                with contextlib.suppress(FileNotFoundError):
                    temporary.unlink()
            os.close(handle)


def write_file(target: Path, content: bytes, *, mode: int) -> None:
    """Writes a file durably, in place of what was there before.

    Raises:
        NodeStorageError: The disk is full or refuses to write.
    """
    with stage(target, content, mode=mode) as staged, storage_errors(target):
        staged.publish()
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, *, mode: int) -> None:
    """Makes a folder with its parents, durably: without that, what is kept in it could vanish with it."""
    if folder.is_dir():
        return
    make_folder(folder.parent, mode=mode)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=mode)
    sync_folder(folder.parent)


def remove_leftovers(folder: Path, *, prefix: str = ".") -> None:
    """Removes temporary files whose writer is dead."""
    for path in list(folder.iterdir()):
        if not (path.name.startswith(prefix) and path.name.endswith(TEMPORARY)):
            continue
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Held by its writer if there is one: an agent that runs beside this one is at work on it.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                continue
            finally:
                os.close(handle)


def write_all(handle: int, content: bytes) -> None:
    """Writes all bytes; `os.write` may stop early on a disk that is nearly full."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals into a sentence for the pod's events."""
    try:
        yield
    except OSError as refused:
        full = refused.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = f"Make room in {path.parent} on the node." if full else f"Look at {path.parent} on the node."
        raise NodeStorageError(
            f"The node could not keep {path.name}: {refused.strerror}.",
            remedy=f"{remedy} The kubelet tries again.",
        ) from refused
