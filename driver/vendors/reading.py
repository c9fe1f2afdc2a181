"""Reading what a node says about its cards, when nothing that it says can be trusted.

Purpose: files of sysfs and answers of vendors' programs may be missing, unreadable, huge or nonsense; each
function here answers with a value that is fit to be used, or raises `UnreadableError` with a sentence.

Flow: a vendor's file -> these functions -> `driver.host.Host`.

Limits: a program's answer is bounded by the Host; what is parsed of it is bounded here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.errors import InvalidInputError
from driver.host import Host
from driver.quantities import MIB

ATTRIBUTE_LIMIT = 4096
"""Most bytes of a sysfs attribute: one page."""

REPORT_LIMIT = 1 << 16
"""Most bytes of a file that lists all cards."""

MOST_LINES = 20_000
"""Most lines that are looked at in one report."""

_MOST_MEMORY = 1 << 44
_MOST_DIGITS = 20
_SHOWN = 80
_NESTING = 40
_TEXT = 64
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}")
_AMOUNT = re.compile(r"([0-9]{1,20})(?:\.0+)?\s*([kmgtKMGT]?i?[bB]?|[kmgt]iB)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class UnreadableError(InvalidInputError):
    """What the node says about a card cannot be used."""

    reason = "UnreadableCard"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of the vendor's driver.

    Attributes:
        names: Names or absolute paths under which it may be installed, the first that exists counts.
        library_dirs: Folders of the host with its own libraries.
        timeout_s: How long it may take.
    """

    names: tuple[str, ...]
    library_dirs: tuple[str, ...] = ()
    timeout_s: float = 10.0

    @property
    def title(self) -> str:
        """What people call it."""
        return self.names[0].rpartition("/")[2]

    def ask(self, *arguments: str, host: Host) -> str:
        """What it writes.

        Raises:
            UnreadableError: It is not installed, too slow, or ends with an error.
        """
        for name in self.names:
            try:
                done = host.run([name, *arguments], timeout_s=self.timeout_s, library_dirs=self.library_dirs)
            except FileNotFoundError:
                continue
            except OSError as failed:  # TimeoutError is one
                raise UnreadableError(f"{self.title} cannot be asked: {failed}.") from None
            if done.returncode != 0:
                said = shown(done.stderr or done.stdout) or "it said nothing"
                raise UnreadableError(f"{self.title} ended with {done.returncode}: {said}.")
            return done.stdout
        raise UnreadableError(
            f"{self.title} is not installed on this node.",
            remedy="An administrator installs the vendor's driver with its programs.",
        )

    def ask_json(self, *arguments: str, host: Host) -> Any:
        """What it writes, as JSON.

        Raises:
            UnreadableError: As for `ask`, or it is not JSON.
        """
        text = self.ask(*arguments, host=host)
        if max(map(text.count, "[{")) > MOST_LINES:
            raise UnreadableError(f"{self.title} wrote more JSON than 16 cards can need.")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise UnreadableError(f"{self.title} wrote no JSON: {shown(text)}.") from None


def shown(text: str) -> str:
    """The start of a text, fit for one line of a message."""
    parts = (clean(part, limit=_SHOWN) for part in text[: 4 * _SHOWN].split())
    return " ".join(part for part in parts if part)[:_SHOWN]


def clean(text: str, *, limit: int = _TEXT) -> str:
    """A name as somebody else wrote it: printable, one line, at most `limit` characters."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())[:limit].strip()


def attribute(path: str, *, host: Host) -> str:
    """The line of a sysfs attribute; "" if there is no such file.

    Raises:
        UnreadableError: It cannot be read, or is no single short line.
    """
    try:
        text = host.read_text(path, limit=ATTRIBUTE_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as failed:
        raise UnreadableError(f"{path} cannot be read: {failed.strerror or failed}.") from None
    line = text.strip()
    if "\n" in line or "\0" in line:
        raise UnreadableError(f"{path} holds more than one line.")
    return line


def listing(path: str, *, host: Host) -> list[str]:
    """The names in a folder, sorted; [] where it is missing or cannot be read."""
    try:
        return host.list_dir(path)
    except OSError:
        return []


def optional(path: str, *, host: Host) -> str:
    """The same for what may be left out: "" also where it cannot be read."""
    try:
        return clean(attribute(path, host=host))
    except UnreadableError:
        return ""


def whole_number(text: str, *, what: str) -> int:
    """A number as sysfs writes it, decimal or with 0x.

    Raises:
        UnreadableError: It is none.
    """
    if not _NUMBER.fullmatch(text):
        raise UnreadableError(f"{what} is {shown(text)!r}, which is no number.")
    return int(text, 16 if text[:2].lower() == "0x" else 10)


def memory_bytes(amount: int, *, what: str) -> int:
    """An amount of a card's memory in bytes, rounded down to whole MiB.

    Raises:
        UnreadableError: No card has so little or so much.
    """
    if not MIB <= amount <= _MOST_MEMORY:
        raise UnreadableError(f"{what} is {amount} bytes, which is no amount of memory of a card.")
    return amount // MIB * MIB


def amount_of(text: str, *, what: str, unit: str = "") -> int:
    """An amount as programs write it: `81920MiB`, `96 GiB`, `65024`.

    Args:
        text: What was written.
        what: What it is about, for the message.
        unit: Unit of a number that has none: "" for bytes, `k`, `m`, `g`. Programs of all vendors count by
            1024, also where they write `MB`.

    Raises:
        UnreadableError: It is no amount, or no card has so much.
    """
    match = _AMOUNT.fullmatch(text.strip()[:_TEXT])
    if match is None:
        raise UnreadableError(f"{what} is {shown(text)!r}, which is no amount of memory.")
    written = match[2].lower().removesuffix("b").removesuffix("i")
    bare = match[2] == ""
    return memory_bytes(int(match[1]) * _UNITS[unit if bare else written], what=what)


def report_lines(text: str) -> Iterator[str]:
    """The lines of a report, each cut to a bearable length."""
    for number, line in enumerate(text.splitlines()):
        if number >= MOST_LINES:
            return
        yield line[:ATTRIBUTE_LIMIT]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line `key : value` of a report, below the headings that it is indented under."""

    path: tuple[str, ...]
    key: str
    value: str


def entries(text: str) -> Iterator[Entry]:
    """Reads a report of indented headings and `key : value` lines, as vendors' programs print with `-q`."""
    headings: list[tuple[int, str]] = []
    for line in report_lines(text):
        stripped = line.strip()
        if not stripped:
            continue
        depth = len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip())
        while headings and headings[-1][0] >= depth:
            headings.pop()
        key, colon, value = stripped.partition(" :")
        if not colon and stripped.endswith(":"):
            key = stripped[:-1]
        if colon and value.strip():
            yield Entry(path=tuple(name for _, name in headings), key=key.strip(), value=value.strip())
        elif len(headings) < _NESTING:
            headings.append((depth, key.strip()))


def rows(text: str, *, columns: Sequence[str], what: str) -> list[Mapping[str, str]]:
    """Reads `--format=csv,noheader` as nvidia-smi and its kin write it; a heading is skipped.

    Raises:
        UnreadableError: A line has another number of columns.
    """
    found: list[Mapping[str, str]] = []
    for line in report_lines(text):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(columns):
            raise UnreadableError(
                f"{what} wrote {len(cells)} columns instead of {len(columns)}: {shown(line)}."
            )
        if cells[0].lower() != columns[0].lower():
            found.append(dict(zip(columns, cells, strict=True)))
    return found


def text_of(document: Any, *path: str) -> str:
    """The text or number at a path of a JSON document; "" where there is none."""
    for key in path:
        if not isinstance(document, dict):
            return ""
        document = document.get(key)
    if isinstance(document, bool) or not isinstance(document, str | int):
        return ""
    return clean(document if isinstance(document, str) else _digits(document))


def _digits(number: int) -> str:
    # Python refuses to write numbers of thousands of digits, and nobody needs them.
    return str(number) if abs(number) < 10**_MOST_DIGITS else ""
