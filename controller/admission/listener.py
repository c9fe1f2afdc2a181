"""HTTPS for admission: takes bodies, hands over what they say, and sends what is answered.

Purpose: an API server that gets no answer stores what it may store unanswered, so that whoever finds an
object that gets none passes all checks by. Every object that an API server takes is answered here.

Flow: `run` serves until it is cancelled; `renew` takes another certificate without a pause, and `drain` sends
clients elsewhere, each after its next answer.

Limits: an API server takes 3 MiB of request, and a review holds the object twice at most: `MOST` is that and
room for the rest. Its JSON may be longer all the same (Go writes `<` as six characters); what is, is refused
in so many words where claims are checked, and by a status of HTTP elsewhere. Bodies above `LARGE` wait for
each other (`lane`). One of `MOST` costs 7 MiB, four times that as text while it is decoded if characters
beyond U+FFFF are in it, and some 0.1 s of the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import aiohttp.web
import structlog

from controller.admission.lane import AdmissionBusyError, Lane
from driver.errors import DragomanError, InvalidInputError
from driver.kube.client import JSON
from driver.kube.json_text import parse_json

PATH = "/admit"
MOST = 7 << 20
LARGE = 256 << 10
_PASSED_OVER = 64 << 20
"""So much of a body that is too large is read and dropped: an answer that comes before the body was sent is
not seen by everybody."""
_READ_S = 5.0
"""A body comes within this time, or not at all."""
_END_S = 10.0
"""What is under way at the end may take so long: the longest `timeoutSeconds` of our webhooks."""

# Go writes fields in the order of the type: kind, apiVersion, then the request, which begins with its uid.
_UID = re.compile(rb'"request":\{"uid":"([0-9a-fA-F-]{1,64})"')
_HEAD = 512

_log = structlog.get_logger("admission")


class ReviewTooLargeError(InvalidInputError):
    """An object is larger than anything that Kubernetes stores by default."""

    reason: ClassVar[str] = "ReviewTooLarge"


class Listener:
    """The server of one replica."""

    def __init__(
        self,
        *,
        address: str,
        port: int,
        certificate: Path,
        key: Path,
        answer: Callable[[JSON, str], Awaitable[JSON]],
        refuse: Callable[[str, str, DragomanError], JSON | None],
    ) -> None:
        """Prepares a server.

        Args:
            address: Where to listen.
            port: Where to listen.
            certificate: File of its certificate.
            key: File of its key.
            answer: Answers a review, asked at the last part of a path; raises ValueError for what is none.
            refuse: The answer to a review of this UID, asked at the last part of a path, that is not looked
                at; None if HTTP shall say it.
        """
        self._address = address
        self._port = port
        self._files = (certificate, key)
        self._answer = answer
        self._refuse = refuse
        self._lane = Lane()
        self._draining = False
        self._digest = b""
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    async def run(self) -> None:
        """Serves until cancelled, and then until what is under way has been answered."""
        self.renew()
        app = aiohttp.web.Application()
        app.router.add_post(f"{PATH}/{{webhook}}", self._serve)
        runner = aiohttp.web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=_END_S, auto_decompress=False
        )
        await runner.setup()
        try:
            site = aiohttp.web.TCPSite(
                runner, self._address or None, self._port, ssl_context=self._context, reuse_address=True
            )
            await site.start()
            _log.info("serving admission", port=self._port)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def renew(self) -> None:
        """Takes the certificate that lies in the files, for connections from now on.

        Raises:
            OSError: They cannot be read; also where certificate and key do not belong together.
        """
        digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in self._files)).digest()
        if digest == self._digest:
            return
        # A pair that does not fit would leave the context that is served with without a key.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*self._files)
        self._context.load_cert_chain(*self._files)
        self._digest = digest

    def drain(self) -> None:
        """From now on each answer ends its connection, so that the next one goes to another replica."""
        self._draining = True

    async def _serve(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        try:
            response = await self._response(request)
        except ValueError as failed:
            response = aiohttp.web.Response(status=400, text=str(failed))
        except TimeoutError:
            response = aiohttp.web.Response(status=408)
        if self._draining:
            response.force_close()
        return response

    async def _response(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        webhook, length = request.match_info["webhook"], request.content_length
        if length is not None and length <= LARGE:
            review = parse_json(_text(await _body(request, most=LARGE)))
            return aiohttp.web.json_response(await self._answer(review, webhook))
        head = await _head(request)
        try:
            if (length or 0) > MOST:
                raise _too_large()
            async with self._lane.turn() as turn:
                body = await _body(request, most=MOST, head=head)
                began = time.monotonic()
                text = _text(body)
                del body
                review = parse_json(text)
                del text
                turn.spent_s = time.monotonic() - began
                return aiohttp.web.json_response(await self._answer(review, webhook))
        except (ReviewTooLargeError, AdmissionBusyError) as refused:
            status = 413 if isinstance(refused, ReviewTooLargeError) else 429
            return await self._refused(request, refused, head=head, status=status)

    async def _refused(
        self, request: aiohttp.web.Request, refused: DragomanError, *, head: bytes, status: int
    ) -> aiohttp.web.Response:
        _log.warning("review refused", reason=refused.reason, length=request.content_length)
        await _pass_over(request)
        uid = _UID.search(head)
        review = self._refuse(uid[1].decode(), request.match_info["webhook"], refused) if uid else None
        if review is None:
            return aiohttp.web.Response(status=status, text=str(refused))
        return aiohttp.web.json_response(review)


async def _head(request: aiohttp.web.Request) -> bytes:
    head = b""
    async with asyncio.timeout(_READ_S):
        while len(head) < _HEAD and (chunk := await request.content.readany()):
            head += chunk
    return head


async def _body(request: aiohttp.web.Request, *, most: int, head: bytes = b"") -> bytearray:
    body = bytearray(head)
    async with asyncio.timeout(_READ_S):
        while chunk := await request.content.readany():
            body += chunk
            if len(body) > most:
                raise _too_large()
    return body


def _text(body: bytearray) -> str:
    return body.decode("utf-8", "surrogatepass")


async def _pass_over(request: aiohttp.web.Request) -> None:
    passed = 0
    async with asyncio.timeout(_READ_S):
        while (chunk := await request.content.readany()) and passed < _PASSED_OVER:
            passed += len(chunk)


def _too_large() -> ReviewTooLargeError:
    return ReviewTooLargeError(
        f"This object takes more than {MOST >> 20} MiB where it is looked at.",
        remedy="Make it smaller: Kubernetes stores no more than 1.5 MiB by default.",
    )
