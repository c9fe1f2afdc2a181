"""Touching a node: what tests do to its kubelet, its containerd and its files, wherever that node is.

Flow: `NodeAccess` is the seam. `LocalNode` is the node of `hack/cluster`, `DockerExecNode` one of kind,
`NoNode` any other: there every operation raises `NotAvailable`, which tests report as "not run".
Limits: containers are found through containerd's `ctr`, which both kinds of nodes have. `DockerExecNode`
needs Docker and has not been tried, for want of a container registry.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn, Protocol

from tooling.cluster import build, containerd, control_plane, laid_over
from tooling.cluster.errors import ClusterError
from tooling.cluster.lifecycle import Record, services_of
from tooling.cluster.paths import NODE_NAME
from tooling.cluster.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PATIENCE = 180.0


class NotAvailable(Exception):  # noqa: N818
    """There is no way to touch this cluster's node."""


class NodeAccess(Protocol):
    """What a test may do to the node that its pods run on."""

    @property
    def name(self) -> str:
        """The node's name in the cluster."""

    @property
    def kubelet_root(self) -> PurePosixPath:
        """The kubelet's root folder on the node."""

    @property
    def cdi_folder(self) -> PurePosixPath:
        """The folder from which the container runtime reads CDI specs."""

    @property
    def state_root(self) -> PurePosixPath:
        """A folder on the node below which a driver may keep its own."""

    def start_kubelet(self) -> None:
        """Starts the kubelet unless it runs."""

    def stop_kubelet(self) -> None:
        """Ends the kubelet in good order and waits until it is gone."""

    def kill_kubelet(self) -> None:
        """Kills the kubelet with SIGKILL and waits until it is gone."""

    def restart_kubelet(self) -> None:
        """Ends and starts the kubelet; returns when it answers."""

    def restart_containerd(self) -> None:
        """Ends and starts containerd; returns when it answers. Containers go on."""

    def list_files(self, folder: PurePosixPath | str) -> list[str]:
        """The names in a folder of the node, sorted; none when there is no such folder."""

    def read_file(self, path: PurePosixPath | str) -> bytes:
        """The content of a file of the node; FileNotFoundError when there is none."""

    def write_file(self, path: PurePosixPath | str, content: bytes) -> None:
        """Writes a file of the node, in place."""

    def remove_files(self, *paths: PurePosixPath | str) -> None:
        """Removes files of the node; what is not there is not missed."""

    def run(self, *command: str, timeout: float = 60.0) -> str:
        """Runs a command in the node's namespaces and returns what it printed; raises when it fails."""

    def container_pids(self, *, pod_uid: str, container: str) -> list[int]:
        """The pids on the node of all processes of a running container, its first process first."""

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Sends a signal to a process of the node."""


class _CommandNode:
    """What both kinds of nodes do in the same way: by running commands on the node."""

    def run(self, *command: str, timeout: float = 60.0) -> str:
        """Runs a command in the node's namespaces and returns what it printed; raises when it fails."""
        return self._run(command, timeout=timeout).decode(errors="replace")

    def _run(self, command: Sequence[str], *, timeout: float = 60.0, stdin: bytes = b"") -> bytes:
        raise NotImplementedError

    def container_pids(self, *, pod_uid: str, container: str) -> list[int]:
        """The pids on the node of all processes of a running container, its first process first."""
        labels = (
            f'labels."io.kubernetes.pod.uid"=={pod_uid},labels."io.kubernetes.container.name"=={container}'
        )
        found: list[int] = []
        tasks = dict(_tasks(self.run("ctr", "-n", "k8s.io", "tasks", "list")))
        for identifier in self.run("ctr", "-n", "k8s.io", "containers", "list", "-q", labels).split():
            if identifier not in tasks:
                continue
            first = tasks[identifier]
            listed = self.run("ctr", "-n", "k8s.io", "tasks", "ps", identifier).splitlines()[1:]
            others = {int(line.split()[0]) for line in listed if line.strip()} - {first}
            found.extend([first, *sorted(others)])
        return found

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Sends a signal to a process of the node."""
        self.run("sh", "-c", f"kill -{int(number)} {pid}")


def _tasks(listing: str) -> list[tuple[str, int]]:
    """The running tasks of ``ctr tasks list``: identifier and pid."""
    rows = [line.split() for line in listing.splitlines()[1:]]
    return [(row[0], int(row[1])) for row in rows if len(row) >= 3 and row[2] == "RUNNING"]


class LocalNode(_CommandNode):
    """The node of a cluster that `hack/cluster` started on this machine."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._layout = record.layout
        self._services = services_of(record.layout)

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return NODE_NAME

    @property
    def kubelet_root(self) -> PurePosixPath:
        """The kubelet's root folder on the node."""
        return PurePosixPath(self._layout.kubelet_root)

    @property
    def cdi_folder(self) -> PurePosixPath:
        """The folder from which the container runtime reads CDI specs."""
        return PurePosixPath(self._layout.cdi)

    @property
    def state_root(self) -> PurePosixPath:
        """A folder on the node below which a driver may keep its own."""
        return PurePosixPath(self._layout.node_root)

    def start_kubelet(self) -> None:
        """Starts the kubelet unless it runs; returns when it answers."""
        self._services.start("kubelet")
        self._wait("kubelet", self._kubelet_answers)

    def stop_kubelet(self) -> None:
        """Ends the kubelet in good order and waits until it is gone."""
        self._services.stop("kubelet")

    def kill_kubelet(self) -> None:
        """Kills the kubelet with SIGKILL and waits until it is gone."""
        self._services.stop("kubelet", first=signal.SIGKILL)

    def restart_kubelet(self) -> None:
        """Ends and starts the kubelet; returns when it answers."""
        self.stop_kubelet()
        self.start_kubelet()

    def restart_containerd(self) -> None:
        """Ends and starts containerd; returns when it answers. Containers go on."""
        ctr = build.folder_of(build.CONTAINERD) / "ctr"
        self._services.stop("containerd")
        self._services.start("containerd")
        self._wait("containerd", lambda: containerd.ready(self._layout, ctr=ctr))

    def stop_component(self, name: str, *, kill: bool = False) -> None:
        """Ends a component by its name in `status`: apiserver, scheduler, controller-manager, proxy, etcd."""
        self._services.stop(name, first=signal.SIGKILL if kill else signal.SIGTERM)

    def start_component(self, name: str) -> None:
        """Starts a component that was stopped; returns when the API server answers."""
        self._services.start(name)
        self._wait(name, control_plane.Api(self._layout).ready)

    def list_files(self, folder: PurePosixPath | str) -> list[str]:
        """The names in a folder of the node, sorted; none when there is no such folder."""
        try:
            return sorted(path.name for path in Path(folder).iterdir())
        except FileNotFoundError:
            return []

    def read_file(self, path: PurePosixPath | str) -> bytes:
        """The content of a file of the node; FileNotFoundError when there is none."""
        return Path(path).read_bytes()

    def write_file(self, path: PurePosixPath | str, content: bytes) -> None:
        """Writes a file of the node, in place."""
        Path(path).write_bytes(content)

    def remove_files(self, *paths: PurePosixPath | str) -> None:
        """Removes files of the node; what is not there is not missed."""
        for path in paths:
            Path(path).unlink(missing_ok=True)

    def _run(self, command: Sequence[str], *, timeout: float = 60.0, stdin: bytes = b"") -> bytes:
        environment = {
            **os.environ,
            "PATH": build.search_path(self._record.settings.kubernetes),
            "CONTAINERD_ADDRESS": str(self._layout.containerd_socket),
        }
        enter = ["nsenter", f"--net=/run/netns/{self._layout.namespace}"]
        holder = self._services.identity("containerd")
        if self._record.settings.laid_over and holder is not None:
            enter += laid_over.enter(holder.pid)
        return _checked([*enter, "--", *command], environment=environment, timeout=timeout, stdin=stdin)

    def _kubelet_answers(self) -> bool:
        """Whether the kubelet serves and knows its pods again, which it learns a moment later."""
        api = control_plane.Api(self._layout)
        kubelet = f"/api/v1/nodes/{NODE_NAME}/proxy"
        if api.text(f"{kubelet}/healthz") != "ok":
            return False
        expected = api.get(f"/api/v1/pods?fieldSelector=spec.nodeName={NODE_NAME}") or {}
        known = api.get(f"{kubelet}/pods") or {}
        return bool(known.get("items")) or not expected.get("items")

    def _wait(self, component: str, condition: Callable[[], bool]) -> None:
        if not wait_until(condition, seconds=_PATIENCE):
            raise ClusterError(
                f"{component} does not answer {_PATIENCE:g} s after its start; the last that it said was:\n"
                f"{self._services.log_tail(component)}"
            )


class DockerExecNode(_CommandNode):
    """A node of kind, reached by ``docker exec``. Not tried: see this module's limits."""

    kubelet_root = PurePosixPath("/var/lib/kubelet")
    cdi_folder = PurePosixPath("/var/run/cdi")
    state_root = PurePosixPath("/var/lib")

    def __init__(self, container: str) -> None:
        self._container = container

    @property
    def name(self) -> str:
        """The node's name in the cluster: kind names its containers so."""
        return self._container

    def start_kubelet(self) -> None:
        """Starts the kubelet unless it runs."""
        self.run("systemctl", "start", "kubelet")

    def stop_kubelet(self) -> None:
        """Ends the kubelet in good order and waits until it is gone."""
        self.run("systemctl", "stop", "kubelet")

    def kill_kubelet(self) -> None:
        """Kills the kubelet with SIGKILL; it stays away, as on the local node."""
        self.run("systemctl", "kill", "--signal=KILL", "kubelet")
        self.run("systemctl", "stop", "kubelet")

    def restart_kubelet(self) -> None:
        """Ends and starts the kubelet."""
        self.run("systemctl", "restart", "kubelet")

    def restart_containerd(self) -> None:
        """Ends and starts containerd. Containers go on."""
        self.run("systemctl", "restart", "containerd")

    def list_files(self, folder: PurePosixPath | str) -> list[str]:
        """The names in a folder of the node, sorted; none when there is no such folder."""
        quoted = shlex.quote(str(folder))
        return sorted(self.run("sh", "-c", f"if [ -d {quoted} ]; then ls -A {quoted}; fi").splitlines())

    def read_file(self, path: PurePosixPath | str) -> bytes:
        """The content of a file of the node; FileNotFoundError when there is none."""
        quoted = shlex.quote(str(path))
        if self.run("sh", "-c", f"if [ -f {quoted} ]; then echo yes; fi").strip() != "yes":
            raise FileNotFoundError(str(path))
        return self._run(["cat", str(path)])

    def write_file(self, path: PurePosixPath | str, content: bytes) -> None:
        """Writes a file of the node, in place."""
        self._run(["sh", "-c", f"cat > {shlex.quote(str(path))}"], stdin=content)

    def remove_files(self, *paths: PurePosixPath | str) -> None:
        """Removes files of the node; what is not there is not missed."""
        if paths:
            self.run("rm", "-f", "--", *map(str, paths))

    def _run(self, command: Sequence[str], *, timeout: float = 60.0, stdin: bytes = b"") -> bytes:
        enter = ["docker", "exec", "--interactive", self._container]
        return _checked([*enter, *command], environment=dict(os.environ), timeout=timeout, stdin=stdin)


class NoNode:
    """A cluster whose node cannot be touched: every operation raises `NotAvailable`."""

    def __init__(self, why: str = "the node of this cluster cannot be touched from here") -> None:
        self._why = why

    @property
    def name(self) -> str:
        """Not known."""
        self._refuse()

    @property
    def kubelet_root(self) -> PurePosixPath:
        """Not known."""
        self._refuse()

    @property
    def cdi_folder(self) -> PurePosixPath:
        """Not known."""
        self._refuse()

    @property
    def state_root(self) -> PurePosixPath:
        """Not known."""
        self._refuse()

    def start_kubelet(self) -> None:
        """Raises NotAvailable."""
        self._refuse()

    def stop_kubelet(self) -> None:
        """Raises NotAvailable."""
        self._refuse()

    def kill_kubelet(self) -> None:
        """Raises NotAvailable."""
        self._refuse()

    def restart_kubelet(self) -> None:
        """Raises NotAvailable."""
        self._refuse()

    def restart_containerd(self) -> None:
        """Raises NotAvailable."""
        self._refuse()

    def list_files(self, folder: PurePosixPath | str) -> list[str]:  # noqa: ARG002
        """Raises NotAvailable."""
        self._refuse()

    def read_file(self, path: PurePosixPath | str) -> bytes:  # noqa: ARG002
        """Raises NotAvailable."""
        self._refuse()

    def write_file(self, path: PurePosixPath | str, content: bytes) -> None:  # noqa: ARG002
        """Raises NotAvailable."""
        self._refuse()

    def remove_files(self, *paths: PurePosixPath | str) -> None:  # noqa: ARG002
        """Raises NotAvailable."""
        self._refuse()

    def run(self, *command: str, timeout: float = 60.0) -> str:  # noqa: ARG002
        """Raises NotAvailable."""
        self._refuse()

    def container_pids(self, *, pod_uid: str, container: str) -> list[int]:  # noqa: ARG002
        """Raises NotAvailable."""
        self._refuse()

    def signal(self, pid: int, number: signal.Signals) -> None:  # noqa: ARG002
        """Raises NotAvailable."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotAvailable(self._why)


def _checked(command: list[str], *, environment: dict[str, str], timeout: float, stdin: bytes) -> bytes:
    done = subprocess.run(
        command, env=environment, input=stdin, capture_output=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        raise ClusterError(
            f"`{shlex.join(command)}` failed on the node ({done.returncode}): "
            f"{done.stderr.decode(errors='replace').strip()}"
        )
    return done.stdout
