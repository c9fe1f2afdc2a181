"""What supervisor and agents say to each other: one question, one line of JSON as the answer.

The socket is the supervisor's, only its own user may connect. A question is the word `sync`: do what the
files say, as far as it is possible now, and tell what holds.

Limits: an answer has at most `MAX_BYTES`; the many clients of a broken program must not cost more.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driver.isolation.service import MpsClient, MpsState

QUESTION = b"sync\n"
MAX_BYTES = 4 << 20
MAX_CLIENTS = 10_000


def encode(state: MpsState) -> bytes:
    """A state as one line."""
    document = {
        "problem": state.problem,
        "unheld": dict(state.unheld),
        "folders": dict(state.folders),
        "clients": [[one.pid, one.server, one.namespace] for one in state.clients[:MAX_CLIENTS]],
        "restarts": state.restarts,
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> MpsState:
    """The state of a line.

    Raises:
        ValueError: It is none.
    """
    try:
        document: dict[str, Any] = json.loads(line)
        return MpsState(
            problem=str(document["problem"]),
            unheld={str(key): str(value) for key, value in document["unheld"].items()},
            folders={str(key): str(value) for key, value in document["folders"].items()},
            clients=tuple(
                MpsClient(pid=int(pid), server=str(server), namespace=str(namespace))
                for pid, server, namespace in document["clients"]
            ),
            restarts=int(document["restarts"]),
        )
    except (KeyError, TypeError, AttributeError) as wrong:
        raise ValueError(f"not a state: {wrong!r}") from None


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A path for `bind` and `connect` that fits into the 107 bytes they take, wherever the folder lies."""
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)


def poke(path: Path, *, timeout_s: float) -> None:
    """Has the supervisor look now, and does not wait for what it finds; OSError if it is not there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        with short_path(path) as short:
            connection.connect(short)
        connection.sendall(QUESTION)


def ask(path: Path, *, timeout_s: float) -> MpsState:
    """Asks the supervisor.

    Raises:
        OSError: It is not there, or does not answer in time.
        ValueError: What it says is no state.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        with short_path(path) as short:
            connection.connect(short)
        connection.sendall(QUESTION)
        answer = bytearray()
        while not answer.endswith(b"\n"):
            chunk = connection.recv(1 << 16)
            if not chunk or len(answer) > MAX_BYTES:
                raise ValueError("the answer has no end")
            answer += chunk
    return decode(bytes(answer))
