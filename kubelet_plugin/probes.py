"""Probes and metrics over HTTP: a server small enough to need no library.

Flow: `/healthz` is 200 while the event loop answers at all; `/readyz` is 200 while the agent is registered
with and connected to the kubelet (slices are wanted for as long as it is); `/metrics` is the table of
`kubelet_plugin.metrics`. The body is a sentence, so that `kubectl describe` shows why a probe failed.

Limits: GET and HEAD only, one request for each connection, 8 KiB of headers, 5 s; plain HTTP, no secrets in
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from driver.errors import ConfigError

log = structlog.get_logger(__name__)

_MAX_HEAD_BYTES = 8192
_TIMEOUT_S = 5.0
_PHRASES = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a path answers."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


def sentence(status: int, text: str) -> Answer:
    """An answer for people."""
    return Answer(status=status, body=f"{text}\n".encode())


class ProbeServer:
    """Serves a table of paths."""

    def __init__(self, routes: dict[str, Callable[[], Answer]]) -> None:
        self._routes = routes
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> tuple[str, int]:
        """Listens on `host:port` (an empty host: everywhere).

        Returns:
            Where it listens, with the real port where 0 was asked for.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        host, _, port = address.rpartition(":")
        try:
            self._server = await asyncio.start_server(
                self._serve, host.strip("[]") or None, int(port), limit=_MAX_HEAD_BYTES
            )
        except OSError as failed:
            raise ConfigError(
                f"{address} cannot be listened on: {failed.strerror or failed}.",
                field="--http-address (DRAGOMAN_HTTP_ADDRESS)",
                remedy="Choose an address of this host and a port that is free.",
            ) from None
        bound = self._server.sockets[0].getsockname()
        return bound[0], bound[1]

    async def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_rendered(*self._answer(head)))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that went away or does not speak HTTP gets nothing
        finally:
            writer.close()

    def _answer(self, head: bytes) -> tuple[Answer, bool]:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if not rest.endswith(("HTTP/1.1", "HTTP/1.0")):
            return sentence(400, "This is not an HTTP/1.1 request."), True
        if method not in ("GET", "HEAD"):
            return sentence(405, "Only GET is served here."), True
        route = self._routes.get(path)
        if route is None:
            return sentence(404, f"Served here: {', '.join(sorted(self._routes))}."), method == "GET"
        return route(), method == "GET"


def _rendered(answer: Answer, with_body: bool) -> bytes:  # noqa: FBT001 - the pair that _answer makes
    head = (
        f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode("latin-1")
    return head + (answer.body if with_body else b"")
