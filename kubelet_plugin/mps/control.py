"""NVIDIA's control daemon of MPS by its command line, protocol 3.

Purpose: the few commands that the supervisor needs, what they print as values, and the file that a daemon
starts with.

Source: NVIDIA's documents of release 615 ("MPS v3 Interface", "MPS v3 Configuration File"). `namespace list`
prints name, server, server-status, pinned-memory-limit, active-thread-percentage, client-priority and
pipe-directory; `server list` name, uid, pid, status, pipe-directory, allowed-devices, context-ids; `client
list` was shown as pid, server, device, namespace, command.

Limits: blocks, each command for `COMMAND_S` at most. Only a user with the daemon's own number may use it.
"""

from __future__ import annotations

import csv
import errno
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from driver.errors import IsolationError
from driver.isolation.service import MpsClient
from driver.isolation.service_shares import MpsShare
from kubelet_plugin.programs import run_bounded

COMMAND_S = 5.0
_CSV = "--format=csv,noheader"
_NAMESPACE_FIELDS = 7
_SERVER_FIELDS = 6
_CLIENT_FIELDS = 4
_PID = re.compile("[0-9]{1,10}")
_CARD = re.compile("(GPU|MIG)-")


class MpsCommandError(IsolationError):
    """The control daemon refused a command, or did not answer.

    Something is wrong with the daemon then. Where the command itself cannot be started, or was ended by a
    signal, it is an OSError: that says nothing of the daemon.
    """

    reason: ClassVar[str] = "MpsCommand"
    retriable: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server as the daemon lists it."""

    name: str
    status: str
    devices: str


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """A namespace as the daemon lists it; limits as they are printed."""

    name: str
    server: str
    memory: str
    cores: str
    folder: str


class Control:
    """The commands.

    Args:
        program: Path of `nvidia-cuda-mps-control`.
        pipe_dir: The daemon's folder of sockets.
        log_dir: The daemon's folder of logs.
    """

    def __init__(self, program: str, *, pipe_dir: Path, log_dir: Path) -> None:
        self._program = program
        self.pipe_dir = pipe_dir
        self._log_dir = log_dir
        self.changes = 0
        """How many commands that change something were tried."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What the daemon and its commands are run with; nothing that would limit or hide cards."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
        return {
            **kept,
            "CUDA_MPS_PROTOCOL_VERSION": "3",
            "CUDA_MPS_PIPE_DIRECTORY": str(self.pipe_dir),
            "CUDA_MPS_LOG_DIRECTORY": str(self._log_dir),
        }

    def daemon_command(self, config: Path) -> list[str]:
        """The daemon itself, in the foreground; for users of any number, as containers have them."""
        return [self._program, "-f", "-m", "-p", "3", "-a", str(config)]

    def answers(self) -> bool:
        """Whether a daemon answers."""
        try:
            self.servers()
        except (MpsCommandError, OSError):
            return False
        return True

    def servers(self) -> tuple[Server, ...]:
        """All servers."""
        rows = self._rows("server", "list", fields=_SERVER_FIELDS)
        return tuple(Server(name=row[0], status=row[3], devices=_devices(row)) for row in rows)

    def namespaces(self) -> tuple[Namespace, ...]:
        """All namespaces of all servers."""
        rows = self._rows("namespace", "list", fields=_NAMESPACE_FIELDS)
        return tuple(
            Namespace(name=row[0], server=row[1], memory=row[3], cores=row[4], folder=row[6]) for row in rows
        )

    def clients(self) -> tuple[MpsClient, ...]:
        """All processes that are connected.

        A row ends in the process' name, which whoever runs it chooses. So quotes mean nothing, what is no row
        is passed over, and no name makes this raise: the daemon would be taken for one that does not answer,
        and be ended with all programs under it. A name with a line end in it can still make up a row, if the
        daemon prints it as it is.

        Raises:
            MpsCommandError: The daemon cannot be asked.
        """
        found = []
        for line in self._run("client", "list", "--all", _CSV).split("\n"):
            row = [cell.strip() for cell in line.split(",", _CLIENT_FIELDS)[:_CLIENT_FIELDS]]
            if len(row) == _CLIENT_FIELDS and _PID.fullmatch(row[0]):
                found.append(MpsClient(pid=int(row[0]), server=row[1], namespace=row[3]))
        return tuple(found)

    def create_server(self, name: str, *, card: str) -> None:
        """A server for one card."""
        self._change("server", "create", name, "--uid=0", f"--allowed-devices={card}")

    def delete_server(self, name: str) -> None:
        """Removes a server with all that is in it."""
        self._change("server", "delete", name, "--force")

    def create_namespace(self, share: MpsShare) -> None:
        """A namespace; it has no limit before `set_limits`."""
        self._change("namespace", "create", share.name, f"--server={share.server}")

    def set_limits(self, share: MpsShare) -> None:
        """Sets what limits a namespace."""
        limits = [f"--pinned-memory-limit={share.memory_limit}"] if share.memory_mib else []
        limits += [f"--active-thread-percentage={share.cores_percent}"] if share.cores_percent else []
        self._change("namespace", "set", share.name, f"--server={share.server}", *limits)

    def delete_namespace(self, name: str, *, server: str) -> None:
        """Removes a namespace, and ends who is still in it."""
        self._change("namespace", "delete", name, f"--server={server}", "--force")

    def quit(self) -> None:
        """Ends the daemon and its servers."""
        self._run("-q")

    def _rows(self, *arguments: str, fields: int) -> list[list[str]]:
        printed = self._run(*arguments, _CSV)
        rows = [[cell.strip() for cell in row] for row in csv.reader(printed.split("\n")) if row]
        short = next((row for row in rows if len(row) < fields), None)
        if short is not None:
            raise MpsCommandError(
                f"The MPS daemon printed {','.join(short)!r} for {' '.join(arguments)}, which has fewer "
                "fields than its documents say."
            )
        return rows

    def _change(self, *arguments: str) -> None:
        self.changes += 1
        self._run(*arguments)

    def _run(self, *arguments: str) -> str:
        what = " ".join(arguments[:2])
        try:
            done = run_bounded(
                [self._program, *arguments], name=what, timeout_s=COMMAND_S, environment=self.environment
            )
        except TimeoutError as failed:
            raise MpsCommandError(f"The MPS daemon cannot be asked ({what}): {failed}.") from None
        except OSError as failed:
            if failed.errno == errno.EFBIG:
                raise MpsCommandError(f"The MPS daemon cannot be asked ({what}): {failed}.") from None
            raise
        if done.returncode < 0:
            # For want of memory, say. A daemon that is ended for it takes all programs under it along.
            raise ChildProcessError(f"the command {what} was ended by signal {-done.returncode}")
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise MpsCommandError(f"The MPS daemon refused {what}: {said[-1] if said else done.returncode}.")
        return done.stdout


def _devices(row: list[str]) -> str:
    """The cards of a server, also where a list of several is printed without quotes.

    One that the daemon cannot see would make it drop all limits, so none may be overlooked. What follows them
    are numbers of contexts.
    """
    first, *others = row[_SERVER_FIELDS - 1 :]
    return ",".join((first, *(cell for cell in others if _CARD.match(cell))))


def config_text(shares: Iterable[MpsShare]) -> str:
    """The file that a daemon starts with, so that no namespace is there for a moment without its limits."""
    by_server: dict[str, list[MpsShare]] = {}
    for share in sorted(shares):
        by_server.setdefault(share.server, []).append(share)
    lines = ['schema_version = "1.0"']
    for server, members in sorted(by_server.items()):
        lines += ["", f"[servers.{server}]", f'allowed_devices = "{members[0].card}"', "uid = 0"]
        for share in members:
            lines += ["", f"[servers.{server}.namespaces.{share.name}]"]
            if share.memory_mib:
                lines.append(f'pinned_memory_limit = "{share.memory_limit}"')
            if share.cores_percent:
                lines.append(f'active_thread_percentage = "{share.cores_percent}"')
    return "\n".join(lines) + "\n"
