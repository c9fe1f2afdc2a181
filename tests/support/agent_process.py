"""The real agent as a process, spoken to as the kubelet does, on folders that outlive it.

Cards are simulated and claims come from a folder; everything else is what runs on a node.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import yaml

from kubelet_plugin.api import dra_v1_pb2, dra_v1_pb2_grpc
from tests.support.node_world import NODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JSON = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0


@dataclass(frozen=True)
class NodeFolders:
    """What a node keeps on its disk."""

    base: Path

    @property
    def claims(self) -> Path:
        return self.base / "claims"

    @property
    def cdi(self) -> Path:
        return self.base / "cdi"

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def records(self) -> Path:
        return self.base / "state" / "claims"

    @property
    def shares(self) -> Path:
        return self.base / "shares"

    def put(self, *objects: JSON) -> None:
        """Adds objects to what stands for the API server, each file by a rename."""
        self.claims.mkdir(exist_ok=True)
        for found in objects:
            target = self.claims / f"{found['kind']}-{found['metadata']['name']}.json"
            fresh = target.with_suffix(".new")
            fresh.write_text(json.dumps(found))
            fresh.rename(target)

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, [] if there is none."""
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@contextlib.contextmanager
def node_folders(*, cards: Sequence[JSON]) -> Iterator[NodeFolders]:
    """A node's folders, below a short path: a socket's has at most 107 bytes."""
    base = Path(tempfile.mkdtemp(prefix="dg-"))
    try:
        document = {"apiVersion": "dragoman.dev/v1alpha1", "kind": "SimulatedNode", "cards": list(cards)}
        (base / "node.yaml").write_text(yaml.safe_dump(document))
        (base / "lib.so").write_text("stands for the preload library\n")
        (base / "claims").mkdir()
        yield NodeFolders(base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@dataclass
class AgentProcess:
    """One life of the agent."""

    folders: NodeFolders
    pod_uid: str = ""
    state_dir: Path | None = None
    cdi_dir: Path | None = None
    driver_root: Path | None = None
    """Where NVIDIA's driver is, for cards of the mock NVML in place of simulated ones."""
    host_root: Path | None = None
    """A folder that stands for the node's root, for the cards that its sysfs tells of."""
    process: subprocess.Popen[bytes] = field(init=False)
    _channel: grpc.Channel | None = field(init=False, default=None)

    def start(self, *, under: Sequence[str] = ()) -> AgentProcess:
        """Starts the agent and waits until it serves."""
        base = self.folders.base
        self.socket.unlink(missing_ok=True)
        command = [
            *under, sys.executable, "-m", "kubelet_plugin",
            "--node-name", NODE,
            "--pod-uid", self.pod_uid,
            *self._cards(),
            "--claims-from", str(self.folders.claims),
            "--kubelet-root", str(base / "k"),
            "--cdi-dir", str(self.cdi_dir or self.folders.cdi),
            "--state-dir", str(self.state_dir or self.folders.state),
            "--share-dir", str(self.folders.shares),
            "--preload-library", str(base / "lib.so"),
            "--preload-dir", str(base / "preload"),
        ]  # fmt: skip
        policies = base / "policies.yaml"
        command += ["--policies-from", str(policies)] if policies.exists() else []
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=os.environ
            )
        self._wait_until_serving()
        return self

    def _cards(self) -> list[str]:
        if self.host_root is not None:
            return ["--host-root", str(self.host_root)]
        if self.driver_root is None:
            return ["--simulated-node", str(self.folders.base / "node.yaml")]
        return ["--driver-root", str(self.driver_root)]

    @property
    def log(self) -> Path:
        return self.folders.base / f"agent{self.pod_uid}.log"

    @property
    def socket(self) -> Path:
        name = f"dra-{self.pod_uid}.sock" if self.pod_uid else "dra.sock"
        return self.folders.base / "k" / "plugins" / "dragoman.dev" / name

    @property
    def registration(self) -> Path:
        name = f"dragoman.dev-{self.pod_uid}-reg.sock" if self.pod_uid else "dragoman.dev-reg.sock"
        return self.folders.base / "k" / "plugins_registry" / name

    def prepare(self, *claims: JSON, timeout_s: float = 60.0) -> dict[str, list[str] | str]:
        """By UID: the CDI ids, or the error's text."""
        request = dra_v1_pb2.NodePrepareResourcesRequest(claims=[_ref(found) for found in claims])
        answer = self.stub.NodePrepareResources(request, timeout=timeout_s)
        return {
            uid: entry.error or [cdi for device in entry.devices for cdi in device.cdi_device_ids]
            for uid, entry in answer.claims.items()
        }

    def unprepare(self, *claims: JSON, timeout_s: float = 60.0) -> dict[str, str]:
        """By UID: the error's text, "" for success."""
        request = dra_v1_pb2.NodeUnprepareResourcesRequest(claims=[_ref(found) for found in claims])
        answer = self.stub.NodeUnprepareResources(request, timeout=timeout_s)
        return {uid: entry.error for uid, entry in answer.claims.items()}

    @property
    def stub(self) -> dra_v1_pb2_grpc.DRAPluginStub:
        if self._channel is None:
            options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
            self._channel = grpc.insecure_channel(f"unix:{self.socket}", options=options)
        return dra_v1_pb2_grpc.DRAPluginStub(self._channel)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and the end of the conversation."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.ended()

    def stop(self) -> None:
        """SIGTERM, and the end of the conversation."""
        self.process.send_signal(signal.SIGTERM)
        self.ended()

    def ended(self, *, within_s: float = 60.0) -> int:
        """Waits for the end of the process; its exit status."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        return self.process.wait(within_s)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.alive:
            if self.socket.exists():
                with contextlib.suppress(grpc.RpcError):
                    # An empty call is answered as soon as the service and the cards are there.
                    self.prepare(timeout_s=20.0)
                    return
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"the agent does not serve:\n{self.tail()}")


@contextlib.contextmanager
def running(agent: AgentProcess, *, under: Sequence[str] = ()) -> Iterator[AgentProcess]:
    """An agent that is killed at the end, whatever happened."""
    agent.start(under=under)
    try:
        yield agent
    finally:
        agent.kill()


def _ref(found: JSON) -> dra_v1_pb2.Claim:
    metadata = found["metadata"]
    return dra_v1_pb2.Claim(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
