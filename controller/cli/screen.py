"""What a person sees: lines, tables and bars, as wide as the terminal.

Flow: a command's `*_text` module writes to a `Screen`; on a terminal there are colours and lines are wrapped,
elsewhere it is plain text with one line for each sentence.

Limits: what others wrote (selectors, notes of Events, names) cannot steer the terminal: control characters
are replaced.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
_WIDE = 10_000
_BAR = 20
_GAP = 2
_LAST = 32


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

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        indent: int = 0,
        otherwise: Sequence[str] = (),
    ) -> bool:
        """A table, of which nothing is ever cut off.

        Args:
            columns: Headings.
            rows: Cells; the last of a row may be wrapped.
            indent: Characters before it.
            otherwise: What to say, a sentence for each row, where there is too little room for the table.

        Returns:
            Whether it is a table.
        """
        cells = [[clean(cell) for cell in row] for row in rows]
        widths = [
            max(cell_len(row[number]) for row in (columns, *cells)) for number in range(len(columns) - 1)
        ]
        before = indent + sum(widths) + _GAP * len(widths)
        longest = max((cell_len(row[-1]) for row in (columns, *cells)), default=0)
        if otherwise and before + min(longest, _LAST) > self.width:
            for sentence in otherwise:
                self.line(sentence, indent=indent)
            return False
        room = max(self.width - before, min(longest, _LAST))
        self._row(columns, widths, indent=indent, room=room, style="dim")
        for row in cells:
            self._row(row, widths, indent=indent, room=room)
        return True

    def _row(
        self, cells: Sequence[str], widths: Sequence[int], *, indent: int, room: int, style: str = ""
    ) -> None:
        last = [cells[-1]] if self.width >= _WIDE else textwrap.wrap(cells[-1], room) or [""]
        start = " " * indent
        for cell, width in zip(cells, widths, strict=False):
            start += cell + " " * (width - cell_len(cell) + _GAP)
        for number, part in enumerate(last):
            self._put(Text(f"{start if number == 0 else ' ' * cell_len(start)}{part}".rstrip(), style=style))

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
