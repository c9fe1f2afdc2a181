"""What stands before the API server in a storm: a TLS-terminating proxy that refuses a part of the writes.

Flow: each request is passed on as it is, with its credentials, over connections of our own. Writes meet a
fault by chance; watches are cut off after a while, in the middle of a line as well. `/storm/figures` answers
what was done so far.

Limits: HTTP/1.1; objects are held in memory while they pass. The seed fixes the faults in the order of the
requests, which is up to the clients.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import random
import ssl

import aiohttp
from aiohttp import web

WRITES = ("POST", "PUT", "PATCH", "DELETE")
HANG_S = 40.0
"""Longer than the controller waits for an answer."""
FAULTS = {
    # Refused, with an answer; nothing is stored.
    "429": 5,
    "409": 4,
    # No answer: the connection breaks before the server sees the request, or after it has stored it ...
    "cut before": 3,
    "cut after": 4,
    # ... or the request arrives when nobody waits for it any more.
    "late": 3,
    # No answer and no broken connection: the client's own time-out ends it, not stored and stored.
    "silent before": 1,
    "silent after": 1,
}
_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"})


class Proxy:
    """The proxy and its figures."""

    def __init__(
        self,
        upstream: str,
        *,
        share: float,
        watch_s: float,
        chance: random.Random,
        session: aiohttp.ClientSession,
    ) -> None:
        self._upstream = upstream
        self._share = share
        self._watch_s = watch_s
        self._chance = chance
        self._session = session
        self._late: set[asyncio.Task[None]] = set()
        self.figures: collections.Counter[str] = collections.Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        if request.path == "/storm/figures":
            return web.json_response(dict(self.figures))
        if request.method in WRITES:
            return await self._write(request)
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(request)
        return await self._pass_on(request, await request.read())

    async def _write(self, request: web.Request) -> web.StreamResponse:
        self.figures["writes"] += 1
        body = await request.read()
        if self._chance.random() >= self._share:
            return await self._pass_on(request, body)
        fault = self._chance.choices(list(FAULTS), weights=list(FAULTS.values()))[0]
        self.figures["faults"] += 1
        self.figures[f"fault: {fault}"] += 1
        if fault == "429":
            return _status(429, "TooManyRequests", headers={"Retry-After": "1"})
        if fault == "409":
            return _status(409, "Conflict")
        if fault in ("cut after", "silent after"):
            await self._upstream_only(request, body)
        if fault == "late":
            task = asyncio.create_task(self._later(request, body))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        if fault.startswith("silent"):
            await asyncio.sleep(HANG_S)
        return _cut(request)

    async def _later(self, request: web.Request, body: bytes) -> None:
        await asyncio.sleep(self._chance.uniform(0.05, 3.0))
        await self._upstream_only(request, body)

    async def _upstream_only(self, request: web.Request, body: bytes) -> None:
        """Lets the server do it, and keeps its answer."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.request(
                request.method,
                self._upstream + request.raw_path,
                data=body or None,
                headers=_kept(request.headers),
                skip_auto_headers=("Content-Type",),
            ) as answer:
                await answer.read()
                self.figures["stored without an answer" if answer.status < 300 else "refused anyway"] += 1

    async def _pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        try:
            async with self._session.request(
                request.method,
                self._upstream + request.raw_path,
                data=body or None,
                headers=_kept(request.headers),
                skip_auto_headers=("Content-Type",),
            ) as answer:
                if request.method in WRITES:
                    self.figures[f"answer {answer.status}"] += 1
                return web.Response(
                    status=answer.status, body=await answer.read(), headers=_kept(answer.headers)
                )
        except (aiohttp.ClientError, TimeoutError):
            self.figures["upstream away"] += 1
            return _cut(request)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.figures["watches"] += 1
        if self._chance.random() < self._share / 2:
            self.figures["watches refused"] += 1
            return _status(429, "TooManyRequests", headers={"Retry-After": "1"})
        response = web.StreamResponse()
        try:
            async with self._session.get(
                self._upstream + request.raw_path, headers=_kept(request.headers)
            ) as answer:
                if answer.status >= 400:
                    return web.Response(
                        status=answer.status, body=await answer.read(), headers=_kept(answer.headers)
                    )
                response.headers["Content-Type"] = "application/json"
                await response.prepare(request)
                await self._stream(answer, response)
        except (aiohttp.ClientError, OSError):
            return _cut(request)
        self.figures["watches cut off"] += 1
        return _cut(request)

    async def _stream(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        """Passes events on until it is time to cut the watch off, within an event if there is one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._chance.expovariate(1 / self._watch_s)
        while True:
            try:
                async with asyncio.timeout_at(until):
                    chunk = await answer.content.readany()
            except TimeoutError:
                return
            if not chunk:
                return
            if loop.time() >= until:
                await response.write(chunk[: len(chunk) // 2])
                return
            await response.write(chunk)


def _kept(headers: object) -> dict[str, str]:
    assert hasattr(headers, "items")
    return {key: value for key, value in headers.items() if key.lower() not in _HOP}


def _status(code: int, reason: str, *, headers: dict[str, str] | None = None) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": "refused by a test",
        "code": code,
    }
    return web.json_response(body, status=code, headers=headers)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _serve(given: argparse.Namespace) -> None:
    trust = ssl.create_default_context(cafile=given.upstream_ca)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(given.certificate, given.key)
    connector = aiohttp.TCPConnector(limit=0, ssl=trust)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        proxy = Proxy(
            given.upstream,
            share=given.share,
            watch_s=given.watch_s,
            chance=random.Random(given.seed),
            session=session,
        )
        app = web.Application(client_max_size=32 << 20)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own)
        await site.start()
        (port,) = {address[1] for address in runner.addresses}
        # Whoever started this waits for the line.
        print(json.dumps({"port": port}), flush=True)  # noqa: T201
        await asyncio.Event().wait()


def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser()
    for name in ("--upstream", "--upstream-ca", "--certificate", "--key"):
        parser.add_argument(name, required=True)
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--watch-s", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
