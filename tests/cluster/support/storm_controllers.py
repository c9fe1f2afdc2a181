"""Replicas of the controller as processes of this machine, with the ServiceAccount of the installed chart.

Purpose: a process here can be killed at any moment and at any system call, and started again at once, where
the kubelet would wait for minutes; and it can be sent through a proxy to the API server.
Flow: the chart's own replicas are sent away (`replicas: 0`), these take their place: same code, same
arguments but for ports and shorter times of the Lease, same RBAC by a token of the same account.
Limits: no webhook, so what claims ask for has to be stamped before (in a template).
"""

from __future__ import annotations

import base64
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import yaml

from driver.kube.resources import LEASES
from tests.cluster.support import waiting
from tests.cluster.support.api import DEPLOYMENTS, JSON, SERVICE_ACCOUNTS
from tests.cluster.support.installation import RELEASE, Installation
from tests.cluster.support.proxy import Proxy
from tests.cluster.support.target import ROOT

QUICK_LEASE = ("--lease-duration", "4", "--lease-renew-deadline", "3", "--lease-retry", "0.5")
_PATIENCE_S = 300.0


@dataclass
class Replica:
    """One process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    _file: IO[bytes]

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: it gets no time to say goodbye."""
        self.process.kill()
        self.ended()

    def ended(self, *, seconds: float = 30.0) -> int:
        """Waits until it has ended; its exit status."""
        status = self.process.wait(seconds)
        self._file.close()
        return status


@dataclass
class Replicas:
    """Processes that take part in the same election."""

    installed: Installation
    folder: Path
    kubeconfig: Path
    arguments: Sequence[str] = QUICK_LEASE
    running: list[Replica] = field(default_factory=list)
    started: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def start(self) -> Replica:
        """Starts one more."""
        name = f"storm-{next(self._numbers)}"
        log = self.folder / f"{name}.log"
        file = log.open("wb")
        command = [
            *(sys.executable, "-m", "controller"),
            *("--kubeconfig", str(self.kubeconfig), "--namespace", self.installed.namespace),
            *("--identity", name, "--mode", "controller", "--lease-name", self.installed.lease),
            "--agent-selector",
            f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=agent",
            *("--health-port", "0", "--metrics-port", "0", "--log-level", "info"),
            *self.arguments,
        ]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        replica = Replica(name, process, log, file)
        self.running.append(replica)
        self.started += 1
        return replica

    def leader(self, *, seconds: float = _PATIENCE_S) -> Replica:
        """Waits until one that lives holds the Lease; returns it."""
        return waiting.eventually(self._leader, what="a replica that lives leads", seconds=seconds)

    def _leader(self) -> Replica | None:
        lease = self.installed.api.find(LEASES, self.installed.lease, namespace=self.installed.namespace)
        holder = str(((lease or {}).get("spec") or {}).get("holderIdentity") or "").partition("_")[0]
        return next((one for one in self.running if one.name == holder and one.alive), None)

    def replace(self, dead: Replica) -> Replica:
        """Starts another one in the place of one that has ended."""
        self.running.remove(dead)
        return self.start()

    def logs(self) -> str:
        """The last lines of each that was started."""
        parts = []
        for path in sorted(self.folder.glob("storm-*.log"), key=lambda one: one.stat().st_mtime)[-4:]:
            lines = path.read_text(errors="replace").splitlines()[-25:]
            parts.append(f"--- {path.name}\n" + "\n".join(lines))
        return "\n".join(parts)

    def unexpected(self) -> list[str]:
        """What the replicas logged as mistakes of their own: tracebacks, but for those of kopf's retries."""
        return [
            f"{path.name}: {line[:3000]}"
            for path in self.folder.glob("storm-*.log")
            for line in path.read_text(errors="replace").splitlines()
            if "Traceback" in line and '"logger": "kopf.' not in line
        ]


@contextmanager
def replicas(
    installed: Installation,
    *,
    folder: Path,
    count: int = 2,
    through: Proxy | None = None,
    arguments: Sequence[str] = QUICK_LEASE,
) -> Iterator[Replicas]:
    """Replicas of the controller instead of the chart's, which are sent away and stay away.

    Args:
        installed: The installation that they belong to.
        folder: For their kubeconfig and logs.
        count: How many.
        through: What stands between them and the API server, if anything.
        arguments: More arguments of the controller.
    """
    send_away(installed)
    path = _kubeconfig(installed, folder, through=through)
    found = Replicas(installed, folder, path, arguments)
    try:
        for _ in range(count):
            found.start()
        yield found
    finally:
        for one in found.running:
            if one.alive:
                one.process.terminate()
        for one in found.running:
            try:
                one.ended()
            except subprocess.TimeoutExpired:
                one.kill()


def send_away(installed: Installation) -> None:
    """Ends the chart's own replicas and waits until they are gone."""
    scale(installed, 0)


def scale(installed: Installation, count: int) -> None:
    """Sets how many replicas the chart's Deployment has, and waits until they are ready.

    They stay on the node that has a kubelet: on the others (`storm_nodes`) they would only be said to run.
    """
    spec = {
        "replicas": count,
        "template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": installed.node}}},
    }
    installed.api.patch(DEPLOYMENTS, installed.lease, {"spec": spec}, namespace=installed.namespace)

    def settled() -> bool:
        found = installed.api.get(DEPLOYMENTS, installed.lease, namespace=installed.namespace)
        status = found.get("status") or {}
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        updated, ready = (int(status.get(name) or 0) for name in ("updatedReplicas", "readyReplicas"))
        return seen and updated == ready == count and len(installed.controllers()) == count

    waiting.eventually(settled, what=f"{count} controllers of the chart are ready")


def _kubeconfig(installed: Installation, folder: Path, *, through: Proxy | None) -> Path:
    document = yaml.safe_load(installed.target.kubeconfig.read_text())
    path = SERVICE_ACCOUNTS.path(
        namespace=installed.namespace, name=f"{RELEASE}-controller", subresource="token"
    )
    body: JSON = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 4 * 3600},
    }
    token = installed.api.request("POST", path, body=body).json()["status"]["token"]
    for one in document["users"]:
        one["user"] = {"token": token}
    if through is not None:
        encoded = base64.b64encode(through.authority.encode()).decode()
        for one in document["clusters"]:
            one["cluster"] = {"server": through.server, "certificate-authority-data": encoded}
    found = folder / "kubeconfig"
    found.touch(mode=0o600)
    found.write_text(yaml.safe_dump(document))
    return found
