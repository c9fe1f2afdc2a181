"""The controller's transport: aiohttp.

Why aiohttp itself and no Kubernetes library: kopf brings it anyway; of the libraries tried none asks for
bookmarks, notices a dead connection and survives 410 without losing deletions, and typed ones lose fields
that they do not know. What they would add, authentication, is `config` and the token below.

Flow: `request` for one answer, `stream` for the lines of a watch. Every failure becomes an `ApiError`; the
Status object of the API server gives its words.

Limits: answers are read whole, up to the size that whoever asks can take; lines of a watch may have any
length that the API server can store. The token file is read again after at most 60 s, and at once when the
server answers 401, because tokens rotate.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from driver.kube.client import (
    JSON,
    AnswerSize,
    AnswerTooLargeError,
    ApiError,
    SilentWatchError,
    UnreachableError,
    error_for,
)
from driver.kube.config import ClusterConfig, TokenReader
from driver.kube.json_text import parse_json

# One event of a watch is one line, and an object may have 1.5 MiB in etcd.
_READ_BUFFER = 1 << 21
_CONNECT_TIMEOUT_S = 5.0
_MAX_MESSAGE = 2000


class AiohttpTransport:
    """Sends requests to one API server; to be made inside the event loop that uses it."""

    def __init__(self, config: ClusterConfig, *, user_agent: str = "dragoman") -> None:
        self._config = config
        self._tokens = TokenReader(config)
        self._verify_as = config.verify_as or None
        context = config.ssl_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context if context is not None else True, limit=32),
            headers={"User-Agent": user_agent, "Accept": "application/json"},
            read_bufsize=_READ_BUFFER,
            raise_for_status=False,
            trust_env=False,
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JSON | list[JSON] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
        size: AnswerSize | None = None,
    ) -> JSON:
        """Sends a request and decodes the answer; see `driver.kube.client.Transport`."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {} if data is None else {"Content-Type": content_type}
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
        for attempt in (1, 2):
            try:
                async with self._session.request(
                    method,
                    self._config.server + path,
                    params=query,
                    data=data,
                    headers={**headers, **self._authorization()},
                    timeout=timeout,
                    server_hostname=self._verify_as,
                ) as response:
                    text = await _read(response, size, what=f"{method} {path}")
            except (aiohttp.ClientError, TimeoutError, OSError) as failed:
                raise UnreachableError(_no_answer(method, path, failed), status=0) from None
            if response.status != 401 or attempt == 2 or not self._tokens.renew():
                break
        return _decode(response.status, text, what=f"{method} {path}")

    async def stream(self, path: str, *, query: dict[str, str], idle_timeout_s: float) -> AsyncIterator[JSON]:
        """Yields the documents of a watch; see `driver.kube.client.StreamingTransport`."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=idle_timeout_s)
        what, accepted = f"WATCH {path}", False
        try:
            async with self._session.get(
                self._config.server + path,
                params=query,
                headers=self._authorization(),
                timeout=timeout,
                server_hostname=self._verify_as,
            ) as response:
                if response.status >= 400:
                    if response.status == 401:
                        self._tokens.renew()
                    _decode(response.status, await response.read(), what=what)
                accepted = True
                async for line in _lines(response.content):
                    yield _document(line, what=what)
        except aiohttp.SocketTimeoutError:
            kind = SilentWatchError if accepted else UnreachableError
            raise kind(f"{what}: no byte for {idle_timeout_s:.0f} s.", status=0) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as failed:
            raise UnreachableError(_no_answer("WATCH", path, failed), status=0) from None

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    def _authorization(self) -> dict[str, str]:
        try:
            token = self._tokens.token()
        except OSError as missing:
            raise UnreachableError(f"The token file cannot be read: {missing}.", status=0) from None
        return {"Authorization": f"Bearer {token}"} if token else {}


async def _read(response: aiohttp.ClientResponse, size: AnswerSize | None, *, what: str) -> bytes:
    if size is None:
        return await response.read()
    pieces, size.read = [], 0
    async for piece in response.content.iter_any():
        size.read += len(piece)
        if 0 < size.most < size.read:
            raise AnswerTooLargeError(f"{what}: the answer has more than {size.most} bytes.", status=0)
        pieces.append(piece)
    return b"".join(pieces)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Complete lines, however long; what is cut off at the end of the stream is dropped."""
    pieces: list[bytes] = []
    async for chunk in content.iter_any():
        *ends, tail = chunk.split(b"\n")
        for end in ends:
            pieces.append(end)
            line = b"".join(pieces)
            pieces = []
            if line.strip():
                yield line
        pieces.append(tail)


def _decode(status: int, text: bytes, *, what: str) -> JSON:
    try:
        document = parse_json(text) if text.strip() else {}
    except ValueError:
        document = None
    if status < 400:
        if isinstance(document, dict):
            return document
        raise UnreachableError(f"{what} was answered with something that is not JSON.", status=0)
    body = document if isinstance(document, dict) else {}
    message = str(body.get("message") or text[:_MAX_MESSAGE].decode(errors="replace") or "no message")
    raise error_for(
        status,
        message=f"{what}: {message[:_MAX_MESSAGE]}",
        kube_reason=str(body.get("reason") or ""),
        body=body,
    )


def _document(line: bytes, *, what: str) -> JSON:
    try:
        document: Any = parse_json(line)
    except ValueError:
        raise ApiError(f"{what} sent a line that is not JSON.", status=0) from None
    if not isinstance(document, dict):
        raise ApiError(f"{what} sent a line that is no object.", status=0)
    return document


def _no_answer(method: str, path: str, failed: BaseException) -> str:
    cause = str(failed) or type(failed).__name__
    return f"{method} {path}: the API server did not answer ({cause})."
