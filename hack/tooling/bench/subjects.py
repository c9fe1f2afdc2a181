"""The two drivers that are compared, each as a plain process beside a cluster.

`go` is sigs.k8s.io/dra-example-driver v0.4.0 with its API limit lifted by its own flags; `ours` is the agent
of this tree as its DaemonSet runs it: claims from the API server, metrics served, simulated cards. Both keep
state and CDI specs below one folder, so on one file system, and both are the same service account.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tooling.bench.errors import BenchError
from tooling.bench.kubelet import Registered, register
from tooling.bench.world import CARDS, NODE, Access, simulated_cards
from tooling.cluster import build
from tooling.cluster.progress import Report

GO = "go"
OURS = "ours"
ROOT = Path(__file__).resolve().parents[3]
_NO_LIMIT = "5000"
_STOP_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A driver that runs.

    Attributes:
        name: `GO` or `OURS`.
        process: Its process.
        started_s: `time.monotonic` just before it was started.
        registered: How it answered the handshake.
        cdi: Where it writes CDI specs.
        metrics: URL of its metrics, "" if it serves none.
    """

    name: str
    process: subprocess.Popen[bytes]
    started_s: float
    registered: Registered
    cdi: Path
    metrics: str = ""

    def stop(self) -> None:
        """Ends it as a node does."""
        self.process.terminate()
        # One that was stopped while another was measured hears of it only when it goes on.
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Place:
    """A folder for all files of a run, on the file system that is to be measured, and one on tmpfs.

    Args:
        parent: Where state is kept.
        cdi_on_tmpfs: Whether CDI specs are kept on tmpfs, as in /var/run/cdi of a node, or beside the state.
    """

    def __init__(self, parent: Path, *, cdi_on_tmpfs: bool = True) -> None:
        # Sockets have paths of at most 107 bytes, so they cannot lie just anywhere.
        self.folder = Path(tempfile.mkdtemp(prefix="dragoman-bench-", dir=parent))
        memory = Path("/dev/shm")  # noqa: S108 - the design keeps shared regions on tmpfs
        self.memory = Path(
            tempfile.mkdtemp(prefix="dragoman-bench-", dir=memory if memory.is_dir() else parent)
        )
        self._cdi = (self.memory if cdi_on_tmpfs else self.folder) / "cdi"

    def cdi(self, name: str) -> Path:
        """Where a driver writes its CDI specs."""
        return self._cdi / name

    def remove(self) -> None:
        """Removes both."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)


def start_go(access: Access, place: Place, *, report: Report) -> Subject:
    """Builds (once) and starts the Go example driver.

    Raises:
        BenchError: It did not come up.
    """
    programs = build.ensure(build.DRA_EXAMPLE_DRIVER, report=report)
    folder = place.folder / GO
    registry = folder / "registry"
    registry.mkdir(parents=True)
    command = [
        str(programs / "dra-example-kubeletplugin"),
        f"--node-name={NODE}",
        f"--num-devices={CARDS}",
        f"--cdi-root={place.cdi(GO)}",
        f"--kubelet-registrar-directory-path={registry}",
        f"--kubelet-plugins-directory-path={folder / 'plugins'}",
        f"--kubeconfig={_kubeconfig(access, folder)}",
        f"--kube-api-qps={_NO_LIMIT}",
        f"--kube-api-burst={_NO_LIMIT}",
    ]
    return _start(GO, command, registry=registry, cdi=place.cdi(GO), log=folder / "log")


def start_ours(
    access: Access,
    place: Place,
    *,
    launcher: Sequence[str] = (),
    name: str = OURS,
    cards_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    simulated: bool = True,
) -> Subject:
    """Starts the agent of this tree.

    Args:
        access: The API server.
        place: Where to keep files.
        launcher: What to put between the interpreter and `-m kubelet_plugin`, such as a profiler.
        name: Names its folder; each run of several gets its own.
        cards_file: A SimulatedNode; made here if None.
        environment: Further variables.
        simulated: Whether cards are simulated; otherwise the agent asks NVML.

    Raises:
        BenchError: It did not come up.
    """
    folder = place.folder / name
    folder.mkdir(parents=True)
    library = folder / "libvgpu.so"
    library.write_bytes(b"stands for the preload library; no container is started that would load it\n")
    port = _free_port()
    command = [
        sys.executable, *launcher, "-m", "kubelet_plugin",
        "--node-name", NODE,
        # As the chart mounts it by default: the node's root under another path.
        "--host-root", "/proc/self/root",
        "--kubelet-root", str(folder),
        "--cdi-dir", str(place.cdi(name)),
        "--share-dir", str(place.memory / "shares" / name),
        "--preload-library", str(library),
        "--preload-dir", str(folder / "preload"),
        "--api-server", access.server,
        "--api-token-file", str(access.token_file),
        "--api-ca-file", str(access.ca_file),
        "--http-address", f"127.0.0.1:{port}",
    ]  # fmt: skip
    if simulated:
        cards = cards_file or folder / "cards.yaml"
        if cards_file is None:
            cards.write_text(yaml.safe_dump(simulated_cards()))
        command += ["--simulated-node", str(cards)]
    return _start(
        name,
        command,
        registry=folder / "plugins_registry",
        cdi=place.cdi(name),
        log=folder / "log",
        metrics=f"http://127.0.0.1:{port}/metrics",
        environment=environment,
    )


def _start(
    name: str,
    command: Sequence[str],
    *,
    registry: Path,
    cdi: Path,
    log: Path,
    metrics: str = "",
    environment: Mapping[str, str] | None = None,
) -> Subject:
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        registered = register(registry, process=process)
    except BaseException as failed:
        process.kill()
        process.wait()
        if not isinstance(failed, BenchError):
            raise
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BenchError(f"{name}: {failed}\nThe end of its log:\n{tail}") from None
    return Subject(
        name=name, process=process, started_s=started, registered=registered, cdi=cdi, metrics=metrics
    )


def _kubeconfig(access: Access, folder: Path) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "one",
                "cluster": {"server": access.server, "certificate-authority": str(access.ca_file)},
            }
        ],
        "users": [{"name": "one", "user": {"tokenFile": str(access.token_file)}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
