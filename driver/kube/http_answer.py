"""One request and its answer on a connection: HTTP/1.1 (RFC 9112), as far as an API server speaks it.

Purpose: a prepare waits for two answers. `http.client` reads an answer's head as if it were an e-mail, which
took most of the time that the agent itself spent on a request (0.65 ms of processor time a request with it,
measured beside 0.17 for the bare exchange).

Flow: `request_head` -> `exchange`: status line, header fields, body by `Content-Length`, by chunks
or up to the end of the connection.

Limits: blocks, with one deadline for all of it. No compression is asked for, so none is undone; a head has at
most 64 KiB; trailers are read and dropped. Only fields that end the body or the connection are looked at.
"""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

_HEAD_MAX = 1 << 16
_CHUNK = 1 << 16
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_UNSAFE_TARGET = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server answered.

    Attributes:
        status: HTTP status code.
        content: The body.
        reusable: Whether the connection can carry another request.
    """

    status: int
    content: bytes
    reusable: bool


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The bytes before a request's body.

    Raises:
        http.client.HTTPException: A field or the target holds what would end it early; which value it is does
            not show, since one of them is a secret.
    """
    if _UNSAFE_TARGET.search(target):
        raise http.client.InvalidURL("the path holds a blank or a control character")
    for name, value in headers.items():
        if _UNSAFE.search(value):
            raise http.client.HTTPException(f"the header {name} holds a control character")
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1")


def exchange(connection: socket.socket, sent: bytes, *, deadline: float) -> Answer:
    """Sends a request and reads its answer.

    Args:
        connection: A connected socket.
        sent: Head and body of the request.
        deadline: `time.monotonic` by which the answer has to be there.

    Raises:
        TimeoutError: It was not.
        OSError: The connection broke.
        http.client.HTTPException: What came is no answer, or not all of it.
    """
    connection.settimeout(_rest(deadline))
    connection.sendall(sent)
    reader = _Reader(connection, deadline)
    while (head := _Head(reader.head())).status < 200:
        # 100 Continue and 103 Early Hints announce an answer.
        if head.status == http.client.SWITCHING_PROTOCOLS:
            raise http.client.HTTPException("the server changes to a protocol that nobody asked for")
    content = head.body(reader)
    # What comes behind an answer that nobody asked for would be taken for the next one.
    return Answer(status=head.status, content=content, reusable=head.reusable and reader.empty)


class _Head:
    """Status line and header fields of an answer."""

    def __init__(self, text: bytes) -> None:
        status, *fields = text.decode("latin-1").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.([01]) (\d{3})(?: .*)?", status)
        if found is None:
            raise http.client.BadStatusLine(status[:64])
        self.status = int(found[2])
        self._fields: dict[str, str] = {}
        for field in fields:
            name, _, value = field.partition(":")
            self._fields[name.lower()] = value.strip()
        self._chunked = self._fields.get("transfer-encoding", "").lower() == "chunked"
        if "transfer-encoding" in self._fields and not self._chunked:
            raise http.client.UnknownTransferEncoding
        self._bodiless = self.status in (http.client.NO_CONTENT, http.client.NOT_MODIFIED)
        ends = self._chunked or self._bodiless or "content-length" in self._fields
        self.reusable = ends and found[1] == "1" and self._fields.get("connection", "").lower() != "close"

    def body(self, reader: _Reader) -> bytes:
        """Reads the body that this head announces."""
        if self._bodiless:
            return b""
        if self._chunked:
            return reader.chunks()
        length = self._fields.get("content-length")
        if length is None:
            return reader.rest()
        if not length.isascii() or not length.isdigit():
            raise http.client.HTTPException(f"the length of the body is {length[:32]!r}")
        return reader.exactly(int(length))


class _Reader:
    """Bytes of a connection, by lines, by count or up to the end."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = b""

    @property
    def empty(self) -> bool:
        """Whether nothing was received beyond what was asked for."""
        return not self._buffer

    def head(self) -> bytes:
        """Everything before the next empty line."""
        return self._until(b"\r\n\r\n")

    def exactly(self, count: int) -> bytes:
        """So many bytes."""
        parts = [self._buffer]
        have = len(self._buffer)
        while have < count:
            part = self._more()
            parts.append(part)
            have += len(part)
        joined = b"".join(parts)
        self._buffer = joined[count:]
        return joined[:count]

    def chunks(self) -> bytes:
        """The body in chunks, without its trailers."""
        parts: list[bytes] = []
        while True:
            size = self._until(b"\r\n").partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", size):
                raise http.client.HTTPException(f"a chunk has the size {size[:32]!r}")
            if int(size, 16) == 0:
                while self._until(b"\r\n"):
                    pass
                return b"".join(parts)
            parts.append(self.exactly(int(size, 16)))
            if self.exactly(2) != b"\r\n":
                raise http.client.HTTPException("a chunk is longer than it says")

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        parts = [self._buffer]
        while part := self._received():
            parts.append(part)
        self._buffer = b""
        return b"".join(parts)

    def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > _HEAD_MAX:
                raise http.client.LineTooLong("head")
            self._buffer += self._more()
        found, self._buffer = self._buffer[:at], self._buffer[at + len(mark) :]
        return found

    def _more(self) -> bytes:
        part = self._received()
        if not part:
            raise http.client.RemoteDisconnected("the connection ended in the middle of the answer")
        return part

    def _received(self) -> bytes:
        self._connection.settimeout(_rest(self._deadline))
        return self._connection.recv(_CHUNK)


def _rest(deadline: float) -> float:
    rest = deadline - time.monotonic()
    if rest <= 0:
        raise TimeoutError
    return rest
