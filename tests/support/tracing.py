"""strace, attached to threads of a running process: what they call, and SIGKILL at the N-th call.

strace counts the calls of an injection for each thread and each system call by itself. So a point at which to
kill is (group of threads, system call, N): within a group one thread works at a time, and no other thread can
reach the N-th call first.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

CLASSES = "%file,%desc,%network"
WAITING = frozenset({"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"})
"""Calls that touch no file and no socket's content, and whose number is up to chance."""

_CALL = re.compile(r"^(?:\d+ +)?(?:\d+\.\d+ )?([a-z0-9_]+)\(")


def need_strace() -> None:
    """Skips where there is no strace, and fails under CI, which must not run less than it seems to."""
    if shutil.which("strace"):
        return
    sentence = (
        "strace is not installed (Debian: apt-get install strace), so no agent is killed at system calls."
    )
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@dataclass(frozen=True)
class Calls:
    """What threads called: lines of strace by thread."""

    lines: dict[int, list[str]]

    def touching(self, *texts: str) -> frozenset[int]:
        """Threads with a call in which one of the texts occurs."""
        return frozenset(
            thread
            for thread, lines in self.lines.items()
            if any(text in line for line in lines for text in texts)
        )

    def counts(self, threads: Collection[int]) -> collections.Counter[str]:
        """The most calls of each kind that one of the threads made."""
        found: collections.Counter[str] = collections.Counter()
        for thread in threads:
            names = (name_of(line) for line in self.lines.get(thread, []))
            found |= collections.Counter(name for name in names if name and name not in WAITING)
        return found


def name_of(line: str) -> str:
    """The system call of a line; "" for signals and exits."""
    match = _CALL.match(line)
    return match[1] if match else ""


def threads_of(pid: int) -> list[int]:
    """All threads of a process."""
    return sorted(int(path.name) for path in Path(f"/proc/{pid}/task").iterdir())


@contextlib.contextmanager
def traced(
    threads: Collection[int], *, options: tuple[str, ...] = (), follow: bool = True
) -> Iterator[Calls]:
    """Traces threads while the body runs; the calls are there afterwards.

    Args:
        threads: The threads.
        options: Further options of strace.
        follow: Whether threads and programs that are started meanwhile are traced as well, and so are all
            threads of the process.
    """
    calls = Calls({})
    with tempfile.TemporaryDirectory(prefix="strace-") as folder:
        output = Path(folder) / "calls"
        apart = "-ff" if follow else "--output-separately"
        command = ["strace", apart, "-y", "-s", "300", "-e", f"trace={CLASSES}", "-o", str(output), *options]
        command += [part for thread in threads for part in ("-p", str(thread))]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _wait_until_attached(process, threads)
            yield calls
        finally:
            _end(process)
            for path in Path(folder).iterdir():
                thread = int(path.suffix.removeprefix("."))
                calls.lines[thread] = path.read_text(errors="replace").splitlines()


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=3)
    except subprocess.TimeoutExpired:
        # strace may wait for ever for a thread that dies while it is let go. Without a tracer, it just dies.
        process.kill()
        process.communicate()


def kill_at(call: str, number: int) -> tuple[str, ...]:
    """Options that kill the process at a thread's N-th call of a kind."""
    return ("-e", f"inject={call}:signal=KILL:when={number}")


def _wait_until_attached(process: subprocess.Popen[str], threads: Collection[int]) -> None:
    deadline = time.monotonic() + 60
    while not all(_is_traced(thread) for thread in threads):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"strace did not attach to {sorted(threads)}: {process.communicate()[1]}")
        time.sleep(0.002)


def _is_traced(thread: int) -> bool:
    try:
        status = Path(f"/proc/{thread}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        # Gone meanwhile: nothing of it can be missed.
        return True
    return "\nTracerPid:\t0\n" not in status
