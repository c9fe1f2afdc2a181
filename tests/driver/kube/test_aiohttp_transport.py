"""The controller's transport against a real HTTP server on the loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from driver.kube.aiohttp_transport import AiohttpTransport
from driver.kube.client import (
    JSON,
    MERGE,
    AnswerSize,
    AnswerTooLargeError,
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    SilentWatchError,
    UnreachableError,
)
from driver.kube.config import ClusterConfig

pytestmark = pytest.mark.asyncio

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, *, token_file: str = "") -> AsyncIterator[AiohttpTransport]:
    application = web.Application(client_max_size=1 << 23)
    application.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(application) as server:
        transport = AiohttpTransport(
            ClusterConfig(server=f"http://{server.host}:{server.port}", token_file=token_file)
        )
        try:
            yield transport
        finally:
            await transport.close()


async def collect(
    transport: AiohttpTransport, *, idle_timeout_s: float = 5.0
) -> tuple[list[JSON], ApiError | None]:
    """All events of a watch, and what it ended with."""
    events: list[JSON] = []
    try:
        async for event in transport.stream("/watch", query={"watch": "1"}, idle_timeout_s=idle_timeout_s):
            events.append(event)  # noqa: PERF401 - what came before a failure counts
    except ApiError as failed:
        return events, failed
    return events, None


async def test_method_path_query_body_and_content_type_arrive_as_sent() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "method": request.method,
                "path": request.path,
                "query": dict(request.query),
                "body": await request.json(),
                "type": request.headers["Content-Type"],
                "agent": request.headers["User-Agent"],
            }
        )

    async with serving(handler) as transport:
        answer = await transport.request(
            "PATCH", "/apis/x", query={"labelSelector": "a=b,c in (d)"}, body={"x": 1}, content_type=MERGE
        )
    assert answer == {
        "method": "PATCH",
        "path": "/apis/x",
        "query": {"labelSelector": "a=b,c in (d)"},
        "body": {"x": 1},
        "type": MERGE,
        "agent": "dragoman",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, ForbiddenError), (404, NotFoundError), (409, ConflictError), (410, GoneError), (500, ApiError)],
)
async def test_a_refusal_carries_status_reason_and_the_servers_words(
    status: int, kind: type[ApiError]
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "message": "because", "reason": "Why"}, status=status)

    async with serving(handler) as transport:
        with pytest.raises(kind, match="GET /x: because") as caught:
            await transport.request("GET", "/x")
    assert (caught.value.status, caught.value.kube_reason) == (status, "Why")


async def test_a_refusal_that_is_no_status_object_is_quoted() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="upstream connect error", status=503)

    async with serving(handler) as transport:
        with pytest.raises(ApiError, match="upstream connect error"):
            await transport.request("GET", "/x")


async def test_an_answer_that_is_not_json_counts_as_no_answer() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="<html>")

    async with serving(handler) as transport:
        with pytest.raises(UnreachableError, match="not JSON"):
            await transport.request("GET", "/x")


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    transport = AiohttpTransport(ClusterConfig(server="http://127.0.0.1:1"))
    with pytest.raises(UnreachableError, match="did not answer"):
        await transport.request("GET", "/x")
    events, failed = await collect(transport)
    await transport.close()
    assert events == []
    assert isinstance(failed, UnreachableError)


async def test_a_server_that_does_not_answer_in_time_is_unreachable() -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with serving(handler) as transport:
        with pytest.raises(UnreachableError):
            await transport.request("GET", "/x", timeout_s=0.05)


async def test_a_watch_yields_a_document_a_line_whatever_the_chunks() -> None:
    lines = b"".join(json.dumps({"n": n}).encode() + b"\n" for n in range(5))

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(lines), 3):
            await response.write(lines[start : start + 3])
        return response

    async with serving(handler) as transport:
        events, failed = await collect(transport)
    assert events == [{"n": n} for n in range(5)]
    assert failed is None


async def test_a_line_may_be_as_long_as_an_object_that_the_server_can_store() -> None:
    long = {"object": "x" * 3_000_000}

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(json.dumps(long).encode() + b"\n" + b'{"n":1}\n')
        return response

    async with serving(handler) as transport:
        events, failed = await collect(transport)
    assert events == [long, {"n": 1}]
    assert failed is None


async def test_a_watch_cut_in_the_middle_of_a_line_gives_the_whole_lines_only() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"n":0}\n{"n":1')
        transport = request.transport
        assert transport is not None
        transport.abort()
        return response

    async with serving(handler) as transport:
        events, failed = await collect(transport)
    assert events in ([{"n": 0}], [])
    assert isinstance(failed, UnreachableError)


async def test_a_watch_ended_in_good_order_within_a_line_drops_the_rest() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text='{"n":0}\n{"n":1')

    async with serving(handler) as transport:
        assert await collect(transport) == ([{"n": 0}], None)


async def test_a_watch_without_a_byte_for_too_long_is_said_to_be_silent() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"n":0}\n')
        await asyncio.Event().wait()
        return response

    async with serving(handler) as transport:
        events, failed = await collect(transport, idle_timeout_s=1.5)
    assert events == [{"n": 0}]
    assert isinstance(failed, SilentWatchError)


async def test_a_watch_that_is_never_accepted_is_not_taken_for_a_quiet_one() -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with serving(handler) as transport:
        _, failed = await collect(transport, idle_timeout_s=0.1)
    assert isinstance(failed, UnreachableError)
    assert not isinstance(failed, SilentWatchError)


async def test_a_watch_that_is_refused_raises_the_refusal() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"message": "too old"}, status=410)

    async with serving(handler) as transport:
        events, failed = await collect(transport)
    assert events == []
    assert isinstance(failed, GoneError)


async def test_a_refused_token_is_read_again_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        if seen[-1] == "Bearer old" and len(seen) > 1:
            file.write_text("new\n")
            return web.json_response({"message": "Unauthorized"}, status=401)
        return web.json_response({})

    async with serving(handler, token_file=str(file)) as transport:
        for _ in range(3):
            await transport.request("GET", "/x")
    assert seen == ["Bearer old", "Bearer old", "Bearer new", "Bearer new"]


async def test_a_token_that_stays_wrong_is_refused_after_one_more_try(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("wrong")
    calls = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response({"message": "Unauthorized"}, status=401)

    async with serving(handler, token_file=str(file)) as transport:
        with pytest.raises(ApiError) as caught:
            await transport.request("GET", "/x")
    assert (caught.value.status, calls) == (401, 2)


async def test_a_token_file_that_was_never_there_is_named() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({})

    async with serving(handler, token_file="/nowhere/token") as transport:
        with pytest.raises(UnreachableError, match="token file"):
            await transport.request("GET", "/x")


HOSTILE = b'{"deep": ' + b"[" * 5_000 + b"]" * 5_000 + b', "half": "\\ud800"}'


async def test_an_object_that_is_nested_too_deep_is_read_as_any_other() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=HOSTILE + b"\n")

    async with serving(handler) as transport:
        answer = await transport.request("GET", "/x")
        events, ended = await collect(transport)
    assert answer["half"] == "\ud800"
    assert (events, ended) == ([answer], None)


async def test_an_answer_is_not_read_beyond_what_whoever_asks_can_take() -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"items": [')
        try:
            while sent < 1 << 28:
                await response.write(b'"' + b"x" * 65_000 + b'",')
                sent += 65_000
        except ConnectionError:
            pass
        return response

    async with serving(handler) as transport:
        with pytest.raises(AnswerTooLargeError):
            await transport.request("GET", "/pods", size=AnswerSize(most=100_000))
    assert sent < 1 << 25


async def test_the_size_of_an_answer_is_told() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"items": ["x" * 1000]})

    async with serving(handler) as transport:
        size = AnswerSize(most=2000)
        assert await transport.request("GET", "/pods", size=size) == {"items": ["x" * 1000]}
    assert size.read == len('{"items": [""]}') + 1000
