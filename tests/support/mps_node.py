"""MPS on a node of tests: the real supervisor as a process, over the stand-in of NVIDIA's control daemon."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubelet_plugin.mps.client import SOCKET, MpsSupervised
from kubelet_plugin.mps.control import Control, MpsCommandError

ROOT = Path(__file__).resolve().parents[2]
_NATIVE = ROOT / "tests" / "native"
START_S = 120.0


def install_program(folder: Path, *, name: str = "mps_control.py") -> Path:
    """Puts a stand-in where a test wants it, run by this Python without anything that slows its start."""
    source = (_NATIVE / name).read_text().splitlines(keepends=True)
    known = {"mps_control.py": "nvidia-cuda-mps-control"}
    target = folder / known.get(name, name)
    target.write_text(f"#!{Path(sys.executable).resolve()} -IS\n" + "".join(source[1:]))
    target.chmod(0o755)
    return target


@dataclass
class MpsProcesses:
    """A supervisor, its daemon, and programs that use it."""

    folder: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tools = self.folder.parent / "mps-tools"
        tools.mkdir(exist_ok=True)
        self.program = install_program(tools)
        self.client = install_program(tools, name="mps_client.py")
        self.script = tools / "script.json"

    # The supervisor.

    def start(self, *, under: Sequence[str] = ()) -> MpsProcesses:
        """Starts a supervisor and waits until it answers."""
        (self.folder / SOCKET).unlink(missing_ok=True)
        with (self.folder.parent / "mps.log").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *under, sys.executable, "-m", "kubelet_plugin.mps",
                    "--mps-dir", str(self.folder),
                    "--program", str(self.program),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "FAKE_MPS_SCRIPT": str(self.script)},
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not (self.folder / SOCKET).exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)
        return self

    @property
    def log(self) -> str:
        """What it logged, at the end."""
        return (self.folder.parent / "mps.log").read_text()[-4000:]

    @property
    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return hasattr(self, "process") and self.process.poll() is None

    def kill(self) -> None:
        """Ends the supervisor by SIGKILL; its daemon lives on."""
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Ends supervisor and daemon, however they are."""
        if not hasattr(self, "process"):
            return
        self.script.unlink(missing_ok=True)
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
        self.kill_daemon(group=True)

    # The daemon.

    @property
    def daemon_pid(self) -> int:
        """Number of the daemon; 0 if none is noted."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(json.loads((self.folder / "daemon.json").read_text())["pid"])
        return 0

    def kill_daemon(self, *, group: bool = False) -> None:
        """Ends the daemon by SIGKILL, with its servers if wanted."""
        pid = self.daemon_pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(pid, signal.SIGKILL)

    def behave(self, **plan: Any) -> None:
        """Tells the daemon how to misbehave from now on; see `tests/native/mps_control.py`."""
        fresh = self.script.with_suffix(".new")
        fresh.write_text(json.dumps(plan))
        fresh.replace(self.script)

    def sync(self) -> MpsSupervised:
        """The supervisor, after it did what it could."""
        node = MpsSupervised(self.folder)
        node.state()
        return node

    def limits(self) -> dict[str, tuple[str, str]]:
        """Memory and percent of every namespace but servers' own, as the daemon itself prints them."""
        control = Control(str(self.program), pipe_dir=self.folder / "pipe", log_dir=self.folder / "log")
        try:
            found = control.namespaces()
        except MpsCommandError:
            return {}
        return {one.name: (one.memory, one.cores) for one in found if one.name != "default"}

    # Programs in containers.

    @contextlib.contextmanager
    def program_in(self, folder: Path) -> Iterator[dict[str, Any]]:
        """A program that joins by a folder and stays; what it was given."""
        process = subprocess.Popen(
            [str(self.client)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(folder)},
        )
        try:
            assert process.stdout is not None
            yield {**json.loads(process.stdout.readline()), "pid": process.pid}
        finally:
            process.kill()
            process.communicate()
