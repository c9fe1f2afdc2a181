"""Makes the daemon do what the files say, as far as it can, and says what holds.

Flow of `sync`: files -> no share: the daemon goes after a while -> else it is started if it does not run,
with a file of all that is wanted, so that after a crash no namespace is there without its limits -> the
daemon's own lists are compared with what is wanted -> what is missing or wrong is set, what nobody wants is
removed -> the lists are read again, and only what they say counts.

Containers get the daemon's sockets through folders of ours (`joins`), which outlive the daemon.

A file that vanished by somebody's hand is written again by its agent within seconds, and must have cost
nobody anything by then: for `KEPT_S` a share's folder stays, and its namespace if programs are in it. Of a
share that was given back nobody uses either.

Limits: blocks, for a few commands of `control`. Nobody else may set limits in this daemon. What fails on the
way (a full disk, an answer that makes no sense) is told and tried again; it never ends the daemon, for every
program under it would end as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from driver.isolation.service import MpsClient, MpsState
from driver.isolation.service_shares import MpsShare
from kubelet_plugin.mps.backoff import Restarts
from kubelet_plugin.mps.control import Control, MpsCommandError, Namespace, Server, config_text
from kubelet_plugin.mps.daemon import Daemon, DaemonProcess
from kubelet_plugin.mps.files import ShareFiles, Wanted
from kubelet_plugin.mps.joins import Joins

log = structlog.get_logger(__name__)

START_S = 10.0
IDLE_S = 30.0
"""For so long the daemon stays without a share: the next one need not wait for its start."""

MISSED_ANSWERS = 3
"""A daemon that did not answer so often in a row is ended and started again."""

KEPT_S = 30.0
"""For so long nothing is taken from programs of a share that nobody wants any more. An agent looks every few
seconds, and writes a file again that is missing twice."""

MAX_LOG_BYTES = 8 << 20
_POLL_S = 0.02
_WORKING = frozenset({"ready", "active", "initializing"})
_DEFAULT = "default"
_SILENT = "without a word"


@dataclass(frozen=True, kw_only=True)
class _Listed:
    servers: Mapping[str, Server]
    spaces: Mapping[tuple[str, str], Namespace]


class Reconciler:
    """What is wanted against what is there.

    Args:
        folder: The supervisor's folder.
        control: The daemon's commands.
        daemon: The daemon; by default a child process of this one.
        clock: Monotonic seconds.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        control: Control,
        daemon: Daemon | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder
        self._files = ShareFiles(folder)
        self._control = control
        self._clock = clock
        self._sleep = sleep
        self.daemon: Daemon = daemon or DaemonProcess(folder / "daemon.json")
        self.restarts = Restarts()
        self._last_words = ""
        self._needed_at = clock()
        self._missed = 0
        self._was_running = False
        self._wants = False
        self._wanted_at: dict[str, float] = {}
        self._joins = Joins(folder)

    @property
    def next_s(self) -> float:
        """After how many seconds the next `sync` is due, if nothing happens before."""
        if self.daemon.running:
            return 5.0
        left = self.restarts.due - self._clock()
        return max(0.05, left) if self._wants and left > 0 else 60.0

    def start(self) -> None:
        """Makes folders and ends what a former supervisor left behind."""
        self._files.start()
        # Containers come by links (`joins`). Nobody else on the node is to reach the daemon's own socket,
        # where no limit is set.
        self._control.pipe_dir.mkdir(mode=0o700, exist_ok=True)
        self._control.pipe_dir.chmod(0o700)
        self._log_dir.mkdir(mode=0o700, exist_ok=True)
        self.daemon.clean()
        self._joins.start()
        self._wanted_at = dict.fromkeys(self._joins.names(), self._clock())

    def stop(self) -> None:
        """Ends the daemon."""
        if self.daemon.running:
            with suppress(MpsCommandError, OSError):
                self._control.quit()
        self.daemon.clean()
        self._was_running = False

    def sync(self) -> MpsState:
        """Does what can be done now."""
        try:
            wanted = self._files.read()
            self._wants = bool(wanted.shares)
            return self._sync(wanted)
        except MpsCommandError as failed:
            problem = failed.message
        except (OSError, ValueError) as failed:
            # It is this node's or this process' trouble, and no miss of the daemon's.
            problem = f"The supervisor of MPS cannot do its work: {failed}."
        return MpsState(problem=problem, restarts=self.restarts.total)

    def _sync(self, wanted: Wanted) -> MpsState:
        now = self._clock()
        self._notice_end(now)
        names = wanted.shares.keys() | wanted.unreadable
        self._wanted_at = {name: at for name, at in self._wanted_at.items() if now - at < KEPT_S}
        self._wanted_at |= dict.fromkeys(names, now)
        if wanted.shares or wanted.unreadable:
            self._needed_at = now
        elif not self.daemon.running or now - self._needed_at >= IDLE_S:
            self._joins.forget(frozenset(self._wanted_at))
            self.stop()
            return MpsState(restarts=self.restarts.total)
        # Before a start, which may need the room.
        self._truncate_logs()
        if not self.daemon.running:
            self._start(wanted, now=now)
        try:
            listed = self._listed()
            if self._repair(wanted, listed):
                listed = self._listed()
            state = self._state(wanted, listed)
        except MpsCommandError:
            self._miss()
            raise
        self._missed = 0
        return state

    # The daemon.

    def _notice_end(self, now: float) -> None:
        if not self._was_running or self.daemon.running:
            return
        self._was_running = False
        self._last_words = _last_line(self._output)
        # Its servers may outlive it, and hold the cards.
        self.daemon.clean()
        self.restarts.ended(now=now)
        log.error("the MPS daemon ended", times=self.restarts.ends, last_words=self._last_words)

    def _start(self, wanted: Wanted, *, now: float) -> None:
        if now < self.restarts.due:
            raise MpsCommandError(
                f"The MPS daemon ended {self.restarts.ends} times ({self._last_words}) "
                # Not how long it still takes: whoever is told of changes would be told each second.
                f"and is started again {self.restarts.pause:.0f} s after its end."
            )
        config = self._folder / "config.toml"
        config.write_text(config_text(wanted.shares.values()))
        self.restarts.started(now=now)
        try:
            self.daemon.start(
                self._control.daemon_command(config),
                environment=self._control.environment,
                log_file=self._output,
            )
        except OSError as failed:
            self._last_words = str(failed)
            self.restarts.ended(now=now)
            raise MpsCommandError(f"The MPS daemon cannot be started: {failed}.") from None
        self._was_running = True
        log.info("MPS daemon started", pid=self.daemon.pid, shares=len(wanted.shares))
        until = now + START_S
        while not self._control.answers():
            if not self.daemon.running:
                self._notice_end(self._clock())
                raise MpsCommandError(f"The MPS daemon ended at its start: {self._last_words}.")
            if self._clock() >= until:
                self._end()
                raise MpsCommandError(f"The MPS daemon did not answer within {START_S:g} s of its start.")
            self._sleep(_POLL_S)
        # Not only after all lists were read: until then a program that starts would have the whole card.
        for share in wanted.shares.values():
            self._joins.refresh(share.name, source=self._control.pipe_dir / share.server / share.name)

    def _miss(self) -> None:
        self._missed += 1
        if self._missed >= MISSED_ANSWERS and self.daemon.running:
            log.error("the MPS daemon does not answer and is ended", times=self._missed)
            self._end()

    def _end(self) -> None:
        self._missed = 0
        self.daemon.clean()
        self._notice_end(self._clock())

    # What it holds.

    def _listed(self) -> _Listed:
        return _Listed(
            servers={one.name: one for one in self._control.servers()},
            spaces={(one.server, one.name): one for one in self._control.namespaces()},
        )

    def _repair(self, wanted: Wanted, listed: _Listed) -> bool:
        """Sets what is missing or wrong, removes what nobody wants; whether anything was."""
        before = self._control.changes
        servers, spaces = listed.servers, listed.spaces
        cards = {share.server: share.card for share in wanted.shares.values()}
        for name, card in cards.items():
            found = servers.get(name)
            if found is not None and found.devices != card:
                log.warning("a server of MPS has other cards than its own", server=name, cards=found.devices)
                self._control.delete_server(name)
                spaces = {key: one for key, one in spaces.items() if key[0] != name}
                found = None
            if found is None:
                self._control.create_server(name, card=card)
        for share in wanted.shares.values():
            self._hold(share, spaces.get((share.server, share.name)))
        if wanted.unreadable:
            # Whose file cannot be read may be running: nothing is taken from anybody until it can.
            return self._control.changes != before
        spare = [
            (server, name)
            for server, name in spaces
            if name != _DEFAULT and (name not in wanted.shares or wanted.shares[name].server != server)
        ]
        kept = self._kept(spare, wanted)
        for server, name in spare:
            if server in cards and (server, name) not in kept:
                self._control.delete_namespace(name, server=server)
        for name in servers.keys() - cards.keys() - {server for server, _ in kept}:
            self._control.delete_server(name)
        return self._control.changes != before

    def _kept(self, spare: list[tuple[str, str]], wanted: Wanted) -> set[tuple[str, str]]:
        """The namespaces that nobody wants, but did a moment ago, and in which programs are."""
        young = [one for one in spare if one[1] in self._wanted_at and one[1] not in wanted.shares]
        if not young:
            return set()
        return {(one.server, one.namespace) for one in self._control.clients()} & set(young)

    def _hold(self, share: MpsShare, found: Namespace | None) -> None:
        try:
            if found is None:
                self._control.create_namespace(share)
            elif share.held_by(memory=found.memory, cores=found.cores):
                return
            else:
                log.warning("a share's limits in MPS were wrong", share=share.name, memory=found.memory)
                if share.has_more(memory=found.memory, cores=found.cores) and not self._is_used(share):
                    # No command takes a limit away. Containers have links to sockets, which follow later.
                    self._control.delete_namespace(share.name, server=share.server)
                    self._control.create_namespace(share)
            self._control.set_limits(share)
        except (MpsCommandError, OSError) as refused:
            # It counts as not held, by the lists that are read next; the others are not to wait for it.
            log.warning("a share cannot be held by MPS", share=share.name, error=str(refused))

    def _is_used(self, share: MpsShare) -> bool:
        clients = self._control.clients()
        return any((one.server, one.namespace) == (share.server, share.name) for one in clients)

    def _state(self, wanted: Wanted, listed: _Listed) -> MpsState:
        clients = self._control.clients()
        self._joins.forget(frozenset(self._wanted_at))
        folders: dict[str, str] = {}
        unheld = dict.fromkeys(wanted.unreadable, "What its agent wrote about this share cannot be read.")
        for share in wanted.shares.values():
            why_not = self._why_not(share, listed, clients=clients)
            if why_not:
                unheld[share.name] = why_not
            else:
                folders[share.name] = str(self._joins.path(share.name))
        return MpsState(
            unheld=unheld, folders=folders, clients=clients, restarts=self.restarts.total, problem=""
        )

    def _why_not(self, share: MpsShare, listed: _Listed, *, clients: tuple[MpsClient, ...]) -> str:
        server = listed.servers.get(share.server)
        space = listed.spaces.get((share.server, share.name))
        if server is None or space is None:
            return "The MPS daemon did not make the share's namespace."
        if server.devices != share.card:
            return f"Its MPS server has the cards {server.devices}, not {share.card} alone."
        if server.status.lower() not in _WORKING:
            return f"Its MPS server is {server.status}: can the daemon see card {share.card}?"
        if not share.held_by(memory=space.memory, cores=space.cores):
            return f"The MPS daemon says that its limits are {space.memory} of memory, {space.cores} percent."
        connected = any((one.server, one.namespace) == (share.server, share.name) for one in clients)
        return self._joins.join(share.name, source=Path(space.folder), connected=connected)

    # Files.

    @property
    def _log_dir(self) -> Path:
        return self._folder / "log"

    @property
    def _output(self) -> Path:
        return self._log_dir / "output.log"

    def _truncate_logs(self) -> None:
        """The daemon logs each command for ever, into memory."""
        # `os.walk` passes over folders that the daemon takes away meanwhile, which `rglob` does not.
        for folder, _, names in os.walk(self._log_dir):
            for path in (Path(folder, name) for name in names if name.endswith(".log")):
                with suppress(OSError):
                    if path.stat().st_size > MAX_LOG_BYTES:
                        with path.open("r+b") as file:
                            file.truncate()


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return _SILENT
    return lines[-1][:200] if lines else _SILENT
