"""Notes of instances that were made for claims: one small file for each claim and partition.

Layout of the folder: `<claim UID>.<device>.json`, and `<card>.lock`, which is locked and never written.

Limits: blocks; for threads only. A file that cannot be read is kept, and refuses what would need it: nobody
knows whether the instance in its slots is ours to remove.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from driver.errors import StateError
from driver.isolation.partition_notes import Note
from driver.places import place_of
from kubelet_plugin.prepare.durable import (
    make_folder,
    remove_leftovers,
    storage_errors,
    sync_folder,
    write_file,
)

_SUFFIX = ".json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POLL_S = 0.01


class PartitionNoteDamagedError(StateError):
    """Nobody knows whether an instance was made for the claim: its note cannot be read."""

    reason: ClassVar[str] = "PartitionNoteDamaged"


class PartitionsBusyError(StateError):
    """Another agent on the node changes the card's instances and takes long."""

    reason: ClassVar[str] = "PartitionsBusy"
    retriable: ClassVar[bool] = True


class FileNotes:
    """Notes in a folder; implements `driver.isolation.partition_notes.Notes`.

    Args:
        folder: Where they are kept; made when the first one is.
        lock_wait_s: For so long the lock of a card is waited for.
        boot_id: The file that tells one boot from another.
    """

    def __init__(self, folder: Path, *, lock_wait_s: float = 20.0, boot_id: Path = _BOOT_ID) -> None:
        self._folder = folder
        self._lock_wait_s = lock_wait_s
        self._boot_id = boot_id

    def clean(self) -> None:
        """Removes what a killed agent left half written.

        Raises:
            NodeStorageError: The folder cannot be read.
        """
        with storage_errors(self._folder):
            if self._folder.is_dir():
                remove_leftovers(self._folder)

    def find(self, claim_uid: str, device: str) -> Note | None:
        """See `Notes`."""
        path = self._path(claim_uid, device)
        try:
            return _decode(path.read_bytes(), name=path.name)
        except FileNotFoundError:
            return None
        except OSError as unreadable:
            raise PartitionNoteDamagedError(
                f"{path.name} cannot be read: {unreadable.strerror}.", remedy=f"Look at {self._folder}."
            ) from None

    def put(self, note: Note) -> None:
        """See `Notes`."""
        target = self._path(note.claim_uid, note.device)
        with storage_errors(target):
            make_folder(self._folder, mode=0o700)
        write_file(target, json.dumps({"version": 1, **asdict(note)}).encode() + b"\n", mode=0o600)

    def remove(self, note: Note) -> None:
        """See `Notes`."""
        path = self._path(note.claim_uid, note.device)
        with storage_errors(path), contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_folder(self._folder)

    def of_claim(self, claim_uid: str) -> tuple[Note, ...]:
        """See `Notes`."""
        found = (self.find(claim_uid, device) for uid, device in self._names() if uid == claim_uid)
        return tuple(note for note in found if note is not None)

    def claims(self) -> frozenset[str]:
        """See `Notes`."""
        return frozenset(uid for uid, _ in self._names())

    def devices(self) -> frozenset[str]:
        """See `Notes`."""
        return frozenset(device for _, device in self._names())

    def holders(self, card: str) -> tuple[tuple[str, str], ...]:
        """See `Notes`."""
        places = [(uid, device, place_of(device)) for uid, device in self._names()]
        return tuple((uid, device) for uid, device, place in places if place and place.card == card)

    @contextlib.contextmanager
    def lock(self, card: str) -> Iterator[None]:
        """See `Notes`."""
        path = self._folder / f"{card}.lock"
        with storage_errors(path):
            make_folder(self._folder, mode=0o700)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for(handle, card=card)
            yield
        finally:
            os.close(handle)

    def boot(self) -> str:
        """See `Notes`."""
        with storage_errors(self._boot_id):
            return self._boot_id.read_text(encoding="ascii").strip()

    def _wait_for(self, handle: int, *, card: str) -> None:
        deadline = time.monotonic() + self._lock_wait_s
        while True:
            try:
                # An agent that is stopped while it holds the lock must not take our threads with it.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PartitionsBusyError(
                        f"The instances of card {card} have been changed for {self._lock_wait_s:g} s.",
                        remedy="Look for a second, stopped agent on the node. The kubelet tries again.",
                    ) from None
                time.sleep(_POLL_S)
            else:
                return

    def _names(self) -> list[tuple[str, str]]:
        try:
            names = sorted(os.listdir(self._folder))  # noqa: PTH208 - names are wanted, not paths
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            uid, dot, device = name.removesuffix(_SUFFIX).partition(".")
            if name.endswith(_SUFFIX) and uid and dot and device:
                found.append((uid, device))
        return found

    def _path(self, claim_uid: str, device: str) -> Path:
        return self._folder / f"{claim_uid}.{device}{_SUFFIX}"


def _decode(content: bytes, *, name: str) -> Note:
    try:
        document = json.loads(content)
        fields = {key: document[key] for key in Note.__dataclass_fields__ if key != "removing"}
        fields["removing"] = document.get("removing", "")
    except (KeyError, TypeError, ValueError) as damaged:
        raise _damaged(name, repr(damaged)) from None
    if not all(isinstance(value, str) for value in fields.values()):
        raise _damaged(name, "its fields are not texts")
    return Note(**fields)


def _damaged(name: str, why: str) -> PartitionNoteDamagedError:
    return PartitionNoteDamagedError(
        f"The note {name} of a partition cannot be read: {why}.",
        remedy="Look with the vendor's tool whether the instance in its slots is still needed, remove it if "
        "not, and then the file.",
    )
