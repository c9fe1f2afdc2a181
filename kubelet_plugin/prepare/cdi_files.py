"""The CDI spec files of prepared claims: written, put back when they vanish, removed when nobody owns them.

Purpose: the runtime reads them at every container start, also at a restart for which the kubelet does not
prepare again. So a file that vanished or changed has to be there again without anybody asking.

Limits: blocks; for threads only. Files are found changed by inode, size and time of modification, which costs
one call a file; their content is read only then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubelet_plugin.prepare.durable import make_folder, remove_leftovers, storage_errors, write_file
from kubelet_plugin.prepare.records import CLAIM_UID

_PREFIX = "dragoman.dev-share-"
_SUFFIX = ".json"

_Signature = tuple[int, int, int]


class CdiFiles:
    """Our files in a folder that belongs to all vendors of the node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, _Signature] = {}
        self._content: dict[str, bytes] = {}

    def intact(self, uid: str) -> bool:
        """Whether the file is as this process last wrote or checked it."""
        known = self._known.get(uid)
        return known is not None and known == self._signature(uid)

    def ensure(self, uid: str, content: bytes) -> bool:
        """Makes the file hold exactly this content.

        Returns:
            Whether it had to be written.

        Raises:
            NodeStorageError: The folder cannot be written.
        """
        written = self._write(uid, content)
        signature = self._signature(uid)
        if signature is not None:
            self._known[uid] = signature
            self._content[uid] = content
        return written

    def put_back(self, uid: str) -> bool:
        """Writes a missing file as `ensure` last made it; it is not taken for intact by that.

        Returns:
            Whether it was written: not where it is there, or nobody remembers.

        Raises:
            NodeStorageError: The folder cannot be written.
        """
        content = self._content.get(uid)
        if content is None or self._signature(uid) is not None:
            return False
        return self._write(uid, content)

    def _write(self, uid: str, content: bytes) -> bool:
        path = self._path(uid)
        with storage_errors(path):
            try:
                written = path.read_bytes() != content
            except FileNotFoundError:
                written = True
            if written:
                make_folder(self._folder, mode=0o755)
                write_file(path, content, mode=0o644)
        return written

    def devices(self, uid: str) -> frozenset[str]:
        """Names of the devices in a claim's file; none where it is missing or cannot be read."""
        return frozenset(self.nodes(uid))

    def nodes(self, uid: str) -> Mapping[str, frozenset[str]]:
        """Paths of the device nodes in a claim's file, by device; none where it cannot be read."""
        try:
            document = json.loads(self._path(uid).read_bytes())
            return {str(device["name"]): _nodes(device["containerEdits"]) for device in document["devices"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def remove(self, uid: str) -> None:
        """Removes a claim's file; no error if it is missing.

        Raises:
            NodeStorageError: The folder cannot be written.
        """
        self._known.pop(uid, None)
        self._content.pop(uid, None)
        with storage_errors(self._path(uid)):
            # Not made durable: a file that comes back after a loss of power has no record, and goes at start.
            self._path(uid).unlink(missing_ok=True)

    def uids(self) -> frozenset[str]:
        """UIDs of the claims that have a file of ours."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return frozenset()
        found = (name[len(_PREFIX) : -len(_SUFFIX)] for name in names if _is_ours(name))
        return frozenset(uid for uid in found if CLAIM_UID.fullmatch(uid))

    def clean(self) -> None:
        """Removes temporary files that a killed agent left."""
        if self._folder.is_dir():
            remove_leftovers(self._folder, prefix=f".{_PREFIX}")

    def _path(self, uid: str) -> Path:
        return self._folder / f"{_PREFIX}{uid}{_SUFFIX}"

    def _signature(self, uid: str) -> _Signature | None:
        try:
            found = self._path(uid).stat()
        except FileNotFoundError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def _nodes(edits: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(str(node["path"]) for node in edits.get("deviceNodes", ()))


def _is_ours(name: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)
