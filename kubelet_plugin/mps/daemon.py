"""The control daemon as a child process: started, watched, and gone with all that it started.

Flow: `start` -> the supervisor's loop waits on `descriptor` -> `clean` -> `start` again. Which process it is
stands in a file, by number and start time, so that a supervisor that takes the place of one that was killed
ends what that one left behind before it starts another daemon on the same sockets.

That file is written by the new process itself before it becomes the daemon, and until then it dies with the
supervisor: whenever that is killed, there is no daemon yet, or the file that leads to it.

Limits: the daemon's servers are in its process group; one that left the group would not be found. `start` is
for processes of one thread, and its daemon dies with that thread until it is noted.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from kubelet_plugin.process_times import started_in

log = structlog.get_logger(__name__)

_DEATH_S = 5.0
_POLL_S = 0.01


class Daemon(Protocol):
    """A daemon that can be started and ended."""

    @property
    def running(self) -> bool:
        """Whether there is a daemon that has not ended."""

    @property
    def descriptor(self) -> int:
        """A file descriptor that becomes readable when the daemon ends; -1 without one."""

    @property
    def pid(self) -> int:
        """Number of the daemon; 0 without one."""

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], log_file: Path) -> None:
        """Starts a daemon; OSError if its program cannot be started."""

    def clean(self) -> None:
        """Ends the daemon and everything that it started."""


class DaemonProcess:
    """At most one daemon at a time.

    Args:
        record: File that says which process it is.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._process: subprocess.Popen[bytes] | None = None
        self._descriptor = -1

    @property
    def running(self) -> bool:
        """Whether there is a daemon that has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def descriptor(self) -> int:
        """A file descriptor that becomes readable when the daemon ends; -1 without one."""
        return self._descriptor

    @property
    def pid(self) -> int:
        """Number of the daemon; 0 without one."""
        return self._process.pid if self._process is not None else 0

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], log_file: Path) -> None:
        """Starts a daemon.

        Raises:
            OSError: The program cannot be started.
        """
        self.clean()
        supervisor = os.getpid()
        with log_file.open("ab") as output:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the command is the administrator's
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    # A group of its own, by which its servers end with it.
                    start_new_session=True,
                    preexec_fn=lambda: self._note_myself(supervisor),  # noqa: PLW1509 - there is one thread
                )
            except subprocess.SubprocessError as failed:
                raise OSError(f"{self._record} cannot be written: {failed}") from None
        self._descriptor = os.pidfd_open(self._process.pid)

    def _note_myself(self, supervisor: int) -> None:
        """In the new process: notes which it is, or dies with the supervisor."""
        _die_with_parent(signal.SIGKILL)
        if os.getppid() != supervisor:
            # It died before this process asked to die with it.
            os._exit(1)
        pid = os.getpid()
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": pid, "started": _start_time(pid)}))
        fresh.replace(self._record)
        # From here on a successor finds it; programs need not end because a supervisor does.
        _die_with_parent(0)

    def clean(self) -> None:
        """Ends the daemon and everything in its group, also one of a supervisor before this one."""
        process, self._process = self._process, None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if process is not None:
            _kill_group(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_DEATH_S)
        else:
            self._clean_former()
        self._record.unlink(missing_ok=True)

    def _clean_former(self) -> None:
        try:
            noted = json.loads(self._record.read_text())
            pid, started = int(noted["pid"]), str(noted["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if not started or not _is_of(pid, started=started):
            return
        log.warning("an MPS daemon of a former supervisor is ended", pid=pid)
        _kill_group(pid)
        until = time.monotonic() + _DEATH_S
        while _start_time(pid) == started and time.monotonic() < until:
            time.sleep(_POLL_S)


_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _die_with_parent(number: int) -> None:
    if _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _is_of(pid: int, *, started: str) -> bool:
    """Whether the group is still the one that was noted: its leader, or, if that is dead, nobody new."""
    now = _start_time(pid)
    # While a group has members, the kernel gives its number to nobody else.
    return now == started or (not now and _has_group(pid))


def _has_group(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _start_time(pid: int) -> str:
    """When the process started, in the kernel's ticks; "" if there is none or it is dead."""
    try:
        return started_in(Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return ""
