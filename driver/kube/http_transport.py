"""The agent's way to the API server: the standard library's HTTP client in a few threads.

Purpose: small (7 MiB less than aiohttp, measured) and quick: a kept-alive connection and one hop into a
thread, because a prepare waits for its claim.

Flow: `request` takes a kept connection or makes one, sends, reads, and puts the connection back; `stream`
gives a watch its own connection and thread, which hands lines to the event loop.

Limits: at most `threads` requests at once; the others wait. A connection that the server closed while it was
idle is noticed before use, or costs one retry where repeating is harmless (not for POST). A watch that is
read more slowly than it is sent is held back after `watch_thread.AHEAD` events.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import select
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from driver.kube.client import JSON, AnswerSize, ApiError, UnreachableError, error_for
from driver.kube.config import ClusterConfig
from driver.kube.http_answer import exchange, request_head
from driver.kube.json_text import parse_json
from driver.kube.watch_thread import END, WatchThread

CONNECT_TIMEOUT_S = 5.0
TOKEN_REREAD_S = 60.0
"""The kubelet renews a token file well before the old token ends; once a minute is often enough."""
_IDLE_MAX_S = 55.0

Observer = Callable[[str, int, float], None]
"""Told of each request: method, HTTP status (0: no answer), seconds."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    method: str
    target: str
    content: bytes | None
    headers: dict[str, str]
    deadline: float


class HttpTransport:
    """Implements `driver.kube.client.StreamingTransport`.

    Args:
        config: Where the API server is and who we are.
        user_agent: How the server's audit log shall name us.
        threads: Requests at once.
        longest_s: No request takes longer, whatever its caller allows: the kubelet's calls wait for it.
        observe: Told of each request; called in a worker thread.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        user_agent: str,
        threads: int = 4,
        longest_s: float = 10.0,
        observe: Observer | None = None,
    ) -> None:
        parts = urlsplit(config.server)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._token = _Token(config) if config.token or config.token_file else None
        self._context = config.ssl_context()
        self._user_agent = user_agent
        self._longest_s = longest_s
        self._observe = observe or (lambda _method, _status, _seconds: None)
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="api")
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self._streams: set[WatchThread] = set()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JSON | list[JSON] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
        size: AnswerSize | None = None,  # noqa: ARG002 - nodes list nothing that users write
    ) -> JSON:
        """Sends a request and decodes the JSON answer; `size` is passed over.

        Raises:
            ApiError: The server answered with a status of 400 or above, or not at all (status 0).
        """
        request = self._request(
            method, path, query=query, body=body, content_type=content_type, timeout_s=timeout_s
        )
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._blocking, request)

    def here(self) -> HereTransport:
        """The same transport for a thread of the caller's own."""
        return HereTransport(self)

    async def stream(self, path: str, *, query: dict[str, str], idle_timeout_s: float) -> AsyncIterator[JSON]:
        """Yields the JSON documents of a watch, one a line.

        Raises:
            ApiError: As for `request`; UnreachableError after `idle_timeout_s` without a byte, and when the
                connection ends in the middle of a line.
        """
        headers = {"Accept": "application/json", "User-Agent": self._user_agent}
        stream = WatchThread(loop=asyncio.get_running_loop(), idle_timeout_s=idle_timeout_s)
        self._streams.add(stream)
        thread = threading.Thread(
            target=stream.run,
            args=(lambda: self._opened(self._target(path, query), headers, idle_timeout_s),),
            name="api-watch",
            daemon=True,
        )
        thread.start()
        try:
            while True:
                item = await stream.queue.get()
                stream.room.release()
                if item is END:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._streams.discard(stream)
            stream.close()

    async def close(self) -> None:
        """Closes connections and ends watches; requests in flight end first."""
        for stream in list(self._streams):
            stream.close()
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None,
        body: JSON | list[JSON] | None,
        content_type: str,
        timeout_s: float,
    ) -> _Request:
        headers = {"Accept": "application/json", "User-Agent": self._user_agent}
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        if content is not None:
            headers["Content-Type"] = content_type
        return _Request(
            method=method,
            target=self._target(path, query),
            content=content,
            headers=headers,
            deadline=time.monotonic() + min(timeout_s, self._longest_s),
        )

    def _target(self, path: str, query: dict[str, str] | None) -> str:
        return f"{self._prefix}{path}" + (f"?{urlencode(query)}" if query else "")

    # What follows runs in worker threads.

    def _blocking(self, request: _Request) -> JSON:
        began = time.monotonic()
        status = 0
        try:
            status, answer = self._sent(request)
            if status == 401 and self._token is not None:
                # The token may have been renewed less than a minute ago.
                self._token.forget()
                status, answer = self._sent(request)
            document = _decoded(answer, status=status, target=request.target)
            if status >= 400:
                raise _refusal(status, document, method=request.method, target=request.target)
            return document
        finally:
            self._observe(request.method, status, time.monotonic() - began)

    def _with_token(self, headers: dict[str, str]) -> dict[str, str]:
        if self._token is None:
            return headers
        try:
            return {**headers, "Authorization": f"Bearer {self._token.value()}"}
        except OSError as missing:
            raise UnreachableError(
                f"The token of the API server cannot be read: {missing}", status=0
            ) from None

    def _sent(self, request: _Request) -> tuple[int, bytes]:
        headers = self._with_token(request.headers)
        while True:
            kept = self._kept()
            try:
                return self._exchanged(kept or self._connected(), request, headers)
            except (http.client.HTTPException, OSError) as broken:
                # A kept connection may have been closed under us: that says nothing about the server.
                if kept is not None and request.method != "POST" and not isinstance(broken, TimeoutError):
                    continue
                raise self._unreachable(request.method, request.target, broken) from None

    def _exchanged(
        self, connection: http.client.HTTPConnection, request: _Request, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        fields = {"Host": self._authority, **headers}
        if request.content is not None:
            fields["Content-Length"] = str(len(request.content))
        try:
            sent = request_head(request.method, request.target, fields) + (request.content or b"")
            answer = exchange(connection.sock, sent, deadline=request.deadline)
        except BaseException:
            connection.close()
            raise
        if answer.reusable:
            with self._lock:
                self._idle.append((time.monotonic(), connection))
        else:
            connection.close()
        return answer.status, answer.content

    def _kept(self) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since, connection = self._idle.pop()
            # Something to read on an idle connection is its end (or nonsense): either way it is of no use.
            if time.monotonic() - since < _IDLE_MAX_S and not _readable(connection):
                return connection
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._tls:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT_TIMEOUT_S, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _opened(
        self, target: str, headers: dict[str, str], idle_timeout_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        try:
            connection = self._connected()
            try:
                connection.request("GET", target, headers=self._with_token(headers))
                connection.sock.settimeout(idle_timeout_s)
                response = connection.getresponse()
                refusal = self._refused_watch(response, target) if response.status >= 400 else None
            except BaseException:
                connection.close()
                raise
        except (http.client.HTTPException, OSError) as broken:
            raise self._unreachable("WATCH", target, broken) from None
        if refusal is not None:
            connection.close()
            raise refusal
        return connection, response

    def _refused_watch(self, response: http.client.HTTPResponse, target: str) -> ApiError:
        if response.status == 401 and self._token is not None:
            self._token.forget()
        document = _decoded(response.read(), status=response.status, target=target)
        return _refusal(response.status, document, method="WATCH", target=target)

    def _unreachable(self, method: str, target: str, broken: Exception) -> UnreachableError:
        what = "did not answer in time" if isinstance(broken, TimeoutError) else f"did not answer: {broken!r}"
        path = target.partition("?")[0]
        return UnreachableError(
            f"The API server {self._host}:{self._port} {what} ({method} {path}).", status=0
        )


class HereTransport:
    """An `HttpTransport` whose requests block the thread that asks instead of taking another.

    Its coroutines never suspend, so a thread without an event loop can run them to their end: two changes of
    thread less for each request.
    """

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JSON | list[JSON] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
        size: AnswerSize | None = None,  # noqa: ARG002 - nodes list nothing that users write
    ) -> JSON:
        """See `HttpTransport.request`."""
        own = self._transport
        request = own._request(  # noqa: SLF001 - a second face of the same thing
            method, path, query=query, body=body, content_type=content_type, timeout_s=timeout_s
        )
        return own._blocking(request)  # noqa: SLF001 - as above

    def stream(self, path: str, *, query: dict[str, str], idle_timeout_s: float) -> AsyncIterator[JSON]:
        """Watches need a loop: the same as the transport's own."""
        return self._transport.stream(path, query=query, idle_timeout_s=idle_timeout_s)

    async def close(self) -> None:
        """Nothing: the transport is closed by its owner."""


class _Token:
    """A bearer token, read again when its file may have been renewed; safe to use from several threads."""

    def __init__(self, config: ClusterConfig) -> None:
        self._path = Path(config.token_file) if config.token_file else None
        self._lock = threading.Lock()
        self._value = config.token
        self._read_at = float("-inf")

    def value(self) -> str:
        """The token; the last one known if its file cannot be read just now.

        Raises:
            OSError: The file was never readable.
        """
        with self._lock:
            if self._path is not None and time.monotonic() - self._read_at >= TOKEN_REREAD_S:
                try:
                    self._value = self._path.read_text(encoding="ascii").strip()
                    self._read_at = time.monotonic()
                except OSError:
                    if not self._value:
                        raise
            return self._value

    def forget(self) -> None:
        """Makes the next `value` read the file; after the server refused the token."""
        with self._lock:
            self._read_at = float("-inf")


def _readable(connection: http.client.HTTPConnection) -> bool:
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def _decoded(answer: bytes, *, status: int, target: str) -> JSON:
    try:
        document = parse_json(answer) if answer else {}
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    if status >= 400:
        # A proxy in between, or the server before it is ready, speaks no JSON.
        return {"message": answer[:200].decode("utf-8", "replace").strip()}
    path = target.partition("?")[0]
    raise ApiError(f"The API server's answer to {path} is not a JSON object.", status=status)


def _refusal(status: int, document: JSON, *, method: str, target: str) -> ApiError:
    path = target.partition("?")[0]
    message = str(document.get("message") or "no message")
    return error_for(
        status,
        message=f"{method} {path}: {message} ({status})",
        kube_reason=str(document.get("reason") or ""),
        body=document,
    )
