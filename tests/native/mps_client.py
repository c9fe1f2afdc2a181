#!/usr/bin/env -S python3 -I -S
# ruff: noqa: T201 - what it was given is what it prints
"""A stand-in for a CUDA program under MPS: connects as its variable says, and tells what it was given.

Prints one line of JSON: what the daemon gave it, or `{"mps": false}` where nothing answers, as a CUDA program
then runs without MPS and without a word. Then takes what it is told to on standard input, one number of MiB
a line, and answers each; `hold` as an argument makes it wait for SIGTERM instead.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def main() -> None:
    folder = os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps"
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
    if "hold" in sys.argv:
        signal.sigwait({signal.SIGTERM})
        return
    for line in sys.stdin:
        print(json.dumps(ask(int(line))), flush=True)


if __name__ == "__main__":
    main()
