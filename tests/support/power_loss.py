"""What a disk may hold after a loss of power, computed from recorded system calls.

The model is POSIX's, not that of a kind file system: bytes are durable once their file was fsynced, a name
(created, renamed, removed) once its folder was fsynced; until then each of them may be there or not, by
itself, whatever came later. A rename is one change of its folder: it is there as a whole or not at all.
"""

from __future__ import annotations

import ast
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

Tree = tuple[tuple[str, bytes | None], ...]
"""Paths with the bytes of files, None for folders."""

_CALLS = (
    "openat,write,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,"
    "truncate,link,linkat"
)
OPTIONS = ("-y", "-ttt", "-s", "1000000", "-e", f"trace={_CALLS}")
"""strace's options for a recording that `parse` reads."""

Verb = Literal["create", "write", "sync", "rename", "remove", "mkdir"]


@dataclass(frozen=True)
class Operation:
    """One change, or one fsync, at a time."""

    time: float
    verb: Verb
    path: str
    content: bytes = b""
    target: str = ""


_LINE = re.compile(r"^(?P<time>\d+\.\d+) (?P<call>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+)(?P<made><.*>)?")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_HANDLE = re.compile(r"^\d+<(?P<path>[^>]*)>")
_AT = re.compile(r'(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>, (?P<name>"(?:[^"\\]|\\.)*")')


def parse(lines: Iterable[str], *, root: str, folders: Sequence[str]) -> list[Operation]:
    """Operations in some folders of a root, and fsyncs of the root, in the order in which they began.

    Raises:
        ValueError: A call changes files in a way that the model does not know.
    """
    paths = tuple(f"{root}/{folder}" for folder in folders)
    named = (line for line in lines if any(path in line for path in (*paths, f"<{root}>")))
    found = [operation for line in named for operation in _parse_line(line)]
    below = tuple(f"{path}/" for path in paths)
    kept = [one for one in found if one.path == root or f"{one.path}/".startswith(below)]
    return sorted(kept, key=lambda one: one.time)


def _parse_line(line: str) -> Iterator[Operation]:
    match = _LINE.match(line)
    if match is None or int(match["result"]) < 0:
        return
    time, call, rest = float(match["time"]), match["call"], match["rest"]
    if call in _BY_HANDLE:
        handle = _HANDLE.match(rest)
        if handle is not None:
            content = b"".join(_text(text) for text in _STRING.findall(rest[handle.end() :]))
            yield Operation(time, _BY_HANDLE[call], handle["path"], content=content[: int(match["result"])])
        return
    paths = _at(rest) if "at(" in f"{call}(" or call == "renameat2" else _paths(rest)
    if call == "openat":
        if "O_TRUNC" in rest:
            raise ValueError(line)
        if "O_CREAT" in rest:
            yield Operation(time, "create", paths[0])
    elif call in _BY_PATH:
        yield Operation(time, _BY_PATH[call], paths[0], target=paths[-1])
    else:
        raise ValueError(line)


_BY_HANDLE: dict[str, Verb] = {"write": "write", "fsync": "sync", "fdatasync": "sync"}
_BY_PATH: dict[str, Verb] = {
    "rename": "rename",
    "renameat": "rename",
    "renameat2": "rename",
    "unlink": "remove",
    "unlinkat": "remove",
    "rmdir": "remove",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
}


def _paths(rest: str) -> list[str]:
    return [_text(text).decode() for text in _STRING.findall(rest)]


def _at(rest: str) -> list[str]:
    return [
        str(PurePosixPath(match["folder"]) / _text(match["name"]).decode()) for match in _AT.finditer(rest)
    ]


def _text(quoted: str) -> bytes:
    found: bytes = ast.literal_eval("b" + quoted)
    return found


@dataclass
class _File:
    content: bytes = b""
    durable: bytes = b""


@dataclass
class _Folder:
    pass


@dataclass(frozen=True)
class _Change:
    """A change of one folder's names: `gone` disappears, `name` leads to `node`."""

    folder: str
    gone: str = ""
    name: str = ""
    node: _File | _Folder | None = None


@dataclass
class Disk:
    """A disk, with what is durable and what is not yet; `root` is the folder that was there before."""

    root: str
    _now: dict[str, dict[str, _File | _Folder]] = field(default_factory=dict)
    _durable: dict[str, dict[str, _File | _Folder]] = field(default_factory=dict)
    _pending: list[_Change] = field(default_factory=list)

    def apply(self, operation: Operation) -> None:
        """Does one operation."""
        folder, name = _split(operation.path)
        names = self._now.setdefault(folder, {})
        if operation.verb == "create" and name not in names:
            self._change(_Change(folder, name=name, node=_File()))
        elif operation.verb == "mkdir":
            self._change(_Change(folder, name=name, node=_Folder()))
        elif operation.verb == "write":
            node = names[name]
            assert isinstance(node, _File)
            node.content += operation.content
        elif operation.verb == "rename":
            other, target = _split(operation.target)
            assert other == folder, "renames between folders are two changes, which the model does not know"
            self._change(_Change(folder, gone=name, name=target, node=names[name]))
        elif operation.verb == "remove":
            self._change(_Change(folder, gone=name))
        elif operation.verb == "sync":
            self._sync(operation.path, names.get(name))

    def after_power_loss(self, *, chance: random.Random, most: int) -> Iterator[Tree]:
        """What the disk may hold now, all possibilities up to `most`, then that many by chance."""
        dirty = list(self._dirty())
        bits = len(self._pending) + len(dirty)
        if 1 << bits <= most:
            picks: Iterable[tuple[bool, ...]] = itertools.product((False, True), repeat=bits)
        else:
            some = (tuple(chance.random() < 0.5 for _ in range(bits)) for _ in range(most - 2))
            picks = itertools.chain(((False,) * bits, (True,) * bits), some)
        for pick in picks:
            kept = [change for change, keep in zip(self._pending, pick, strict=False) if keep]
            written = {id(node) for node, keep in zip(dirty, pick[len(self._pending) :], strict=True) if keep}
            yield self._tree(kept, written)

    def _change(self, change: _Change) -> None:
        _apply(self._now, change)
        self._pending.append(change)

    def _sync(self, path: str, node: _File | _Folder | None) -> None:
        if isinstance(node, _File):
            node.durable = node.content
            return
        for change in [one for one in self._pending if one.folder == path]:
            _apply(self._durable, change)
            self._pending.remove(change)

    def _dirty(self) -> Iterator[_File]:
        nodes = (change.node for change in self._pending)
        named = (node for names in self._durable.values() for node in names.values())
        seen: set[int] = set()
        for node in itertools.chain(nodes, named):
            if isinstance(node, _File) and node.content != node.durable and id(node) not in seen:
                seen.add(id(node))
                yield node

    def _tree(self, kept: Iterable[_Change], written: set[int]) -> Tree:
        names = {folder: dict(entries) for folder, entries in self._durable.items()}
        for change in kept:
            _apply(names, change)
        found: dict[str, bytes | None] = {}
        for folder in sorted(names):
            for name, node in sorted(names[folder].items()):
                if isinstance(node, _File):
                    content = node.content if id(node) in written else node.durable
                    found[f"{folder}/{name}"] = content
                else:
                    found[f"{folder}/{name}"] = None
        folders = {path for path, content in found.items() if content is None}
        return tuple(sorted(item for item in found.items() if self._is_reachable(item[0], folders)))

    def _is_reachable(self, path: str, folders: set[str]) -> bool:
        folder = _split(path)[0]
        return folder == self.root or (folder in folders and self._is_reachable(folder, folders))


def _apply(names: dict[str, dict[str, _File | _Folder]], change: _Change) -> None:
    entries = names.setdefault(change.folder, {})
    if change.gone:
        entries.pop(change.gone, None)
    if change.name and change.node is not None:
        entries[change.name] = change.node


def _split(path: str) -> tuple[str, str]:
    pure = PurePosixPath(path)
    return str(pure.parent), pure.name


def write_tree(tree: Tree, *, origin: Path, to: Path) -> None:
    """Makes a tree's files below another folder."""
    for path, content in tree:
        target = to / Path(path).relative_to(origin)
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
