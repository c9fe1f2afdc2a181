"""A cluster for tests: start one, use its kubeconfig and its node, stop it.

Use: ``cluster = api.start(name=api.unique_name("restart"))``, then ``cluster.kubeconfig``, ``cluster.node``,
``cluster.environment`` (for kubectl and helm), and ``api.stop(cluster.name)`` in the end, whatever happened.
Limits: root and Linux, as `tooling.cluster.machine.missing` says in sentences.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tooling.cluster import build, containerd, control_plane, lifecycle
from tooling.cluster.errors import ClusterError
from tooling.cluster.node_access import LocalNode
from tooling.cluster.paths import Layout, check_name
from tooling.cluster.progress import Report, silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFAULT_NAME = "dragoman"

__all__ = [
    "DEFAULT_NAME",
    "Cluster",
    "ClusterError",
    "LocalNode",
    "alone",
    "attach",
    "beside",
    "exchange",
    "start",
    "stop",
    "unique_name",
]


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up."""

    record: lifecycle.Record

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.record.name

    @property
    def kubernetes(self) -> str:
        """The Kubernetes version, such as ``1.36.3``."""
        return self.record.settings.kubernetes

    @property
    def layout(self) -> Layout:
        """All paths and addresses."""
        return self.record.layout

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it works from the machine itself."""
        return self.layout.kubeconfig

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.layout.server

    @property
    def node(self) -> LocalNode:
        """The node, to be touched."""
        return LocalNode(self.record)

    @property
    def environment(self) -> dict[str, str]:
        """KUBECONFIG, a PATH with kubectl, helm and ctr, and the address that ctr wants."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": build.search_path(self.kubernetes),
            "CONTAINERD_ADDRESS": str(self.layout.containerd_socket),
            "CONTAINERD_NAMESPACE": "k8s.io",
        }

    def program(self, name: str) -> Path:
        """Where a program of the cluster lies: kubectl, helm, ctr and the components."""
        for tool in build.tools_of(self.kubernetes):
            if name in tool.programs:
                return build.folder_of(tool) / name
        raise ClusterError(f"the cluster has no program {name!r}")

    def load_image(self, image: Path) -> list[str]:
        """Makes an image tar known to the node; returns the names under which pods ask for it."""
        return containerd.load(self.layout, ctr=self.program("ctr"), image=image)

    def ready(self) -> bool:
        """Whether the API server answers and the node runs pods."""
        try:
            return control_plane.Api(self.layout).node_ready()
        except FileNotFoundError:
            # It is being made, or removed, by another process just now.
            return False


def start(
    *,
    name: str = DEFAULT_NAME,
    kubernetes: str = build.DEFAULT_KUBERNETES,
    feature_gates: Mapping[str, bool] | None = None,
    api_arguments: Sequence[str] = (),
    laid_over: Path | None = None,
    report: Report = silent,
) -> Cluster:
    """Starts a cluster (building what is missing), or finds the same one up already."""
    settings = lifecycle.Settings(
        kubernetes=kubernetes,
        feature_gates=dict(feature_gates or {}),
        api_arguments=list(api_arguments),
        laid_over="" if laid_over is None else str(laid_over),
    )
    return Cluster(lifecycle.start(name, settings=settings, report=report))


def stop(name: str = DEFAULT_NAME) -> bool:
    """Ends a cluster and removes all of it, even a start that broke off; false when there was none."""
    return lifecycle.stop(name)


def attach(name: str = DEFAULT_NAME) -> Cluster | None:
    """The cluster of that name if it is there, whoever started it."""
    record = lifecycle.load(name)
    return None if record is None else Cluster(record)


def exchange(
    cluster: Cluster,
    *,
    kubernetes: str,
    components: Sequence[str] = (*lifecycle.CONTROL_PLANE, *lifecycle.NODE),
    report: Report = silent,
) -> Cluster:
    """Upgrades components in place, one after the other: same etcd, same containerd, pods run on."""
    return Cluster(
        lifecycle.exchange(cluster.name, kubernetes=kubernetes, components=components, report=report)
    )


def beside(cluster: Cluster, *, kubernetes: str, found: bool, report: Report = silent) -> str:
    """Starts a second API server, of another release, on the same etcd; returns its URL.

    With `found` pods find it by the Service `kubernetes`, as the first; otherwise only who knows the URL.
    """
    return lifecycle.beside(cluster.name, kubernetes=kubernetes, found=found, report=report)


def alone(cluster: Cluster) -> None:
    """Ends the second API server."""
    lifecycle.alone(cluster.name)


def unique_name(purpose: str) -> str:
    """A name for a cluster that no other run uses."""
    return check_name(f"{purpose}-{secrets.token_hex(3)}")
