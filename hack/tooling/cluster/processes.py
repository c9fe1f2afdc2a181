"""Starts and ends the cluster's programs, and never ends anybody else's.

Flow: a `Service` is written to ``NAME.json`` before it starts, so that another process (a test, ``down``) can
start it again in the same way; ``NAME.pid`` holds the pid together with the time at which that process
started. A pid that was given to another process since then does not match and is left alone.
Limits: Linux; needs root to enter the network namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tooling.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PROC = Path("/proc")
# Enter the control group, then become the program: from here on the shell's pid is the program's pid.
_ENTER = 'echo $$ > "$0" && exec "$@"'


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One process for as long as it lives: a pid alone is used again after it."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of a live process; none for a dead one or one that only waits to be reaped."""
        try:
            text = (_PROC / str(pid) / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = text.rpartition(")")[2].split()
        if fields[0] in ("Z", "X"):
            return None
        return cls(pid=pid, started=int(fields[19]), boot=_boot())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Identity.of(self.pid) == self


@dataclass(frozen=True, kw_only=True)
class Service:
    """How one component is started."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    namespace: str
    cgroup_procs: str
    log: str


class Services:
    """The components of one cluster, by name, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """All components that were ever defined for the cluster."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def pid_file(self, name: str) -> Path:
        """Where the pid of a component is kept: JSON with `pid`, on one line."""
        return self._folder / f"{name}.pid"

    def define(self, service: Service) -> None:
        """Keeps how `service` is started."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._folder / f"{service.name}.json", json.dumps(asdict(service), indent=1))

    def definition(self, name: str) -> Service:
        """How the component `name` is started."""
        path = self._folder / f"{name}.json"
        try:
            return Service(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise ClusterError(
                f"the cluster has no component {name!r}",
                remedy=f"It has {', '.join(self.names()) or 'none'}.",
            ) from error

    def identity(self, name: str) -> Identity | None:
        """The running process of a component, if it runs."""
        path = self.pid_file(name)
        try:
            found = Identity(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return found if found.alive else None

    def start(self, name: str) -> int:
        """Starts a defined component unless it runs; returns its pid."""
        running = self.identity(name)
        if running is not None:
            return running.pid
        service = self.definition(name)
        enter = ["/bin/sh", "-c", _ENTER, service.cgroup_procs]
        command = [*enter, "nsenter", f"--net=/run/netns/{service.namespace}", "--", *service.command]
        log = Path(service.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            command[0],
            command,
            dict(service.environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        identity = Identity.of(pid)
        if identity is None:
            raise ClusterError(f"{name} ended at once", remedy=f"Its log is {log}.")
        _write(self.pid_file(name), json.dumps(asdict(identity)))
        return pid

    def stop(self, name: str, *, patience: float = 10.0, first: signal.Signals = signal.SIGTERM) -> None:
        """Ends a component: asks, waits for `patience` seconds, then kills; returns once it is gone."""
        identity = self.identity(name)
        if identity is not None:
            end(identity, patience=patience, first=first)
        self.pid_file(name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """A component that was ended is none of the cluster's any more."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def log_tail(self, name: str, *, lines: int = 8) -> str:
        """The end of a component's log, for an error's text."""
        try:
            text = Path(self.definition(name).log).read_text(errors="replace")
        except (FileNotFoundError, ClusterError):
            return ""
        return "\n".join(f"  {line[:400]}" for line in text.splitlines()[-lines:])


def end(identity: Identity, *, patience: float, first: signal.Signals = signal.SIGTERM) -> None:
    """Ends one process and waits until it is gone."""
    for number, seconds in ((first, patience), (signal.SIGKILL, 60.0)):
        if not identity.alive:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, number)
        if wait_until(lambda: not identity.alive, seconds=seconds, every=0.02):
            break
    with contextlib.suppress(ChildProcessError):
        os.waitpid(identity.pid, os.WNOHANG)
    if identity.alive:
        raise ClusterError(
            f"process {identity.pid} does not end, not even by SIGKILL",
            remedy=f"It waits inside the kernel: see /proc/{identity.pid}/stack, or start the machine again.",
        )


def wait_until(condition: Callable[[], bool], *, seconds: float, every: float = 0.1) -> bool:
    """Whether `condition` became true within `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(every)
    return True


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
