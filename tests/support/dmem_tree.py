"""The kernel's controller of device memory (dmem), as far as its files go, for kernels that have none.

Purpose: a file system (FUSE) that shows the folders of another tree and, in each, the files of the controller
as the kernel's cgroup-v2 document has them: `dmem.max` with one line for each region, a write of `REGION
VALUE`, EINVAL for what is no region or value, `dmem.capacity` and `cgroup.controllers` at the root; a folder
has the controller's files once its parent has `+dmem` in `cgroup.subtree_control`. Folders are those of
`below`, live: a cgroup that the container runtime makes in the real tree is there at once.

Limits: needs root and /dev/fuse. It limits nothing, as there is no memory: it stands for the files alone.
Written limits are kept by path and forgotten with the object.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE = 1, 2, 3, 4, 14, 15, 16
_RELEASE, _FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR = 18, 25, 26, 27, 28, 29
_ACCESS, _INTERRUPT, _DESTROY, _BATCH_FORGET = 34, 36, 38, 42
_SILENT = {_FORGET, _BATCH_FORGET, _INTERRUPT}
_DIRECT_IO = 1
_ROOT = 1
_LIMITS = ("dmem.max", "dmem.min", "dmem.low")

_libc = ctypes.CDLL(None, use_errno=True)


def possible() -> bool:
    """Whether this process may mount such a tree."""
    return os.geteuid() == 0 and Path("/dev/fuse").exists()


class DmemTree:
    """The tree, mounted at `at` while the object is used as a context."""

    def __init__(
        self,
        at: Path,
        *,
        below: Path,
        capacity: Mapping[str, int],
        enabled: bool = True,
        deaf: bool = False,
        keeps: str = "",
    ) -> None:
        """Describes a tree.

        Args:
            at: Where it is mounted; made if missing.
            below: The tree whose folders it shows.
            capacity: Regions and their sizes in bytes.
            enabled: All folders have the controller; else only those below a `+dmem`.
            deaf: Limits are taken and not kept, as by a kernel that changes its mind.
            keeps: What is kept instead of every limit, as by a kernel that rounds; "" for the limit itself.
        """
        self.at = at
        self.capacity = dict(capacity)
        self.writes: list[tuple[str, str, str]] = []
        """Folder (`/` for the root), file and text of each write, in order."""
        self._below = below
        self._everywhere = enabled
        self.deaf = deaf
        self._keeps = keeps
        self._controlled: set[str] = set()
        self._limits: dict[tuple[str, str, str], str] = {}
        self._paths: dict[int, str] = {_ROOT: "/"}
        self._inodes: dict[str, int] = {"/": _ROOT}
        self._fd = -1

    def limit(self, folder: str, *, region: str, file: str = "dmem.max") -> str:
        """What was written for a folder, also when it is gone; "" for nothing."""
        return self._limits.get((folder, file, region), "")

    def __enter__(self) -> Self:
        self.at.mkdir(parents=True, exist_ok=True)
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
        if _libc.mount(b"dmem", str(self.at).encode(), b"fuse", 0, options.encode()) != 0:
            failed = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(failed, os.strerror(failed), "mount")
        threading.Thread(target=self._serve, name="dmem-tree", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _libc.umount2(str(self.at).encode(), 2)

    # The protocol

    def _serve(self) -> None:
        while True:
            try:
                message = os.read(self._fd, 1 << 20)
            except OSError as gone:
                if gone.errno in (errno.EINTR, errno.ENOENT):
                    continue
                break  # unmounted
            _, opcode, unique, node, *_ = _IN.unpack_from(message)
            if opcode in _SILENT:
                continue
            failed, answer = 0, b""
            try:
                answer = self._answer(opcode, node, message[_IN.size :])
            except OSError as refused:
                failed = -(refused.errno or errno.EIO)
            with suppress(OSError):
                os.write(self._fd, _OUT.pack(_OUT.size + len(answer), failed, unique) + answer)
            if opcode == _DESTROY:
                break
        os.close(self._fd)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        path = self._paths.get(node, "")
        if opcode == _INIT:
            major, minor = struct.unpack_from("<II", body)
            return struct.pack(
                "<IIIIHHIIHHI7I", major, min(minor, 31), 0, 0, 0, 0, 1 << 16, 1, 0, 0, *[0] * 8
            )
        if opcode == _LOOKUP:
            return self._entry(_join(path, body.rstrip(b"\0").decode()))
        if opcode in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 0, 0, 0) + self._attributes(path)
        if opcode == _OPEN:
            return struct.pack("<QIi", 0, _DIRECT_IO, 0)
        if opcode == _OPENDIR:
            return struct.pack("<QIi", 0, 0, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self._read(path)[offset : offset + size]
        if opcode == _READDIR:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self._list(path, offset=offset, size=size)
        if opcode == _WRITE:
            size = struct.unpack_from("<QQI", body)[2]
            self._write(path, body[40 : 40 + size].decode())
            return struct.pack("<II", size, 0)
        if opcode in (_RELEASE, _RELEASEDIR, _FLUSH, _ACCESS, _DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not in this tree")

    def _entry(self, path: str) -> bytes:
        attributes = self._attributes(path)
        node = self._inodes.setdefault(path, len(self._inodes) + 1)
        self._paths[node] = path
        # Nothing is kept by the kernel: folders come and go in the other tree.
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + attributes

    def _attributes(self, path: str) -> bytes:
        folder = (self._below / path.lstrip("/")).is_dir()
        if not folder:
            parent, name = os.path.split(path)
            if name not in self._files(parent):
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
        mode = stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o644
        node = self._inodes.setdefault(path, len(self._inodes) + 1)
        return struct.pack("<6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    # What the kernel's files say

    def _files(self, folder: str) -> list[str]:
        if not (self._below / folder.lstrip("/")).is_dir():
            return []
        if folder == "/":
            return ["cgroup.controllers", "cgroup.subtree_control", "dmem.capacity"]
        common = ["cgroup.controllers", "cgroup.subtree_control"]
        return [*common, *_LIMITS] if self._is_controlled(folder) else common

    def _is_controlled(self, folder: str) -> bool:
        return self._everywhere or (folder.rpartition("/")[0] or "/") in self._controlled

    def _read(self, path: str) -> bytes:
        folder, name = os.path.split(path)
        if name not in self._files(folder):
            raise OSError(errno.ENODEV, "the folder is gone", path)
        if name == "cgroup.controllers":
            return (
                b"cpu memory dmem pids\n" if folder == "/" or self._is_controlled(folder) else b"cpu memory\n"
            )
        if name == "cgroup.subtree_control":
            return b"dmem\n" if folder in self._controlled else b"\n"
        if name == "dmem.capacity":
            return "".join(f"{region} {size}\n" for region, size in self.capacity.items()).encode()
        unset = "max" if name == "dmem.max" else "0"
        kept = ((region, self._limits.get((folder, name, region), unset)) for region in self.capacity)
        return "".join(f"{region} {value}\n" for region, value in kept).encode()

    def _write(self, path: str, text: str) -> None:
        folder, name = os.path.split(path)
        self.writes.append((folder, name, text))
        if name == "cgroup.subtree_control":
            if text.strip() != "+dmem" or not (folder == "/" or self._is_controlled(folder)):
                raise OSError(errno.ENOENT, "no such controller here")
            self._controlled.add(folder)
            return
        if name not in _LIMITS:
            raise OSError(errno.EINVAL, "not to be written")
        region, _, value = text.strip().partition(" ")
        if region not in self.capacity or not (value == "max" or value.isdigit()):
            raise OSError(errno.EINVAL, "no region, or no value")
        if not self.deaf:
            self._limits[(folder, name, region)] = self._keeps or value

    def _list(self, path: str, *, offset: int, size: int) -> bytes:
        folders = sorted(entry.name for entry in (self._below / path.lstrip("/")).iterdir() if entry.is_dir())
        found = b""
        for place, name in enumerate([*folders, *self._files(path)][offset:], offset + 1):
            kind = 4 if name in folders else 8
            raw = name.encode()
            one = struct.pack("<QQII", place, place, len(raw), kind) + raw
            one += b"\0" * (-len(one) % 8)
            if len(found) + len(one) > size:
                break
            found += one
        return found


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"
