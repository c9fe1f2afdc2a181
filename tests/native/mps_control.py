#!/usr/bin/env -S python3 -I -S
# ruff: noqa: T201 - what a command answers is what it prints
"""A stand-in for `nvidia-cuda-mps-control` of protocol 3: command line, folder of sockets, limits.

Purpose: tests run it where a node would run NVIDIA's. It speaks the commands that NVIDIA documents for MPS v3
(`server`, `namespace`, `client`; `-f`, `-d`, `-m`, `-p`, `-a FILE`, `-q`), makes the same folders
(`PIPE/SERVER/NAMESPACE/control`), holds limits in memory only, and forgets them all when it dies. Programs
connect to a namespace's socket and are given its limits, each process a budget of its own, as with the real
one: a namespace without a limit gives the whole card.

What it does badly on purpose, by the file that `FAKE_MPS_SCRIPT` names, or `script.json` beside this file
(JSON, read at each command):

    {"cards": ["GPU-1"]}               a server for another card is accepted, and is Failed from then on
    {"die": ["namespace set"]}         dies by SIGKILL at the next such command, before it, and only once
    {"die_after": ["server create"]}   the same, after it and before it answers
    {"refuse": ["namespace set"]}      answers such a command with an error
    {"forget": ["namespace set"]}      says yes and does nothing
    {"hang": ["server list"]}          never answers
    {"start": "fail"}                  ends at once instead of starting
    {"fresh": true}                    throws all folders away at a start, as a daemon might that cleans up

Limits: no card is touched. Wire formats between command, daemon and clients are this file's own: NVIDIA's are
private. Formats of what commands print are those of NVIDIA's documents, where they show one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import socket
import struct
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

NAME = re.compile(r"[a-z0-9_]{1,64}")
LIMIT = re.compile(r"[1-9][0-9]*[GMK]")
SETTINGS = ("pinned-memory-limit", "active-thread-percentage", "client-priority")
SERVER_COLUMNS = ("name", "uid", "pid", "status", "pipe-directory", "allowed-devices", "context-ids")
NAMESPACE_COLUMNS = ("name", "server", "server-status", *SETTINGS, "pipe-directory")


class RefusedError(Exception):
    """What a command answers instead of doing anything."""


def pipe_folder() -> Path:
    return Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/run/nvidia-mps")


def script() -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, ValueError):
        return dict(json.loads(script_file().read_text()))
    return {}


def script_file() -> Path:
    return Path(os.environ.get("FAKE_MPS_SCRIPT") or Path(__file__).with_name("script.json"))


def die() -> None:
    script_file().unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)


class Daemon:
    """All that the daemon knows."""

    def __init__(self, *, multiuser: bool) -> None:
        self.multiuser = multiuser
        self.servers: dict[str, dict[str, Any]] = {}
        self.clients: dict[socket.socket, dict[str, Any]] = {}
        self.selector = selectors.DefaultSelector()
        self.listening: dict[Path, socket.socket] = {}
        self.stopping = False

    # Folders and sockets.

    def listen(self, folder: Path, *, of: tuple[str, str] | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        path = folder / "control"
        path.unlink(missing_ok=True)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Paths of sockets are short; folders of tests are not.
        here = os.open(".", os.O_RDONLY)
        os.chdir(folder)
        try:
            opened.bind("control")
        finally:
            os.fchdir(here)
            os.close(here)
        path.chmod(0o666)
        opened.listen(64)
        self.listening[path] = opened
        self.selector.register(opened, selectors.EVENT_READ, ("accept", of))

    def close(self, folder: Path) -> None:
        opened = self.listening.pop(folder / "control", None)
        if opened is not None:
            self.selector.unregister(opened)
            opened.close()
        shutil.rmtree(folder, ignore_errors=True)

    # Commands.

    def command(self, arguments: list[str], *, uid: int) -> str:
        words = [word for word in arguments if not word.startswith("--")]
        options = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith("--"))
        kind = " ".join(words[:2])
        plan = script()
        if kind in plan.get("die", ()):
            die()
        if kind in plan.get("hang", ()):
            time.sleep(3600)
        if kind in plan.get("refuse", ()):
            raise RefusedError(f"error: {kind} failed")
        handler = getattr(self, "_" + kind.replace(" ", "_").replace("-", "_"), None)
        if handler is None:
            raise RefusedError(f"error: unknown command '{kind}'")
        answer = "" if kind in plan.get("forget", ()) else handler(words[2:], options, uid)
        if kind in plan.get("die_after", ()):
            die()
        return str(answer or "")

    def _server_create(self, words: list[str], options: dict[str, str], uid: int) -> None:
        name = words[0] if words else f"uid_{options.get('uid', uid)}"
        self.add_server(name, uid=int(options.get("uid", uid)), devices=options.get("allowed-devices", ""))

    def add_server(self, name: str, *, uid: int, devices: str) -> None:
        if not NAME.fullmatch(name):
            raise RefusedError(f"error: invalid server name '{name}'")
        if name in self.servers:
            raise RefusedError(f"error: server '{name}' already exists")
        if self.multiuser and uid != 0:
            raise RefusedError("error: only uid 0 is allowed in multiuser mode")
        cards = script().get("cards")
        unknown = cards is not None and any(one not in cards for one in devices.split(",") if one)
        child = os.fork()
        if child == 0:
            os.closerange(3, 1024)
            while True:
                signal.pause()
        self.servers[name] = {
            "name": name,
            "uid": uid,
            "pid": child,
            "status": "Failed" if unknown else "Ready",
            "pipe-directory": str(pipe_folder() / name),
            "allowed-devices": devices or "all",
            "context-ids": "-",
            "namespaces": {},
        }
        self.listen(pipe_folder() / name, of=(name, "default"))
        self.add_namespace(name, "default")

    def _server(self, name: str) -> dict[str, Any]:
        if name not in self.servers:
            raise RefusedError(f"error: server '{name}' not found")
        return self.servers[name]

    def _server_delete(self, words: list[str], options: dict[str, str], _uid: int) -> None:
        server = self._server(words[0])
        self._drop_clients(words[0], None, force="force" in options)
        for name in list(server["namespaces"]):
            self.close(pipe_folder() / words[0] / name)
        self.close(pipe_folder() / words[0])
        os.kill(server["pid"], signal.SIGKILL)
        os.waitpid(server["pid"], 0)
        del self.servers[words[0]]

    def _server_list(self, words: list[str], options: dict[str, str], _uid: int) -> str:
        found = [self._server(words[0])] if words else list(self.servers.values())
        return table(SERVER_COLUMNS, found, options)

    def _server_set(self, words: list[str], options: dict[str, str], _uid: int) -> None:
        self.configure(words[0], "default", options)

    def _server_get(self, words: list[str], _options: dict[str, str], _uid: int) -> str:
        return str(self._server(words[0])[words[1]])

    def add_namespace(self, server: str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise RefusedError(f"error: invalid namespace name '{name}'")
        spaces = self._server(server)["namespaces"]
        if name in spaces:
            raise RefusedError(f"error: namespace '{name}' already exists")
        spaces[name] = {}
        self.listen(pipe_folder() / server / name, of=(server, name))

    def _namespace(self, server: str, name: str) -> dict[str, str]:
        spaces: dict[str, dict[str, str]] = self._server(server)["namespaces"]
        if name not in spaces:
            raise RefusedError(f"error: namespace '{name}' not found on server '{server}'")
        return spaces[name]

    def _namespace_create(self, words: list[str], options: dict[str, str], _uid: int) -> None:
        self.add_namespace(options.get("server", ""), words[0])

    def _namespace_set(self, words: list[str], options: dict[str, str], _uid: int) -> None:
        self.configure(options.get("server", ""), words[0], options)

    def configure(self, server: str, name: str, options: dict[str, str]) -> None:
        space = self._namespace(server, name)
        wanted = {key: value for key, value in options.items() if key in SETTINGS}
        if not wanted:
            raise RefusedError("error: at least one option is required")
        memory = wanted.get("pinned-memory-limit")
        if memory is not None and not LIMIT.fullmatch(memory):
            raise RefusedError(f"error: invalid memory limit '{memory}'")
        percent = wanted.get("active-thread-percentage")
        if percent is not None and not (percent.isdigit() and 1 <= int(percent) <= 100):
            raise RefusedError(f"error: invalid percentage '{percent}'")
        space.update(wanted)

    def _namespace_delete(self, words: list[str], options: dict[str, str], _uid: int) -> None:
        server = options.get("server", "")
        self._namespace(server, words[0])
        self._drop_clients(server, words[0], force="force" in options)
        del self._server(server)["namespaces"][words[0]]
        self.close(pipe_folder() / server / words[0])

    def _namespace_list(self, words: list[str], options: dict[str, str], _uid: int) -> str:
        rows = []
        for server in self.servers.values():
            if options.get("server") not in (None, server["name"]):
                continue
            for name, space in server["namespaces"].items():
                if words and words[0] != name:
                    continue
                rows.append(
                    {
                        "name": name,
                        "server": server["name"],
                        "server-status": server["status"],
                        "pipe-directory": f"{server['pipe-directory']}/{name}",
                        **{key: space.get(key, "-") for key in SETTINGS},
                    }
                )
        return table(NAMESPACE_COLUMNS, rows, options)

    def _namespace_get(self, words: list[str], _options: dict[str, str], _uid: int) -> str:
        name, server, field = words
        space = self._namespace(server, name)
        known = {"name": name, "server": server, "pipe-directory": str(pipe_folder() / server / name)}
        return {**known, **space}.get(field, "-")

    def _client_list(self, _words: list[str], options: dict[str, str], _uid: int) -> str:
        wanted = options.get("server")
        rows = [one for one in self.clients.values() if wanted in (None, one["server"])]
        return table(("pid", "server", "device", "namespace", "cmd"), rows, options)

    def _drop_clients(self, server: str, name: str | None, *, force: bool) -> None:
        found = [
            connection
            for connection, one in self.clients.items()
            if one["server"] == server and name in (None, one["namespace"])
        ]
        if found and not force:
            raise RefusedError("error: active clients remain")
        for connection in found:
            self.gone(connection)

    # Programs that use a card.

    def gone(self, connection: socket.socket) -> None:
        self.clients.pop(connection, None)
        self.selector.unregister(connection)
        connection.close()

    def hear(self, connection: socket.socket, of: tuple[str, str] | None) -> None:
        try:
            line = connection.recv(1 << 16)
        except OSError:
            line = b""
        if not line:
            self.gone(connection)
            return
        said = json.loads(line)
        pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if "command" in said:
            try:
                answer = {"out": self.command(said["command"], uid=uid), "code": 0}
            except RefusedError as refused:
                answer = {"out": str(refused), "code": 1}
            except (IndexError, KeyError, ValueError) as wrong:
                answer = {"out": f"error: {wrong!r}", "code": 1}
        else:
            answer = self.serve(connection, said, of=of, pid=pid)
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(answer).encode() + b"\n")

    def serve(
        self, connection: socket.socket, said: dict[str, Any], *, of: tuple[str, str] | None, pid: int
    ) -> dict[str, Any]:
        if of is None:
            return {"error": "no namespace"}
        server, name = of
        one = self.clients.setdefault(
            connection,
            {
                "pid": pid,
                "server": server,
                "device": 0,
                "namespace": name,
                "cmd": said.get("cmd", "-"),
                "used": 0,
            },
        )
        space = self._namespace(server, name)
        memory = space.get("pinned-memory-limit", "")
        limit = int(memory[:-1]) << {"G": 10, "M": 0, "K": -10}.get(memory[-1:], 0) if memory else None
        wanted = int(said.get("allocate", 0))
        refused = limit is not None and one["used"] + wanted > limit
        if not refused:
            one["used"] += wanted
        return {
            "server": server,
            "namespace": name,
            "devices": self.servers[server]["allowed-devices"],
            "memoryMiB": limit,
            "cores": int(space.get("active-thread-percentage", "100")),
            "used": one["used"],
            "refused": refused,
        }

    # Life.

    def apply(self, path: Path) -> None:
        document = tomllib.loads(path.read_text())
        if document.pop("schema_version", None) != "1.0":
            raise RefusedError("error: schema_version")
        for name, server in document.pop("servers", {}).items():
            spaces = server.pop("namespaces", {})
            devices, uid = server.pop("allowed_devices", ""), int(server.pop("uid", os.getuid()))
            self.add_server(name, uid=uid, devices=devices)
            for space, settings in {"default": server, **spaces}.items():
                if space != "default":
                    self.add_namespace(name, space)
                options = {key.replace("_", "-"): str(value) for key, value in settings.items()}
                unknown = set(options) - set(SETTINGS)
                if unknown:
                    raise RefusedError(f"error: unknown keys {sorted(unknown)}")
                if options:
                    self.configure(name, space, options)
        if document:
            raise RefusedError(f"error: unknown tables {sorted(document)}")

    def run(self) -> None:
        while not self.stopping:
            for key, _ in self.selector.select():
                what, of = key.data
                opened: socket.socket = key.fileobj  # type: ignore[assignment]
                if what == "accept":
                    connection, _ = opened.accept()
                    self.selector.register(connection, selectors.EVENT_READ, ("hear", of))
                else:
                    self.hear(opened, of)

    def _daemon_quit(self, _words: list[str], _options: dict[str, str], _uid: int) -> None:
        for name in list(self.servers):
            self._server_delete([name], {"force": ""}, 0)
        self.stopping = True


def table(columns: tuple[str, ...], rows: list[dict[str, Any]], options: dict[str, str]) -> str:
    shape = options.get("format", "table").split(",")
    lines = [] if "noheader" in shape else [[column.upper() for column in columns]]
    lines += [[str(row[column]) for column in columns] for row in rows]
    return "\n".join((",", " ")[shape[0] != "csv"].join(line) for line in lines)


def start(arguments: list[str]) -> int:
    if script().get("start") == "fail":
        print("error: failed to start", file=sys.stderr)
        return 1
    folder = pipe_folder()
    if script().get("fresh"):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(folder / "control"))
        print("An instance of this daemon is already running", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    daemon = Daemon(multiuser=bool({"-m", "--multiuser"} & set(arguments)))
    for flag in ("-a", "--apply"):
        if flag in arguments:
            try:
                daemon.apply(Path(arguments[arguments.index(flag) + 1]))
            except (RefusedError, ValueError) as wrong:
                print(wrong, file=sys.stderr)
                return 1
    # Last: whoever can connect finds everything that the file says.
    daemon.listen(folder, of=None)
    print(f"To connect CUDA applications to this daemon, set CUDA_MPS_PIPE_DIRECTORY={folder}", flush=True)
    daemon.run()
    return 0


def ask(arguments: list[str]) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(pipe_folder() / "control"))
            connection.sendall(json.dumps({"command": arguments}).encode())
            answer = json.loads(connection.makefile().readline() or "null")
        except (OSError, ValueError):
            answer = None
    if answer is None:
        print("Cannot find MPS control daemon process", file=sys.stderr)
        return 1
    if answer["out"]:
        print(answer["out"], file=sys.stderr if answer["code"] else sys.stdout)
    return int(answer["code"])


def main(arguments: list[str]) -> int:
    protocol = os.environ.get("CUDA_MPS_PROTOCOL_VERSION", "")
    for flag in ("-p", "--protocol"):
        if flag in arguments and not protocol:
            protocol = arguments[arguments.index(flag) + 1]
    if {"-v", "--version"} & set(arguments):
        print("MPS control daemon: stand-in of the tests")
        return 0
    if {"-f", "--foreground", "-d", "--daemon"} & set(arguments):
        if protocol != "3":
            print("the stand-in speaks protocol 3 only", file=sys.stderr)
            return 1
        if {"-d", "--daemon"} & set(arguments) and os.fork():
            return 0
        return start(arguments)
    if {"-q", "--quit"} & set(arguments):
        return ask(["daemon", "quit"])
    return ask(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
