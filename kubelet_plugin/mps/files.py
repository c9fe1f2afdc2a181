"""What shares want of MPS, as files: `FOLDER/shares/CLAIM/NAMESPACE.json`.

Purpose: the one truth between agents and supervisor. A file is there with all its bytes or not there, so an
agent may die at any point, two agents may run side by side, and whoever starts reads what is wanted.

Limits: on a tmpfs, as the daemon's sockets are; after a boot agents write the files again from their records.
A file that cannot be read wants nothing and is told; its agent writes it again. Folders and files may
come and go under whoever reads them: what went is not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from driver.errors import DragomanError
from driver.isolation.service_shares import MpsShare
from kubelet_plugin.prepare.durable import make_folder, remove_leftovers, storage_errors, write_file
from kubelet_plugin.removal import remove_folder

_VERSION = 1
_MAX_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What all files together want.

    Attributes:
        shares: By name of the namespace.
        unreadable: Names of files that cannot be read.
    """

    shares: Mapping[str, MpsShare] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()


class ShareFiles:
    """The files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "shares"

    def start(self) -> None:
        """Makes the folder and removes what writers that died left behind."""
        make_folder(self._folder, mode=0o700)
        for claim in self._claims():
            with suppress(FileNotFoundError):
                remove_leftovers(claim)

    def put(self, share: MpsShare) -> bool:
        """Writes a share's file.

        Returns:
            Whether it was not there, or said something else.

        Raises:
            NodeStorageError: The disk refuses.
        """
        path = self._path(share.claim_uid, share.name)
        if self.has(share):
            return False
        with storage_errors(path):
            make_folder(path.parent, mode=0o700)
            write_file(path, _encode(share), mode=0o600)
        return True

    def has(self, share: MpsShare) -> bool:
        """Whether a share's file is there and says what is wanted."""
        try:
            return self._path(share.claim_uid, share.name).read_bytes() == _encode(share)
        except OSError:
            return False

    def drop(self, claim_uid: str, name: str) -> bool:
        """Removes a share's file, and the claim's folder with the last; whether there was a folder."""
        path = self._path(claim_uid, name)
        with storage_errors(path):
            if not path.parent.is_dir():
                return False
            path.unlink(missing_ok=True)
            if not _files(path.parent):
                # Somebody may write into it this very moment; the engine removes what has no record.
                with suppress(OSError):
                    remove_folder(path.parent)
        return True

    def drop_claim(self, claim_uid: str) -> bool:
        """Removes all files of a claim; whether there was a folder of it."""
        folder = self._path(claim_uid, "any").parent
        with storage_errors(folder):
            there = folder.is_dir()
            remove_folder(folder)
        return there

    def claims(self) -> frozenset[str]:
        """UIDs of all claims that have a folder here."""
        return frozenset(path.name for path in self._claims())

    def read(self) -> Wanted:
        """All files.

        Raises:
            OSError: A folder is there and cannot be read, so that nobody knows what is wanted.
        """
        shares: dict[str, MpsShare] = {}
        unreadable: set[str] = set()
        for claim in self._claims():
            for path in _files(claim):
                try:
                    share = _decode(path)
                except FileNotFoundError:
                    continue
                except (OSError, DragomanError, ValueError, TypeError, KeyError):
                    unreadable.add(path.stem)
                    continue
                if (share.claim_uid, share.name) != (claim.name, path.stem):
                    unreadable.add(path.stem)
                    continue
                shares[share.name] = share
        return Wanted(shares=shares, unreadable=frozenset(unreadable - shares.keys()))

    def _claims(self) -> list[Path]:
        try:
            with os.scandir(self._folder) as entries:
                return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def _path(self, claim_uid: str, name: str) -> Path:
        for part in (claim_uid, name):
            if "/" in part or part in ("", ".", ".."):
                raise ValueError(f"{part!r} cannot be the name of a file")
        return self._folder / claim_uid / f"{name}.json"


def _files(claim: Path) -> list[Path]:
    """A claim's files; none if its folder is gone, which it may be from one moment to the next."""
    try:
        with os.scandir(claim) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.endswith(".json"))
    except FileNotFoundError:
        return []


def _encode(share: MpsShare) -> bytes:
    return json.dumps({"version": _VERSION, **asdict(share)}, sort_keys=True).encode() + b"\n"


def _decode(path: Path) -> MpsShare:
    with path.open("rb") as file:
        document: dict[str, Any] = json.loads(file.read(_MAX_BYTES + 1)[:_MAX_BYTES])
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']}")
    amounts = [document["memory_mib"], document["cores_percent"]]
    if any(type(amount) is not int for amount in amounts):
        raise TypeError("an amount is no whole number")
    return MpsShare(
        claim_uid=str(document["claim_uid"]),
        name=str(document["name"]),
        server=str(document["server"]),
        card=str(document["card"]),
        memory_mib=amounts[0],
        cores_percent=amounts[1],
    )
