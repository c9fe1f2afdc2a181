"""A `driver.host.Host` whose root is a folder: vendors and isolation methods run without their hardware."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from driver.host import CommandResult

Program = Callable[[Sequence[str]], CommandResult]


class FolderHost:
    """A host below `root`; programs and libraries are given by the test."""

    def __init__(
        self,
        root: Path,
        *,
        programs: Mapping[str, Program] | None = None,
        libraries: Mapping[str, Callable[[], ctypes.CDLL]] | None = None,
    ) -> None:
        self.root = root
        self.programs = dict(programs or {})
        self.libraries = dict(libraries or {})
        self.writes: list[str] = []
        self.replaced: list[str] = []
        self.ran: list[tuple[str, ...]] = []

    def local(self, path: str) -> Path:
        """Where a path of the host lies on this machine."""
        assert path.startswith("/"), f"{path!r} is not an absolute path of the host"
        return self.root / path.lstrip("/")

    def add(self, path: str, content: str = "") -> None:
        """Makes a file with its parents."""
        self.local(path).parent.mkdir(parents=True, exist_ok=True)
        self.local(path).write_text(content)

    def link(self, path: str, target: str) -> None:
        """Makes a symbolic link as it would stand on the host."""
        self.local(path).parent.mkdir(parents=True, exist_ok=True)
        self.local(path).symlink_to(target)

    def read_text(self, path: str, *, limit: int | None = None) -> str:
        content = self.local(self.resolve(path)).read_bytes()
        if limit is not None and len(content) > limit:
            raise OSError(errno.EFBIG, "File too large", path)
        return content.decode("utf-8", errors="replace")

    def read_part(self, path: str, *, offset: int = 0, length: int, follow: bool = False) -> bytes:
        with self._regular(path, os.O_RDONLY, follow=follow).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def write_part(self, path: str, content: bytes, *, offset: int) -> None:
        with self._regular(path, os.O_RDWR, follow=False).open("r+b") as file:
            if file.seek(0, os.SEEK_END) < offset + len(content):
                raise OSError(errno.ENODATA, "shorter than what is to be written", path)
            file.seek(offset)
            file.write(content)

    def _regular(self, path: str, flags: int, *, follow: bool) -> Path:
        found = self.local(self.resolve(path)) if follow else self.local(path)
        os.close(os.open(found, flags | os.O_NONBLOCK | os.O_NOFOLLOW))
        if not found.is_file():
            raise OSError(errno.EINVAL, "no regular file", path)
        return found

    def inode(self, path: str) -> tuple[str, int]:
        found = os.lstat(self.local(path))
        return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}", found.st_ino

    def read_link(self, path: str) -> str:
        return str(self.local(path).readlink())

    def write_text(self, path: str, content: str) -> None:
        self.writes.append(path)
        self.local(path).write_text(content)

    def replace_text(self, path: str, content: str) -> None:
        self.replaced.append(path)
        self.local(path).write_text(content)

    def list_dir(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in self.local(self.resolve(path)).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: str) -> bool:
        return self.local(self.resolve(path)).exists()

    def resolve(self, path: str) -> str:
        """Follows links as the host would: an absolute target starts at the host's root, not at ours."""
        root, done = str(self.root), ""
        todo = [part for part in path.split("/") if part]
        for _ in range(1000):
            if not todo:
                return done or "/"
            part = todo.pop(0)
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}"
            try:
                target = os.readlink(root + here)  # noqa: PTH115 - called for every part of every path
            except OSError:
                done = here
                continue
            todo = [piece for piece in target.split("/") if piece not in ("", ".")] + todo
            done = "" if target.startswith("/") else done
        raise OSError(f"too many levels of symbolic links: {path}")

    def make_dir(self, path: str, *, mode: int) -> None:
        missing = [folder for folder in (self.local(path), *self.local(path).parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            folder.chmod(mode)
        self.local(path).chmod(mode)

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(self.local(path), ignore_errors=True)

    def rename(self, path: str, *, to: str) -> None:
        self.local(path).rename(self.local(to))

    def run(
        self, argv: Sequence[str], *, timeout_s: float, library_dirs: Sequence[str] = ()
    ) -> CommandResult:
        self.ran.append(tuple(argv))
        program = self.programs.get(argv[0])
        if program is None:
            raise FileNotFoundError(argv[0])
        return program(argv)

    def load_library(self, name: str) -> ctypes.CDLL:
        loader = self.libraries.get(name)
        if loader is None:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return loader()
