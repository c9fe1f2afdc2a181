"""The node itself, behind the `driver.host.Host` Protocol.

Purpose: vendors and isolation methods name paths of the node; in a container the node's root file system is
mounted somewhere else, and its symbolic links have to be followed as the node would follow them.

Limits: every call may block. Programs of the node run with the agent's own libraries when the agent is in a
container (no chroot: that would need a privilege that the agent does not ask for).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from driver.host import CommandResult
from kubelet_plugin.programs import run_bounded
from kubelet_plugin.removal import remove_folder

_LIBRARY_DIRS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/nvidia/lib64",
)
_PROGRAM_DIRS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_IN_ROOT_OF_PROCESS = re.compile(r"(?P<root>/proc/\d+/root)/+(?P<path>.+)", re.DOTALL)
_MAX_LINKS = 40
_PIECE = 1 << 16
_FOLDER_KNOWN_S = 1.0
_FOLDERS_KNOWN = 256


class NodeHost:
    """Implements `driver.host.Host` for a node whose root is seen at `root`.

    Args:
        root: Where the node's root file system is.
        proc: Where the node's /proc is, if not below `root`.
    """

    def __init__(self, root: Path = Path("/"), *, proc: Path | None = None) -> None:
        self._prefix = "" if root == Path("/") else str(root)
        self._proc = str(proc) if proc is not None else ""
        self._folders: dict[str, float] = {}

    def read_text(self, path: str, *, limit: int | None = None) -> str:
        """The content of a small text file; undecodable bytes are replaced, as sysfs promises no encoding."""
        # By numbers of files: with what Python puts around them it took twice as many system calls.
        file = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = _read(file, length=sys.maxsize if limit is None else limit + 1)
        finally:
            os.close(file)
        if limit is not None and len(content) > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return content.decode("utf-8", errors="replace")

    def read_part(self, path: str, *, offset: int = 0, length: int, follow: bool = False) -> bytes:
        """A part of a regular file; nothing that the file may turn out to be makes this wait."""
        file = self._open_regular(path, os.O_RDONLY | (0 if follow else os.O_NOFOLLOW))
        try:
            if offset:
                return os.pread(file, length, offset)
            return _read(file, length=length)
        finally:
            os.close(file)

    def write_part(self, path: str, content: bytes, *, offset: int) -> None:
        """Writes over a part of a regular file, never makes it longer, and waits for no other writer."""
        file = self._open_regular(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if os.fstat(file).st_size < offset + len(content):
                raise OSError(errno.ENODATA, "shorter than what is to be written", path)
            _write_mapped(file, content, offset=offset)
        finally:
            os.close(file)

    def inode(self, path: str) -> tuple[str, int]:
        """Which file this is, as /proc/<pid>/maps tells it."""
        found = os.lstat(self._as_it_stands(path))
        return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}", found.st_ino

    def read_link(self, path: str) -> str:
        """What a symbolic link says, unresolved."""
        return os.readlink(self._as_it_stands(path))  # noqa: PTH115 - a string is wanted

    def write_text(self, path: str, content: str) -> None:
        """Writes to an existing file or makes a new one."""
        file = os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            rest = memoryview(content.encode())
            while rest:
                rest = rest[os.write(file, rest) :]
        finally:
            os.close(file)

    def replace_text(self, path: str, content: str) -> None:
        """Puts a new file in the place of what was there: no reader ever sees half of it, or nothing."""
        target = Path(self._at(path))
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
        try:
            with temporary.open("x", encoding="utf-8") as file:
                # Containers run as any user, and the agent's umask may be anything.
                os.fchmod(file.fileno(), 0o644)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def list_dir(self, path: str) -> list[str]:
        """Names in a folder, sorted; [] if there is no such folder."""
        try:
            return sorted(os.listdir(self._at(path)))  # noqa: PTH208 - names are wanted, not paths
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: str) -> bool:
        """Whether the path exists, links followed as on the node."""
        return os.path.lexists(self._at(path))

    def resolve(self, path: str) -> str:
        """The path with symbolic links resolved, as a path of the node; loops end as they stand.

        A folder that was found to be no link is taken for one for `_FOLDER_KNOWN_S`: a prepare comes here a
        dozen times for the same few folders, which took a tenth of its time.
        """
        # By strings: with Path it took a fifth of a prepare's processor time.
        now = time.monotonic()
        resolved = ""
        pending = _parts_reversed(path)
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                resolved = resolved.rpartition("/")[0]
                continue
            candidate = f"{resolved}/{part}"
            if pending and self._folders.get(candidate, 0.0) > now:
                resolved = candidate
                continue
            try:
                target = os.readlink(self._prefix + candidate)  # noqa: PTH115 - see above
            except OSError as failed:
                if pending and failed.errno == errno.EINVAL:
                    self._remember(candidate, until=now + _FOLDER_KNOWN_S)
                resolved = candidate
                continue
            links += 1
            if links > _MAX_LINKS:
                return candidate
            if target.startswith("/"):
                resolved = ""
            pending += _parts_reversed(target)
        return resolved or "/"

    def _remember(self, folder: str, *, until: float) -> None:
        if len(self._folders) >= _FOLDERS_KNOWN:
            self._folders.clear()
        self._folders[folder] = until

    def make_dir(self, path: str, *, mode: int) -> None:
        """Makes a folder and its missing parents with exactly this mode, whatever the umask is."""
        missing = []
        current = Path(self._at(path))
        while not current.is_dir():
            missing.append(current)
            current = current.parent
        for folder in reversed(missing):
            folder.mkdir(mode=mode, exist_ok=True)
            folder.chmod(mode)

    def remove_tree(self, path: str) -> None:
        """Removes a folder with all it holds; no error if it is missing."""
        remove_folder(Path(self._at(path)))

    def rename(self, path: str, *, to: str) -> None:
        """Moves a file or folder to another name on the same file system."""
        Path(self._at(path)).rename(self._at(to))

    def run(
        self, argv: Sequence[str], *, timeout_s: float, library_dirs: Sequence[str] = ()
    ) -> CommandResult:
        """Runs a program of the node.

        Raises:
            FileNotFoundError: It is not installed.
            TimeoutError: It is too slow.
            OSError: It cannot be started, or writes more than `kubelet_plugin.programs.MAX_OUTPUT`.
        """
        program = self._program(argv[0])
        environment = dict(os.environ)
        if library_dirs:
            environment["LD_LIBRARY_PATH"] = ":".join(map(self._at, library_dirs))
        return run_bounded([program, *argv[1:]], name=argv[0], timeout_s=timeout_s, environment=environment)

    def load_library(self, name: str) -> ctypes.CDLL:
        """Loads a shared library of the node: by path, or by name from where nodes keep libraries."""
        if name.startswith("/"):
            return ctypes.CDLL(self._at(name))
        for folder in _LIBRARY_DIRS:
            candidate = self._at(f"{folder}/{name}")
            if Path(candidate).is_file():
                return ctypes.CDLL(candidate)
        # The loader's own search last: it honours LD_LIBRARY_PATH, by which tests and odd nodes bring theirs.
        return ctypes.CDLL(name)

    def _at(self, path: str) -> str:
        # A string: to make Paths took longer than what is done with them.
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not an absolute path of the node")
        if self._proc and (path == "/proc" or path.startswith("/proc/")):
            return self._proc + path.removeprefix("/proc")
        return self._prefix + self.resolve(path) if self._prefix else path

    def _open_regular(self, path: str, flags: int) -> int:
        # First found, then seen to be a regular file, then opened: to open a device may already do something.
        found = self._find(path, os.O_PATH | os.O_CLOEXEC | (flags & os.O_NOFOLLOW))
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise OSError(errno.EINVAL, "no regular file", path)
            again = (flags & ~os.O_NOFOLLOW) | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{found}", again)
        finally:
            os.close(found)

    def _find(self, path: str, flags: int) -> int:
        inside = _IN_ROOT_OF_PROCESS.match(path)
        if inside is None:
            return os.open(self._as_it_stands(path), flags)
        # The kernel would follow a process' absolute links in our root, not in the process'.
        parts = inside["path"].split("/")
        if ".." in parts:
            raise OSError(errno.EINVAL, "leads out of the process' root", path)
        here = os.open(self._as_it_stands(inside["root"]), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for number, part in enumerate(parts, start=1):
            kind = os.O_DIRECTORY if number < len(parts) else 0
            try:
                there = os.open(part, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW | kind, dir_fd=here)
            except OSError as failed:
                raise OSError(failed.errno, failed.strerror, path) from None
            finally:
                os.close(here)
            here = there
        return here

    def _as_it_stands(self, path: str) -> str:
        """The path for the kernel: its last part is not resolved, and below /proc nothing is."""
        if path.startswith("/proc/"):
            return (self._proc or f"{self._prefix}/proc") + path.removeprefix("/proc")
        folder, _, name = path.rpartition("/")
        return f"{self._at(folder or '/').rstrip('/')}/{name}"

    def _program(self, name: str) -> str:
        candidates = [name] if name.startswith("/") else [f"{folder}/{name}" for folder in _PROGRAM_DIRS]
        for candidate in candidates:
            found = self._at(candidate)
            if Path(found).is_file() and os.access(found, os.X_OK):
                return found
        raise FileNotFoundError(f"{name} is not installed on this node")


def _read(file: int, *, length: int) -> bytes:
    """What follows in a file, up to so many bytes."""
    # Files of procfs come in pieces, whatever is asked for.
    pieces, wanted = [], length
    while wanted > 0 and (piece := os.read(file, min(wanted, _PIECE))):
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)


def _write_mapped(file: int, content: bytes, *, offset: int) -> None:
    """Writes a few bytes over a part of a file through a mapping of it.

    write(2) takes the file's lock, which whoever else writes to it can hold for as long as he likes (a source
    whose page fault nobody answers). And it is the kernel that stores into the mapping, from a pipe: where a
    container has just made the file shorter that is an error, and to us it would be SIGBUS.
    """
    begin = offset - offset % mmap.ALLOCATIONGRANULARITY
    try:
        mapped = mmap.mmap(file, offset + len(content) - begin, offset=begin)
    except ValueError as failed:
        raise OSError(errno.ENODATA, str(failed)) from failed
    source, sink = os.pipe()
    try:
        os.write(sink, content)
        with mapped, memoryview(mapped) as whole, whole[offset - begin :] as part:
            if os.readv(source, [part]) < len(content):
                raise OSError(errno.ENODATA, "made shorter while it was written over")
    finally:
        os.close(source)
        os.close(sink)


def _parts_reversed(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
