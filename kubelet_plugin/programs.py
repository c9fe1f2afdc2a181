"""Programs of the node, run so that none of them can cost more than a bounded time and memory.

Flow: `run_bounded` starts the program, keeps what it writes up to `MAX_OUTPUT`, and kills it and everything
that it started once it is too slow or writes more.

Limits: a program that hangs in the kernel cannot be killed; it is left behind, and the caller goes on.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from driver.host import CommandResult

MAX_OUTPUT = 1 << 20
"""Most bytes that are kept of one stream; a vendor's report about 16 cards is about 64 KiB."""

_CHUNK = 1 << 16
_DEATH_S = 1.0


def run_bounded(
    argv: Sequence[str], *, name: str, timeout_s: float, environment: Mapping[str, str]
) -> CommandResult:
    """Runs a program and keeps what it wrote; undecodable bytes are replaced.

    Args:
        argv: Path of the program, and its arguments.
        name: The program's name in errors.
        timeout_s: After how many seconds it is killed.
        environment: All of its environment.

    Raises:
        TimeoutError: It was too slow.
        OSError: It cannot be started, or wrote more than `MAX_OUTPUT` (EFBIG).
    """
    with subprocess.Popen(  # noqa: S603 - callers name fixed programs; nothing of a user's is run
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        # A group of its own, so that helpers that it started end with it.
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = _collected(process, name=name, timeout_s=timeout_s)
        except BaseException:
            _kill(process)
            raise
    return CommandResult(
        returncode=process.returncode,
        stdout=stdout.decode("utf-8", errors="replace"),
        stderr=stderr.decode("utf-8", errors="replace"),
    )


def _collected(process: subprocess.Popen[bytes], *, name: str, timeout_s: float) -> tuple[bytes, bytes]:
    until = time.monotonic() + timeout_s
    too_slow = TimeoutError(f"{name} did not answer within {timeout_s:g} s")
    kept = {stream.fileno(): bytearray() for stream in (process.stdout, process.stderr) if stream is not None}
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = until - time.monotonic()
            # Also where it writes without end: the selector would always have something.
            if left <= 0:
                raise too_slow
            for key, _ in selector.select(timeout=left):
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                kept[key.fd] += chunk
                if len(kept[key.fd]) > MAX_OUTPUT:
                    raise OSError(errno.EFBIG, f"{name} wrote more than {MAX_OUTPUT} bytes")
    try:
        process.wait(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise too_slow from None
    stdout, stderr = kept.values()
    return bytes(stdout), bytes(stderr)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        process.wait(timeout=_DEATH_S)
    except subprocess.TimeoutExpired:
        # It hangs in the kernel: `with` must not wait for it, and the pipes are closed by it.
        process.returncode = -signal.SIGKILL
