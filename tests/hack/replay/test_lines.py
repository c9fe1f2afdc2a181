from __future__ import annotations

import gzip
import io
import json

import pytest

from tooling.replay.errors import ReplayError
from tooling.replay.lines import read

CASES = [{"id": "a"}, {"id": "b"}]
TEXT = "".join(json.dumps(one) + "\n" for one in CASES).encode()


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        gzip.compress(TEXT, mtime=0),
        TEXT.rstrip(),
        gzip.compress(TEXT[:12], mtime=0) + gzip.compress(TEXT[12:], mtime=0),
    ],
)
def test_plain_and_gzip_are_told_apart_by_their_first_bytes(content: bytes) -> None:
    assert [line.value for line in read(io.BytesIO(content))] == CASES


def test_empty_lines_are_passed_over_and_counted() -> None:
    assert [line.number for line in read(io.BytesIO(b"\n{}\n\n{}\n"))] == [2, 4]


def test_no_input_is_no_case() -> None:
    assert list(read(io.BytesIO(b""))) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{}\n{oops\n", "line 2: not JSON"),
        (b"[1]\n", "line 1: not a JSON object"),
        (b"\xff\xfe\n", "line 1: not JSON"),
        (b"[" * 100_000 + b"\n", "line 1: not JSON"),
        (gzip.compress(TEXT, mtime=0)[:-9], "gzip stream is broken"),
    ],
)
def test_a_line_that_is_no_case_is_refused_with_its_number(content: bytes, said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        list(read(io.BytesIO(content)))


def test_lines_are_given_one_by_one_before_the_stream_ends() -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            buffer[:3] = b"{}\n"
            return 3

    lines = read(Endless())
    assert [next(lines).number for _ in range(3)] == [1, 2, 3]
