"""One watch of the blocking transport: a thread that reads lines, a queue that brings them to the event loop.

Flow: `run` is the thread. It opens the connection, reads line by line, and ends with `END` or the error in
the queue. The event loop takes items from `queue` and gives `room` back for each.

Limits: at most `AHEAD` events wait in the queue; then the thread, and by TCP the server, is held back.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from driver.kube.client import ApiError, UnreachableError
from driver.kube.json_text import parse_json

AHEAD = 256
END: Final = object()
"""The last item of a watch that the server ended."""

Opened = tuple[http.client.HTTPConnection, http.client.HTTPResponse]


class WatchThread:
    """A watch: its thread reads lines, its queue brings them to the event loop."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop, idle_timeout_s: float) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.room = threading.Semaphore(AHEAD)
        self._loop = loop
        self._idle_timeout_s = idle_timeout_s
        self._closed = threading.Event()
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """Ends the watch from the event loop's side; wakes a thread that waits for bytes or for room."""
        self._closed.set()
        self.room.release()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self.queue.put_nowait(END)

    def run(self, open_connection: Callable[[], Opened]) -> None:
        """The thread: lines to the queue until the end, then `END` or the error."""
        try:
            connection, response = open_connection()
            self._socket = connection.sock
            try:
                self._read(response)
            finally:
                response.close()
                connection.close()
            self._put(END)
        except ApiError as failed:
            self._put(failed)
        except TimeoutError:
            text = f"The API server sent nothing for {self._idle_timeout_s:g} s; the watch is given up."
            self._put(UnreachableError(text, status=0))
        except (http.client.HTTPException, OSError, ValueError) as broken:
            self._put(UnreachableError(f"The watch broke off: {broken!r}.", status=0))
        except Exception as unforeseen:  # noqa: BLE001 - whoever waits on the queue would wait for ever
            self._put(UnreachableError(f"The watch failed in an unforeseen way: {unforeseen!r}.", status=0))

    def _read(self, response: http.client.HTTPResponse) -> None:
        while not self._closed.is_set():
            line = response.readline()
            if not line:
                return
            if not line.endswith(b"\n"):
                raise http.client.IncompleteRead(line[:32])
            if line.strip():
                self._put(parse_json(line))

    def _put(self, item: Any) -> None:
        self.room.acquire()
        if self._closed.is_set():
            return
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear
            self._loop.call_soon_threadsafe(self.queue.put_nowait, item)
