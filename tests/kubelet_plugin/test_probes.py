import asyncio

import pytest

from driver.errors import ConfigError
from kubelet_plugin.probes import Answer, ProbeServer, sentence

pytestmark = pytest.mark.asyncio


async def ask(server: ProbeServer, request: bytes) -> bytes:
    host, port = await server.start("127.0.0.1:0")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()
        await server.stop()


def get(path: str, *, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_a_path_is_answered_with_status_type_and_body() -> None:
    answer = Answer(status=503, body=b"no kubelet\n", content_type="text/x")
    raw = await ask(ProbeServer({"/readyz": lambda: answer}), get("/readyz?verbose=1"))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/x\r\n")
    assert b"Content-Length: 11" in head
    assert body == b"no kubelet\n"


async def test_an_unknown_path_tells_which_there_are() -> None:
    raw = await ask(ProbeServer({"/readyz": lambda: sentence(200, "")}), get("/ready"))
    assert raw.startswith(b"HTTP/1.1 404")
    assert b"/readyz" in raw


async def test_head_is_answered_without_a_body() -> None:
    raw = await ask(ProbeServer({"/healthz": lambda: sentence(200, "runs")}), get("/healthz", method="HEAD"))
    assert raw.endswith(b"\r\n\r\n")
    assert b"Content-Length: 5" in raw


async def test_nothing_can_be_posted() -> None:
    raw = await ask(ProbeServer({"/": lambda: sentence(200, "")}), get("/", method="POST"))
    assert raw.startswith(b"HTTP/1.1 405")


async def test_what_is_no_http_gets_a_refusal() -> None:
    raw = await ask(ProbeServer({}), b"hello\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 400")


async def test_a_client_that_sends_headers_without_end_is_let_go() -> None:
    assert await ask(ProbeServer({}), b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000) == b""


async def test_an_address_in_use_is_refused_with_a_remedy() -> None:
    first = ProbeServer({})
    host, port = await first.start("127.0.0.1:0")
    with pytest.raises(ConfigError, match="port that is free"):
        await ProbeServer({}).start(f"{host}:{port}")
    await first.stop()
