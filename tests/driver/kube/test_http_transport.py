"""The agent's transport against a real HTTP server on the loopback."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from driver.kube import http_transport
from driver.kube.client import (
    APPLY,
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    UnreachableError,
)
from driver.kube.config import ClusterConfig
from driver.kube.http_transport import HttpTransport

pytestmark = pytest.mark.asyncio


@dataclass(frozen=True, kw_only=True)
class Seen:
    command: str
    path: str
    headers: dict[str, str]
    content: bytes


class Request(BaseHTTPRequestHandler):
    """A request that a test answers with a function."""

    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        # A handler lives as long as its connection: what it saw is copied.
        seen = Seen(command=self.command, path=self.path, headers=dict(self.headers), content=content)
        self.server.seen.append(seen)  # type: ignore[attr-defined]
        self.server.answer(self)  # type: ignore[attr-defined]

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815

    def reply(self, status: int, document: Any) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def start_watch(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: Callable[[Request], None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.seen: list[Seen] = []
        self.connections = 0
        self.closed = threading.Event()
        """Set once a connection was closed from this side."""

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.closed.set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def transport_to(server: Server, **config: Any) -> HttpTransport:
    return HttpTransport(ClusterConfig(server=server.url, **config), user_agent="test/1")


async def test_a_request_carries_query_body_content_type_and_agent(server: Server) -> None:
    server.answer = lambda request: request.reply(200, {"kind": "Thing"})
    transport = transport_to(server)
    answer = await transport.request(
        "PATCH", "/api/v1/things/a", query={"fieldManager": "me"}, body={"a": 1}, content_type=APPLY
    )
    await transport.close()
    seen = server.seen[0]
    assert answer == {"kind": "Thing"}
    assert (seen.command, seen.path) == ("PATCH", "/api/v1/things/a?fieldManager=me")
    assert (seen.headers["Content-Type"], json.loads(seen.content)) == (APPLY, {"a": 1})
    assert seen.headers["User-Agent"] == "test/1"


async def test_requests_one_after_another_use_one_connection(server: Server) -> None:
    server.answer = lambda request: request.reply(200, {})
    transport = transport_to(server)
    for _ in range(5):
        await transport.request("GET", "/x")
    await transport.close()
    assert (len(server.seen), server.connections) == (5, 1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, ForbiddenError), (404, NotFoundError), (409, ConflictError), (410, GoneError), (500, ApiError)],
)
async def test_an_error_status_becomes_its_exception_with_the_servers_words(
    server: Server, status: int, kind: type[ApiError]
) -> None:
    server.answer = lambda request: request.reply(status, {"message": "because", "reason": "Reason"})
    transport = transport_to(server)
    with pytest.raises(kind) as raised:
        await transport.request("GET", "/api/v1/things/a", query={"limit": "1"})
    await transport.close()
    assert raised.value.status == status
    assert raised.value.kube_reason == "Reason"
    assert str(raised.value) == f"GET /api/v1/things/a: because ({status})"


async def test_a_connection_is_used_again_after_an_error_status(server: Server) -> None:
    server.answer = lambda request: request.reply(404 if request.path == "/gone" else 200, {})
    transport = transport_to(server)
    with pytest.raises(NotFoundError):
        await transport.request("GET", "/gone")
    await transport.request("GET", "/there")
    await transport.close()
    assert server.connections == 1


async def test_an_error_that_is_no_json_is_shown_as_text(server: Server) -> None:
    server.answer = lambda request: request.reply(503, b"upstream not ready")
    transport = transport_to(server)
    with pytest.raises(ApiError, match="upstream not ready"):
        await transport.request("GET", "/x")
    await transport.close()


async def test_an_answer_that_is_no_json_object_is_an_error(server: Server) -> None:
    server.answer = lambda request: request.reply(200, b"[1, 2]")
    transport = transport_to(server)
    with pytest.raises(ApiError, match="not a JSON object"):
        await transport.request("GET", "/x")
    await transport.close()


async def test_a_server_that_is_not_there_is_unreachable_with_a_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    transport = HttpTransport(ClusterConfig(server=f"http://127.0.0.1:{port}"), user_agent="test/1")
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port} did not answer") as raised:
        await transport.request("GET", "/x")
    await transport.close()
    assert raised.value.status == 0
    assert raised.value.retriable


async def test_a_server_that_does_not_answer_in_time_is_unreachable(server: Server) -> None:
    release = threading.Event()
    server.answer = lambda _request: none(release.wait(60))
    transport = transport_to(server)
    with pytest.raises(UnreachableError, match="did not answer in time"):
        await transport.request("GET", "/x", timeout_s=0.1)
    release.set()
    await transport.close()


async def test_no_request_takes_longer_than_the_transport_allows(server: Server) -> None:
    release = threading.Event()
    server.answer = lambda _request: none(release.wait(60))
    transport = HttpTransport(ClusterConfig(server=server.url), user_agent="test/1", longest_s=0.1)
    with pytest.raises(UnreachableError, match="did not answer in time"):
        await transport.request("GET", "/x", timeout_s=30)
    release.set()
    await transport.close()


async def test_an_answer_that_drips_does_not_outlast_the_time_limit(server: Server) -> None:
    release = threading.Event()

    def drip(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        while not release.wait(0.02):
            request.wfile.write(b" ")
            request.wfile.flush()

    server.answer = drip
    transport = transport_to(server)
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        await transport.request("GET", "/x", timeout_s=0.2)
    release.set()
    await transport.close()
    assert time.monotonic() - began < 15


async def test_an_answer_that_is_cut_off_is_unreachable_and_not_half_an_object(server: Server) -> None:
    def cut(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b'{"a": 1}')
        request.close_connection = True

    server.answer = cut
    transport = transport_to(server)
    with pytest.raises(UnreachableError):
        await transport.request("GET", "/x")
    await transport.close()


async def test_a_connection_that_the_server_closed_while_idle_is_replaced_unseen(server: Server) -> None:
    def answer_and_close(request: Request) -> None:
        request.reply(200, {})
        # No Connection: close header: the client believes that it may go on.
        request.close_connection = True

    server.answer = answer_and_close
    transport = transport_to(server)
    await transport.request("GET", "/x")
    assert await asyncio.to_thread(server.closed.wait, 30)
    await transport.request("POST", "/x", body={})
    await transport.close()
    assert server.connections == 2


async def test_a_kept_connection_that_breaks_in_use_costs_one_retry(server: Server) -> None:
    def break_second(request: Request) -> None:
        if len(server.seen) == 2:
            request.close_connection = True
            return
        request.reply(200, {"n": len(server.seen)})

    server.answer = break_second
    transport = transport_to(server)
    await transport.request("GET", "/x")
    assert await transport.request("GET", "/x") == {"n": 3}
    await transport.close()


async def test_a_post_that_breaks_in_use_is_not_sent_twice(server: Server) -> None:
    def break_second(request: Request) -> None:
        if len(server.seen) == 2:
            request.close_connection = True
            return
        request.reply(200, {})

    server.answer = break_second
    transport = transport_to(server)
    await transport.request("GET", "/x")
    with pytest.raises(UnreachableError):
        await transport.request("POST", "/x", body={})
    await transport.close()
    assert len(server.seen) == 2


async def test_a_renewed_token_is_used_after_a_minute(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = lambda request: request.reply(200, {})
    token = tmp_path / "token"
    token.write_text("first\n")
    transport = transport_to(server, token_file=str(token))
    await transport.request("GET", "/x")
    token.write_text("second\n")
    await transport.request("GET", "/x")
    monkeypatch.setattr(http_transport, "TOKEN_REREAD_S", 0.0)
    await transport.request("GET", "/x")
    await transport.close()
    sent = [request.headers["Authorization"] for request in server.seen]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


async def test_a_token_that_the_server_refuses_is_read_again_at_once(server: Server, tmp_path: Path) -> None:
    def check(request: Request) -> None:
        good = request.headers["Authorization"] == "Bearer second"
        request.reply(200 if good else 401, {"message": "Unauthorized"})

    token = tmp_path / "token"
    token.write_text("first")
    transport = transport_to(server, token_file=str(token))
    server.answer = lambda request: request.reply(200, {})
    await transport.request("GET", "/x")
    token.write_text("second")
    server.answer = check
    assert await transport.request("GET", "/x") == {"message": "Unauthorized"}
    await transport.close()


async def test_the_last_token_is_used_while_its_file_cannot_be_read(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_transport, "TOKEN_REREAD_S", 0.0)
    server.answer = lambda request: request.reply(200, {})
    token = tmp_path / "token"
    token.write_text("first")
    transport = transport_to(server, token_file=str(token))
    await transport.request("GET", "/x")
    token.unlink()
    await transport.request("GET", "/x")
    await transport.close()
    assert server.seen[1].headers["Authorization"] == "Bearer first"


async def test_a_token_that_was_never_there_is_named(server: Server, tmp_path: Path) -> None:
    transport = transport_to(server, token_file=str(tmp_path / "token"))
    with pytest.raises(UnreachableError, match="token of the API server cannot be read"):
        await transport.request("GET", "/x")
    await transport.close()


async def test_no_token_appears_in_an_error(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("very-secret")
    server.answer = lambda request: request.reply(500, {"message": "no"})
    transport = transport_to(server, token_file=str(token))
    with pytest.raises(ApiError) as raised:
        await transport.request("GET", "/x")
    await transport.close()
    assert "very-secret" not in f"{raised.value!r} {raised.value.body}"


async def test_each_request_is_observed_with_its_status(server: Server) -> None:
    server.answer = lambda request: request.reply(404 if request.path == "/gone" else 200, {})
    observed: list[tuple[str, int]] = []
    transport = HttpTransport(
        ClusterConfig(server=server.url),
        user_agent="test/1",
        observe=lambda method, status, seconds: observed.append((method, status)) if seconds >= 0 else None,
    )
    await transport.request("GET", "/there")
    with pytest.raises(NotFoundError):
        await transport.request("DELETE", "/gone")
    await transport.close()
    assert observed == [("GET", 200), ("DELETE", 404)]


async def test_many_requests_at_once_are_all_answered(server: Server) -> None:
    server.answer = lambda request: request.reply(200, {"path": request.path})
    transport = transport_to(server)
    answers = await asyncio.gather(*(transport.request("GET", f"/{n}") for n in range(40)))
    await transport.close()
    assert [answer["path"] for answer in answers] == [f"/{n}" for n in range(40)]
    assert server.connections <= 4


def none(_value: object) -> None:
    """Lets a lambda that has a value stand where none is wanted."""


async def collect(transport: HttpTransport, **options: Any) -> list[Any]:
    return [event async for event in transport.stream("/w", query={"watch": "1"}, **options)]


async def test_a_watch_yields_each_line_however_it_is_cut_into_chunks(server: Server) -> None:
    lines = b"".join(json.dumps({"n": n}).encode() + b"\n" for n in range(20))

    def watch(request: Request) -> None:
        request.start_watch()
        for start in range(0, len(lines), 7):
            request.chunk(lines[start : start + 7])
        request.wfile.write(b"0\r\n\r\n")

    server.answer = watch
    transport = transport_to(server)
    assert await collect(transport, idle_timeout_s=60) == [{"n": n} for n in range(20)]
    await transport.close()


async def test_a_watch_has_no_limit_on_the_length_of_a_line(server: Server) -> None:
    def watch(request: Request) -> None:
        request.start_watch()
        request.chunk(json.dumps({"text": "x" * 300_000}).encode() + b"\n")
        request.wfile.write(b"0\r\n\r\n")

    server.answer = watch
    transport = transport_to(server)
    [event] = await collect(transport, idle_timeout_s=60)
    await transport.close()
    assert len(event["text"]) == 300_000


async def test_a_watch_that_is_cut_in_the_middle_of_a_line_is_an_error(server: Server) -> None:
    def watch(request: Request) -> None:
        request.start_watch()
        request.chunk(b'{"n": 1}\n{"n":')
        request.close_connection = True

    server.answer = watch
    transport = transport_to(server)
    events = transport.stream("/w", query={}, idle_timeout_s=60)
    assert await anext(events) == {"n": 1}
    with pytest.raises(UnreachableError, match="broke off"):
        await anext(events)
    await transport.close()


async def test_a_watch_that_says_nothing_for_too_long_is_given_up(server: Server) -> None:
    release = threading.Event()

    def watch(request: Request) -> None:
        request.start_watch()
        request.chunk(b'{"n": 1}\n')
        release.wait(60)

    server.answer = watch
    transport = transport_to(server)
    with pytest.raises(UnreachableError, match=r"sent nothing for 0.1 s"):
        await collect(transport, idle_timeout_s=0.1)
    release.set()
    await transport.close()


async def test_a_watch_that_is_refused_raises_the_refusal(server: Server) -> None:
    server.answer = lambda request: request.reply(410, {"message": "too old", "reason": "Expired"})
    transport = transport_to(server)
    with pytest.raises(GoneError, match="too old"):
        await collect(transport, idle_timeout_s=60)
    await transport.close()


async def test_leaving_a_watch_ends_its_connection(server: Server) -> None:
    ended = threading.Event()

    def watch(request: Request) -> None:
        request.start_watch()
        request.chunk(b'{"n": 1}\n')
        request.connection.settimeout(60)
        if not request.connection.recv(1):
            ended.set()

    server.answer = watch
    transport = transport_to(server)
    events = transport.stream("/w", query={}, idle_timeout_s=60)
    assert await anext(events) == {"n": 1}
    await events.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(ended.wait, 60)
    await transport.close()


async def test_a_watch_that_nobody_reads_is_held_back_and_loses_nothing(server: Server) -> None:
    count = 2000

    def watch(request: Request) -> None:
        request.start_watch()
        for n in range(count):
            request.chunk(json.dumps({"n": n}).encode() + b"\n")
        request.wfile.write(b"0\r\n\r\n")

    server.answer = watch
    transport = transport_to(server)
    events = transport.stream("/w", query={}, idle_timeout_s=60)
    seen = [(await anext(events))["n"]]
    await asyncio.sleep(0.1)
    queued = next(iter(transport._streams)).queue.qsize()
    seen += [event["n"] async for event in events]
    await transport.close()
    assert queued <= 256
    assert seen == list(range(count))


async def test_closing_the_transport_ends_its_watches(server: Server) -> None:
    release = threading.Event()

    def watch(request: Request) -> None:
        request.start_watch()
        request.chunk(b'{"n": 1}\n')
        release.wait(60)

    server.answer = watch
    transport = transport_to(server)
    events = transport.stream("/w", query={}, idle_timeout_s=60)
    await anext(events)
    await transport.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(events), 60)
    release.set()


HOSTILE = b'{"deep": ' + b"[" * 5_000 + b"]" * 5_000 + b', "half": "\\ud800"}'


async def test_an_object_that_is_nested_too_deep_is_an_answer_as_any_other(server: Server) -> None:
    server.answer = lambda request: request.reply(200, HOSTILE)
    transport = transport_to(server)
    answer = await transport.request("GET", "/x")
    await transport.close()
    assert answer["half"] == "\ud800"


async def test_an_object_that_is_nested_too_deep_is_an_event_as_any_other(server: Server) -> None:
    def answer(request: Request) -> None:
        request.start_watch()
        request.chunk(HOSTILE + b"\n")
        request.wfile.write(b"0\r\n\r\n")

    server.answer = answer
    transport = transport_to(server)
    events = await collect(transport, idle_timeout_s=60)
    await transport.close()
    assert [event["half"] for event in events] == ["\ud800"]


async def test_a_thread_without_a_loop_can_ask_by_a_coroutine_that_never_suspends(server: Server) -> None:
    server.answer = lambda request: request.reply(200, {"kind": "Pod"})
    transport = transport_to(server)

    def ask() -> Any:
        try:
            transport.here().request("GET", "/api", query={"a": "b"}).send(None)
        except StopIteration as done:
            return done.value

    assert await asyncio.to_thread(ask) == {"kind": "Pod"}
    assert [(seen.command, seen.path) for seen in server.seen] == [("GET", "/api?a=b")]
    await transport.close()
