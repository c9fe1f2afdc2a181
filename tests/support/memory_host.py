"""A `driver.host.Host` in memory, for tests that make thousands of them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

from driver.host import CommandResult


class MemoryHost:
    """Files and folders as dictionaries; no links, programs or libraries."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)
        self.modes: dict[str, int] = {}

    def read_text(self, path: str, *, limit: int | None = None) -> str:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def read_part(self, path: str, *, offset: int = 0, length: int, follow: bool = False) -> bytes:
        return self.read_text(path).encode()[offset : offset + length]

    def write_part(self, path: str, content: bytes, *, offset: int) -> None:
        before = self.read_part(path, length=1 << 20)
        self.files[path] = (before[:offset] + content + before[offset + len(content) :]).decode()

    def inode(self, path: str) -> tuple[str, int]:
        return "00:00", hash(path)

    def read_link(self, path: str) -> str:
        raise OSError(22, "no link", path)

    def write_text(self, path: str, content: str) -> None:
        self.files[path] = content

    def replace_text(self, path: str, content: str) -> None:
        self.write_text(path, content)

    def list_dir(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        below = [name for name in (*self.files, *self.modes) if name.startswith(prefix)]
        return sorted({name.removeprefix(prefix).partition("/")[0] for name in below})

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.modes or bool(self.list_dir(path))

    def resolve(self, path: str) -> str:
        return path

    def make_dir(self, path: str, *, mode: int) -> None:
        self.modes[path] = mode

    def remove_tree(self, path: str) -> None:
        inside = path.rstrip("/") + "/"
        self.files = {k: v for k, v in self.files.items() if k != path and not k.startswith(inside)}
        self.modes = {k: v for k, v in self.modes.items() if k != path and not k.startswith(inside)}

    def rename(self, path: str, *, to: str) -> None:
        raise NotImplementedError

    def run(
        self, argv: Sequence[str], *, timeout_s: float, library_dirs: Sequence[str] = ()
    ) -> CommandResult:
        raise FileNotFoundError(argv[0])

    def load_library(self, name: str) -> ctypes.CDLL:
        raise OSError(name)
