#!/usr/bin/env -S python3 -I -S
# ruff: noqa: T201 - what it was given is what it prints
"""A stand-in for a CUDA program under MPS: connects as its variable says, and tells what it was given.

Prints one line of JSON: what the daemon gave it, or `{"mps": false}` where nothing answers, as a CUDA program
then runs without MPS and without a word. Then takes what it is told to on standard input, one number of MiB
a line, and answers each. With the argument `again` it stays, connects again whenever it lost the daemon, as a
series of programs would, and prints what each of them is given.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path


def seen(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def stay(folder: str) -> None:
    last = ""
    while True:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(f"{folder}/control")
                connection.sendall(json.dumps({"cmd": "client", "allocate": 0}).encode())
                stream = connection.makefile()
                answer = {"mps": True, **json.loads(stream.readline()), "folder": seen(folder)}
            except (OSError, ValueError):
                stream, answer = None, {"mps": False}
            line = json.dumps(answer)
            if line != last:
                print(line, flush=True)
            last = line
            if stream is not None:
                stream.read(1)
        time.sleep(0.2)


def main() -> None:
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps"
    if "again" in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        stay(folder)
    connection = socket.socket(socket.AF_UNIX)

    def ask(amount: int) -> dict[str, object]:
        connection.sendall(json.dumps({"cmd": "client", "allocate": amount}).encode())
        return {"mps": True, **json.loads(connection.makefile().readline())}

    try:
        connection.connect(f"{folder}/control")
        answer = ask(0)
    except OSError as away:
        answer = {"mps": False, "why": str(away)}
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        print(json.dumps(ask(int(line))), flush=True)


if __name__ == "__main__":
    main()
