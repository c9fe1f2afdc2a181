"""What a person sees: lines, tables and bars, as wide as the terminal.

Flow: a command's `*_text` module writes to a `Screen`; on a terminal there are colours and lines are wrapped,
elsewhere it is plain text with one line for each sentence.

Limits: what others wrote (selectors, notes of Events, names) cannot steer the terminal: control characters
are replaced.
"""

from __future__ import annotations

import io
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
_WIDE = 10_000
_BAR = 20


def clean(text: object) -> str:
    """A text in one line that shows as it is written."""
    return _CONTROL.sub("\ufffd", str(text).replace("\n", " ").replace("\t", " "))


class Screen:
    """Output of a command."""

    def __init__(self, stream: TextIO | None = None, *, environ: Mapping[str, str] | None = None) -> None:
        """Prepares the output.

        Args:
            stream: Where to write; standard output if None.
            environ: The environment: COLUMNS and NO_COLOR are looked at; that of the process if None.
        """
        self._stream = sys.stdout if stream is None else stream
        environ = os.environ if environ is None else environ
        columns = environ.get("COLUMNS", "")
        told = int(columns) if columns.isascii() and columns.isdigit() else 0
        self._terminal = self._stream.isatty()
        # Where the output goes into a file or another program, lines are as long as what they say.
        width = told or (None if self._terminal else _WIDE)
        self._console = Console(
            file=self._stream,
            width=width,
            no_color="NO_COLOR" in environ or not self._terminal,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )
        self.width = self._console.width
        encoding = (getattr(self._stream, "encoding", None) or "utf-8").lower().replace("-", "")
        self._unicode = encoding.startswith("utf")

    def line(self, text: str = "", *, style: str = "", indent: int = 0) -> None:
        """A sentence, wrapped on a terminal."""
        flat = clean(text)
        before = " " * indent
        lines = (
            textwrap.wrap(flat, max(self.width, 20), initial_indent=before, subsequent_indent=before)
            if self.width < _WIDE
            else [before + flat]
        )
        for one in lines or [""]:
            self._put(Text(one, style=style))

    def heading(self, text: str, *, indent: int = 0) -> None:
        """A heading with an empty line before it."""
        self._put(Text())
        self.line(text, style="bold", indent=indent)

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names with what they are."""
        told = [(clean(name), clean(value)) for name, value in rows]
        room = max((len(name) for name, _ in told), default=0) + 2
        for name, value in told:
            if self.width >= _WIDE:
                self._put(Text(f"{name:<{room}}{value}"))
                continue
            for one in textwrap.wrap(
                value,
                max(self.width, room + 20),
                initial_indent=f"{name:<{room}}",
                subsequent_indent=" " * room,
            ) or [name]:
                self._put(Text(one))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
        """A table; the last columns give way where there is too little room."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for number, column in enumerate(columns):
            last = number == len(columns) - 1
            table.add_column(column, no_wrap=not last, overflow="fold" if last else "ellipsis")
        for row in rows:
            table.add_row(*(Text(clean(cell)) for cell in row))
        width = max(self.width - indent, 40)
        with io.StringIO() as text:
            console = Console(
                file=text,
                width=width,
                force_terminal=self._terminal,
                no_color=self._console.no_color,
                highlight=False,
                legacy_windows=False,
                color_system="standard" if self._terminal else None,
            )
            console.print(table)
            lines = text.getvalue().splitlines()
        for line in lines:
            self._stream.write(f"{' ' * indent}{line.rstrip()}\n")

    def bar(self, used: int, total: int) -> str:
        """How much of something is used."""
        full, free = ("█", "·") if self._unicode else ("#", ".")
        length = min(_BAR, round(used / total * _BAR)) if total else 0
        if used > 0:
            # What is held is never invisible, and what is left is neither.
            length = max(length, 1)
        if 0 < used < total:
            length = min(length, _BAR - 1)
        return f"[{full * length}{free * (_BAR - length)}]"

    def _put(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


def count(number: int, noun: str) -> str:
    """`1 node`, `5,000 nodes`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
