"""Where everything lies: the tree, the cache outside it, a folder for each cluster, and the node's root.

Limits: a unix socket's path has at most 107 bytes and the kubelet's plugin sockets carry a pod's UID in their
names (about 60 bytes), so the node's root is short: ``/var/lib/dragoman-N``, N being the cluster's number.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tooling.cluster.errors import ClusterError

REPOSITORY = Path(__file__).resolve().parents[3]
GO_MODULES = REPOSITORY / "hack" / "go"
NODE_ROOTS = Path("/var/lib")
NODE_NAME = "node-1"
MOST_CLUSTERS = 200

_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")


def cache() -> Path:
    """The folder that outlives runs: ``DRAGOMAN_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("DRAGOMAN_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dragoman"


def check_name(name: str) -> str:
    """Returns `name` when it can name a cluster; refuses it otherwise."""
    if not _NAME.match(name):
        raise ClusterError(
            f"{name!r} cannot name a cluster",
            remedy="Use at most 40 lower-case letters, digits and dashes, with no dash at either end.",
        )
    return name


def cluster_folder(name: str) -> Path:
    """Where a cluster's certificates, logs and pid files lie."""
    return cache() / "clusters" / check_name(name)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Every path and address of one cluster, made from its name's folder and its number alone."""

    folder: Path
    number: int

    @property
    def certificates(self) -> Path:
        """Keys and certificates."""
        return self.folder / "pki"

    @property
    def configs(self) -> Path:
        """Config files and kubeconfigs of the components."""
        return self.folder / "config"

    @property
    def logs(self) -> Path:
        """One log for each component."""
        return self.folder / "logs"

    @property
    def processes(self) -> Path:
        """How each component is started, and its pid."""
        return self.folder / "processes"

    @property
    def record(self) -> Path:
        """What the cluster was started with."""
        return self.folder / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's way in."""
        return self.folder / "kubeconfig"

    @property
    def node_root(self) -> Path:
        """All that is the node's own, below /var/lib as on a real one."""
        return NODE_ROOTS / f"dragoman-{self.number}"

    @property
    def kubelet_root(self) -> Path:
        """The kubelet's --root-dir: plugins, plugins_registry, pods, pod-resources."""
        return self.node_root / "kubelet"

    @property
    def cdi(self) -> Path:
        """The folder from which containerd reads CDI specs."""
        return self.node_root / "cdi"

    @property
    def pod_logs(self) -> Path:
        """Where containerd writes the containers' logs."""
        return self.node_root / "pod-logs"

    @property
    def containerd(self) -> Path:
        """Folders of containerd and runc."""
        return self.node_root / "containerd"

    @property
    def containerd_socket(self) -> Path:
        """Where ctr and the kubelet reach containerd."""
        return self.node_root / "containerd.sock"

    @property
    def namespace(self) -> str:
        """The name of the network namespace."""
        return f"dragoman-{self.number}"

    @property
    def cgroup(self) -> str:
        """The control group below which all processes and pods of the cluster are."""
        return f"dragoman-{self.number}"

    @property
    def host_device(self) -> str:
        """The end of the cable that stays in the machine's own namespace."""
        return f"dragoman-{self.number}"

    @property
    def node_address(self) -> str:
        """The node's address, reached from the machine's own namespace too."""
        return f"10.200.{self.number}.1"

    @property
    def host_address(self) -> str:
        """The machine's address on the cable to the node."""
        return f"10.200.{self.number}.2"

    @property
    def second_address(self) -> str:
        """Another address of the node, for a second API server."""
        return f"10.200.{self.number}.3"

    @property
    def pod_subnet(self) -> str:
        """The pods' addresses, reached from the machine's own namespace too."""
        return f"10.244.{self.number}.0/24"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.node_address}:6443"
