"""One exchange over a socket pair; the other end plays the server."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.kube.http_answer import Answer, exchange, request_head

OK = b"HTTP/1.1 200 OK\r\n"


def answered(*pieces: bytes, close: bool = False, seconds: float = 5.0) -> Answer:
    """What an exchange makes of an answer that comes in these pieces."""
    here, there = socket.socketpair()
    with here, there:

        def serve() -> None:
            there.recv(1 << 16)
            with contextlib.suppress(OSError):  # the caller may have given up before the end
                for piece in pieces:
                    there.sendall(piece)
                if close:
                    there.shutdown(socket.SHUT_WR)

        server = threading.Thread(target=serve)
        server.start()
        try:
            return exchange(here, b"GET / HTTP/1.1\r\n\r\n", deadline=time.monotonic() + seconds)
        finally:
            here.close()
            server.join()


def cut(whole: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


def test_a_request_begins_with_its_line_and_fields() -> None:
    head = request_head("GET", "/api?a=b", {"Host": "one:6443", "Accept": "application/json"})
    assert head == b"GET /api?a=b HTTP/1.1\r\nHost: one:6443\r\nAccept: application/json\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nEvil: b", "a\nb", "a\0b"])
def test_a_field_that_would_smuggle_another_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(http.client.HTTPException, match="the header Authorization holds") as refused:
        request_head("GET", "/", {"Authorization": value})
    assert value not in str(refused.value)


@pytest.mark.parametrize("target", ["/a b", "/a\r\nb", "/a\x7f"])
def test_a_path_that_would_end_the_request_line_is_refused(target: str) -> None:
    with pytest.raises(http.client.InvalidURL):
        request_head("GET", target, {})


@given(body=st.binary(max_size=300), size=st.integers(1, 64))
def test_a_body_of_known_length_is_read_whatever_pieces_it_comes_in(body: bytes, size: int) -> None:
    whole = OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    assert answered(*cut(whole, size)) == Answer(status=200, content=body, reusable=True)


@given(chunks=st.lists(st.binary(min_size=1, max_size=80), max_size=5), size=st.integers(1, 64))
def test_chunks_are_put_together_whatever_pieces_they_come_in(chunks: list[bytes], size: int) -> None:
    body = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    whole = OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    assert answered(*cut(whole, size)) == Answer(status=200, content=b"".join(chunks), reusable=True)


def test_extensions_of_chunks_and_trailers_are_passed_over() -> None:
    whole = OK + b"transfer-encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n"
    assert answered(whole) == Answer(status=200, content=b"abc", reusable=True)


def test_an_answer_that_is_announced_is_waited_for() -> None:
    whole = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx"
    assert answered(whole).content == b"x"


def test_an_answer_without_an_end_of_its_own_goes_up_to_the_connections_end() -> None:
    assert answered(OK + b"\r\nabc", close=True) == Answer(status=200, content=b"abc", reusable=False)


def test_an_answer_that_never_has_a_body_ends_with_its_head() -> None:
    assert answered(b"HTTP/1.1 204 No Content\r\n\r\n") == Answer(status=204, content=b"", reusable=True)


@pytest.mark.parametrize(
    "head",
    [OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"],
)
def test_a_connection_that_the_server_will_close_is_not_used_again(head: bytes) -> None:
    assert answered(head).reusable is False


def test_a_connection_with_something_behind_the_answer_is_not_used_again() -> None:
    assert answered(OK + b"Content-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n").reusable is False


@pytest.mark.parametrize(
    "whole",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        OK + b"Content-Length: 5\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
def test_an_answer_that_is_cut_off_is_never_taken_for_whole(whole: bytes) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        answered(whole, close=True)


@pytest.mark.parametrize(
    "whole",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1, 1\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        OK + b"A: " + b"x" * (1 << 18),
    ],
)
def test_what_is_no_answer_is_an_error(whole: bytes) -> None:
    with pytest.raises(http.client.HTTPException):
        answered(whole, close=True)


def test_a_server_that_says_nothing_meets_the_deadline() -> None:
    with pytest.raises(TimeoutError):
        answered(seconds=0.05)
