"""The seam between what is known about a node and the node itself.

Purpose: vendors and isolation methods are written against `Host`; the agent implements it
(`kubelet_plugin/host.py`), tests fake it by a folder, and so a vendor can be tried without its hardware.

Limits: every call may block; the agent runs it in a thread, never on the event loop.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """What a command answered."""

    returncode: int
    stdout: str
    stderr: str


class Host(Protocol):
    """A node, as far as a vendor or an isolation method may touch it.

    All paths are absolute paths of the host; an implementation may prefix them (a container sees the host's
    root below a mount, a test has a folder).
    """

    def read_text(self, path: str, *, limit: int | None = None) -> str:
        """The content of a small text file (sysfs, procfs, configuration).

        Args:
            path: The file.
            limit: Most bytes that are read; None for the whole file, which only our own files may be.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: It cannot be read, or holds more than `limit` bytes (EFBIG).
        """

    def read_part(self, path: str, *, offset: int = 0, length: int, follow: bool = False) -> bytes:
        """A part of a regular file that somebody hostile may have put there, or of one below `/proc/<pid>`.

        Args:
            path: The file. Below `/proc` it is the kernel that follows links, some of which have no name;
                below `/proc/<pid>/root` no link is followed, for it would lead through the caller's own root.
            offset: Where the part begins, in bytes.
            length: Most bytes that are read; fewer come where the file ends.
            follow: Whether the last part of the path may be a link (`/proc/<pid>/exe`).

        Raises:
            FileNotFoundError: There is no such file.
            OSError: It is no regular file, or cannot be read. Whatever else it is, it is not opened, and this
                does not wait; a file system that does not answer (NFS, FUSE) does make it wait.
        """

    def write_part(self, path: str, content: bytes, *, offset: int) -> None:
        """Writes over a part of a regular file that a container can write as well; never makes it longer.

        Waits for no lock of the file that another writer can hold.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: It is a link, no regular file, too short, or cannot be written.
        """

    def inode(self, path: str) -> tuple[str, int]:
        """Which file this is: its device as /proc/<pid>/maps writes it (`00:2c`), and its inode.

        Raises:
            OSError: There is no such file. A link is not followed.
        """

    def read_link(self, path: str) -> str:
        """What a symbolic link says, unresolved; OSError if it is none or may not be read."""

    def write_text(self, path: str, content: str) -> None:
        """Writes to an existing file (sysfs, cgroup) or makes a new one."""

    def replace_text(self, path: str, content: str) -> None:
        """Makes a file hold this content, durably; who reads it sees the old content or the new, whole."""

    def list_dir(self, path: str) -> list[str]:
        """Names in a folder, sorted; [] if the folder does not exist."""

    def exists(self, path: str) -> bool:
        """Whether the path exists."""

    def resolve(self, path: str) -> str:
        """The path with symbolic links resolved, as a path of the host."""

    def make_dir(self, path: str, *, mode: int) -> None:
        """Makes a folder and its parents with exactly this mode; no error if it exists."""

    def remove_tree(self, path: str) -> None:
        """Removes a folder with all it holds; no error if it is missing."""

    def rename(self, path: str, *, to: str) -> None:
        """Moves a file or folder to another name on the same file system."""

    def run(
        self, argv: Sequence[str], *, timeout_s: float, library_dirs: Sequence[str] = ()
    ) -> CommandResult:
        """Runs a program of the host.

        Args:
            argv: Name or absolute path of the program, and its arguments.
            timeout_s: After how many seconds it is killed.
            library_dirs: Folders of the host with the program's own libraries, where the loader would not
                look.

        Raises:
            FileNotFoundError: The program is not installed.
            TimeoutError: It is too slow.
            OSError: It cannot be started, or writes more than an implementation is willing to keep.
        """

    def load_library(self, name: str) -> ctypes.CDLL:
        """Loads a shared library of the host; OSError if it cannot be loaded."""
