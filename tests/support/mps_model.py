"""The MPS daemon in memory: the same commands as the stand-in of `tests/native`, without a process.

`MpsModel` is what a daemon holds; `ModelControl` and `ModelDaemon` are what the supervisor sees of it.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubelet_plugin.mps.control import Control, MpsCommandError
from tests.native.mps_control import NAMESPACE_COLUMNS, SERVER_COLUMNS, SETTINGS, table


class MpsModel:
    """What a daemon knows, and how it misbehaves.

    Attributes:
        alive: Whether it runs.
        servers: By name: devices, status, and namespaces with their settings.
        clients: (pid, server, namespace) of who is connected.
        fail_in: After so many commands that change something, each of them is refused; None for never.
        die_in: After so many commands that change something it dies, before it does the next one.
        unlimited: Names of namespaces that were ever there without a limit while their folder was known.
    """

    def __init__(self, pipe: Path) -> None:
        self.pipe = pipe
        self.alive = False
        self.startable = True
        self.answers = True
        self.fresh_folders = False
        self.servers: dict[str, dict[str, Any]] = {}
        self.clients: list[tuple[int, str, str]] = []
        self.fail_in: int | None = None
        self.die_in: int | None = None
        self.starts = 0
        self.ran: list[str] = []

    def crash(self) -> None:
        self.alive = False
        self.servers.clear()
        self.clients.clear()

    def start(self, config: Path) -> None:
        self.starts += 1
        if not self.startable:
            return
        if self.fresh_folders:
            shutil.rmtree(self.pipe, ignore_errors=True)
        self.alive = True
        for name, server in tomllib.loads(config.read_text())["servers"].items() if config.exists() else ():
            self._create_server(name, server["allowed_devices"])
            for space, settings in server.get("namespaces", {}).items():
                self.servers[name]["namespaces"][space] = {
                    key.replace("_", "-"): str(value) for key, value in settings.items()
                }
                self._folder(name, space)

    def limits(self, server: str, namespace: str) -> tuple[str, str] | None:
        """Memory and percent as printed; None without such a namespace."""
        space = self.servers.get(server, {}).get("namespaces", {}).get(namespace)
        return None if space is None else tuple(space.get(key, "-") for key in SETTINGS[:2])

    def run(self, arguments: Sequence[str]) -> str:
        if not self.alive or not self.answers:
            raise MpsCommandError("The MPS daemon cannot be asked.")
        words = [word for word in arguments if not word.startswith("--")]
        options = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith("--"))
        kind = " ".join(words[:2])
        if kind.endswith("list"):
            return self._list(words[0], options)
        self.ran.append(" ".join(arguments))
        self._misbehave(kind)
        server = options.get("server", "")
        if kind == "server create":
            self._create_server(words[2], options["allowed-devices"])
        elif kind == "server delete":
            del self.servers[words[2]]
            shutil.rmtree(self.pipe / words[2], ignore_errors=True)
        elif kind == "namespace create":
            self.servers[server]["namespaces"][words[2]] = {}
            self._folder(server, words[2])
        elif kind == "namespace set":
            wanted = {key: value for key, value in options.items() if key in SETTINGS}
            self.servers[server]["namespaces"][words[2]] |= wanted
        elif kind == "namespace delete":
            del self.servers[server]["namespaces"][words[2]]
            shutil.rmtree(self.pipe / server / words[2], ignore_errors=True)
        else:
            raise AssertionError(kind)
        return ""

    def _misbehave(self, kind: str) -> None:
        if self.die_in is not None:
            self.die_in -= 1
            if self.die_in < 0:
                self.die_in = None
                self.crash()
                raise MpsCommandError(f"The MPS daemon died at {kind}.")
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in < 0:
                raise MpsCommandError(f"The MPS daemon refused {kind}.")

    def _create_server(self, name: str, devices: str) -> None:
        assert name not in self.servers
        self.servers[name] = {"devices": devices, "status": "Ready", "namespaces": {"default": {}}}
        self._folder(name, "default")

    def _folder(self, server: str, namespace: str) -> None:
        folder = self.pipe / server / namespace
        folder.mkdir(parents=True, exist_ok=True)
        # A daemon that starts makes its sockets anew.
        fresh = folder / ".fresh"
        fresh.write_text(f"socket of start {self.starts}")
        fresh.replace(folder / "control")

    def _list(self, module: str, options: Mapping[str, str]) -> str:
        if module == "client":
            rows = [
                {"pid": pid, "server": server, "device": 0, "namespace": space, "cmd": "python, train.py"}
                for pid, server, space in self.clients
            ]
            return table(("pid", "server", "device", "namespace", "cmd"), rows, dict(options))
        if module == "server":
            rows = [
                {
                    **dict.fromkeys(SERVER_COLUMNS, "-"),
                    "name": name,
                    "status": server["status"],
                    "allowed-devices": server["devices"],
                }
                for name, server in self.servers.items()
            ]
            return table(SERVER_COLUMNS, rows, dict(options))
        rows = [
            {
                "name": name,
                "server": of,
                "server-status": server["status"],
                "pipe-directory": str(self.pipe / of / name),
                **{key: space.get(key, "-") for key in SETTINGS},
            }
            for of, server in self.servers.items()
            for name, space in server["namespaces"].items()
        ]
        return table(NAMESPACE_COLUMNS, rows, dict(options))


class ModelControl(Control):
    """The commands, answered by a model."""

    def __init__(self, model: MpsModel, *, log_dir: Path) -> None:
        super().__init__("nvidia-cuda-mps-control", pipe_dir=model.pipe, log_dir=log_dir)
        self._model = model

    def _run(self, *arguments: str) -> str:
        return self._model.run(arguments)

    def quit(self) -> None:
        self._model.crash()


class ModelDaemon:
    """The daemon as the supervisor's child."""

    descriptor = -1
    pid = 1

    def __init__(self, model: MpsModel) -> None:
        self._model = model

    @property
    def running(self) -> bool:
        return self._model.alive

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], log_file: Path) -> None:
        assert command[1:-1] == ["-f", "-m", "-p", "3", "-a"]
        assert environment["CUDA_MPS_PROTOCOL_VERSION"] == "3"
        assert log_file.parent.is_dir()
        self._model.start(Path(command[-1]))

    def clean(self) -> None:
        self._model.crash()
