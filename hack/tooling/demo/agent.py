"""The node agent as a process of its own, and the kubelet's side of the conversation with it.

Flow: `Agent.start` runs `python -m kubelet_plugin` with a kubelet root of its own, waits for the registration
socket, asks GetInfo and answers NotifyRegistrationStatus as a kubelet does; `prepare` and `unprepare` are
NodePrepareResources and NodeUnprepareResources of the DRA v1 service that it named.

Limits: this is no kubelet. It starts no container; a real one is started by the cluster tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from kubelet_plugin.api import dra_v1_pb2, dra_v1_pb2_grpc, registration_pb2, registration_pb2_grpc

START_TIMEOUT_S = 15.0
AUTHORITY = ("grpc.default_authority", "localhost")
"""A Python client would send the socket's path as authority (gRPC issue 38142); the kubelet sends this."""


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A claim as the kubelet names it."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the agent answered for one claim."""

    cdi_ids: tuple[str, ...] = ()
    error: str = ""
    milliseconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the agent of the demonstration keeps what a node keeps below /var."""

    base: Path

    @property
    def cdi(self) -> Path:
        """CDI specs."""
        return self.base / "cdi"

    @property
    def claims(self) -> Path:
        """Manifests of claims and pods: stands for the API server."""
        return self.base / "claims"

    @property
    def inventory(self) -> Path:
        """The agent's AcceleratorNode."""
        return self.base / "acceleratornode.json"

    @property
    def library(self) -> Path:
        """Stands for the preload library; no container is started that would load it."""
        return self.base / "libvgpu.so"


class Agent:
    """A running agent."""

    def __init__(
        self, *, process: subprocess.Popen[bytes], sockets: Path, endpoint: str, folders: Folders
    ) -> None:
        self._folders = folders
        self._process = process
        self._sockets = sockets
        self._channel = grpc.insecure_channel(f"unix:{endpoint}", options=[AUTHORITY])
        self._service = dra_v1_pb2_grpc.DRAPluginStub(self._channel)

    @property
    def pid(self) -> int:
        """The agent's process id."""
        return self._process.pid

    @classmethod
    def start(cls, folders: Folders, *, node_file: Path, node: str) -> Agent:
        """Starts the agent and registers it.

        Raises:
            RuntimeError: It did not come up; the message holds the end of its log.
        """
        for folder in (folders.cdi, folders.claims):
            folder.mkdir(parents=True, exist_ok=True)
        folders.library.write_bytes(b"stands for the preload library\n")
        # A unix socket's path has at most 107 bytes: the folder a person chose may be longer.
        sockets = Path(tempfile.mkdtemp(prefix="dragoman-"))
        log = folders.base / "agent.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "kubelet_plugin",
                    "--node-name", node,
                    "--simulated-node", str(node_file),
                    "--inventory-to", str(folders.inventory),
                    "--claims-from", str(folders.claims),
                    "--kubelet-root", str(sockets),
                    "--cdi-dir", str(folders.cdi),
                    "--state-dir", str(folders.base / "state"),
                    "--share-dir", str(folders.base / "shares"),
                    "--preload-library", str(folders.library),
                    "--preload-dir", str(folders.base / "preload"),
                ],
                stdout=output, stderr=subprocess.STDOUT, env=os.environ,
            )  # fmt: skip
        try:
            endpoint = _register(sockets / "plugins_registry", process=process)
        except RuntimeError as failed:
            process.kill()
            process.wait()
            shutil.rmtree(sockets, ignore_errors=True)
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{failed}\nThe end of {log}:\n{tail}") from None
        return cls(process=process, sockets=sockets, endpoint=endpoint, folders=folders)

    def inventory(self) -> dict[str, Any]:
        """The AcceleratorNode that the agent wrote.

        Raises:
            RuntimeError: It wrote none in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._folders.inventory.exists():
                document: dict[str, Any] = json.loads(self._folders.inventory.read_text())
                return document
            time.sleep(0.02)
        raise RuntimeError(f"The agent did not report its cards within {START_TIMEOUT_S:.0f} s.")

    def prepare(self, ref: Ref) -> Answer:
        """NodePrepareResources for one claim."""
        request = dra_v1_pb2.NodePrepareResourcesRequest(
            claims=[dra_v1_pb2.Claim(namespace=ref.namespace, name=ref.name, uid=ref.uid)]
        )
        began = time.perf_counter()
        answer = self._service.NodePrepareResources(request, timeout=45).claims[ref.uid]
        took = (time.perf_counter() - began) * 1000
        ids = tuple(cdi for device in answer.devices for cdi in device.cdi_device_ids)
        return Answer(cdi_ids=ids, error=answer.error, milliseconds=took)

    def unprepare(self, ref: Ref) -> Answer:
        """NodeUnprepareResources for one claim."""
        request = dra_v1_pb2.NodeUnprepareResourcesRequest(
            claims=[dra_v1_pb2.Claim(namespace=ref.namespace, name=ref.name, uid=ref.uid)]
        )
        answer = self._service.NodeUnprepareResources(request, timeout=45).claims[ref.uid]
        return Answer(error=answer.error)

    def stop(self) -> None:
        """Ends the agent as a node does, with SIGTERM."""
        self._channel.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)


def _register(folder: Path, *, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"The agent ended with status {process.returncode} before it registered.")
        found = [path for path in folder.glob("*.sock") if path.is_socket()] if folder.is_dir() else []
        if found:
            with grpc.insecure_channel(f"unix:{found[0]}", options=[AUTHORITY]) as channel:
                stub = registration_pb2_grpc.RegistrationStub(channel)
                info = stub.GetInfo(registration_pb2.InfoRequest(), timeout=5, wait_for_ready=True)
                stub.NotifyRegistrationStatus(
                    registration_pb2.RegistrationStatus(plugin_registered=True), timeout=5
                )
            return str(info.endpoint)
        time.sleep(0.02)
    raise RuntimeError(f"The agent did not offer a registration socket within {START_TIMEOUT_S:.0f} s.")
