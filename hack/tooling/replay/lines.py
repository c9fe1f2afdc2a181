"""Cases as JSON lines, plain or gzip.

Flow: two bytes tell gzip from text; lines are decoded one by one, so that memory is bounded by the longest.

Limits: a line that is no JSON object ends the run with its number: what follows could not be matched with its
answer any more.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from tooling.replay.errors import ReplayError

MOST_BYTES = 64 << 20
"""A longer line is no case of ours; 5,000 nodes of 8 cards in one case take a third of it."""

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input.

    Attributes:
        number: From 1.
        value: The object on it.
    """

    number: int
    value: dict[str, Any]

    def wrong(self, message: str) -> ReplayError:
        """The error for a line that is JSON but no case."""
        return ReplayError(f"line {self.number}: {message}")


def read(stream: IO[bytes]) -> Iterator[Line]:
    """Yields the lines of a stream; empty ones are passed over.

    Raises:
        ReplayError: A line is no JSON object, or the stream is broken gzip.
    """
    buffered = io.BufferedReader(_Raw(stream), 1 << 16)
    packed = buffered.peek(2)[:2] == _GZIP
    lines: io.BufferedIOBase = gzip.GzipFile(fileobj=buffered) if packed else buffered
    number = 0
    while True:
        number += 1
        try:
            text = lines.readline(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ReplayError(f"line {number}: the gzip stream is broken: {error}") from None
        if not text:
            return
        if len(text) > MOST_BYTES:
            raise ReplayError(f"line {number}: longer than {MOST_BYTES >> 20} MiB")
        if text.strip():
            yield Line(number, _parse(text, number))


def _parse(text: bytes, number: int) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReplayError(f"line {number}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ReplayError(f"line {number}: not a JSON object")
    return value


class _Raw(io.RawIOBase):
    """Lets a buffered reader peek into any binary stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = getattr(self._stream, "read1", self._stream.read)
        data = read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
