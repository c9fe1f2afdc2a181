"""Which cluster the tests run on, and whether its node can be touched.

Flow: the environment that `hack/test` and `hack/kind` set -> a kubeconfig, a way to the node, and the
programs helm and kubectl.

    DRAGOMAN_CLUSTER        name of a cluster that `hack/cluster up` started on this machine; where tests run
                            in several processes (pytest-xdist), one for each, with commas between
    DRAGOMAN_KUBECONFIG     any other cluster; then also:
    DRAGOMAN_NODE_CONTAINER   the node is a container that `docker exec` reaches
    DRAGOMAN_IMAGE            repository:tag of the image that this cluster has already
    DRAGOMAN_INSTALLED      set to try single tests again and again on what the last run installed
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.support.api import Api
from tooling.cluster import api as clusters
from tooling.cluster.node_access import DockerExecNode, NodeAccess, NoNode

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Target:
    """A cluster for the tests."""

    api: Api
    kubeconfig: Path
    node: NodeAccess
    own: clusters.Cluster | None = None

    @property
    def has_node(self) -> bool:
        """Whether the node can be touched."""
        return not isinstance(self.node, NoNode)

    def program(self, name: str) -> str:
        """Where helm or kubectl lies."""
        if self.own is not None:
            return str(self.own.program(name))
        found = shutil.which(name)
        assert found, f"{name} is needed on the PATH to test a cluster given by DRAGOMAN_KUBECONFIG"
        return found

    def run(self, program: str, *arguments: str, timeout: float = 400.0) -> subprocess.CompletedProcess[str]:
        """Runs helm or kubectl against the cluster; the caller looks at the exit status."""
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        command = [self.program(program), *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def must(self, program: str, *arguments: str, timeout: float = 400.0) -> str:
        """The same, for a command that has to succeed; returns what it printed."""
        done = self.run(program, *arguments, timeout=timeout)
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def of_cluster(cluster: clusters.Cluster) -> Target:
    """A cluster that was started on this machine."""
    return Target(Api.from_kubeconfig(cluster.kubeconfig), cluster.kubeconfig, cluster.node, cluster)


def _of_this_process(names: Sequence[str], *, worker: str) -> str:
    number = int(worker.removeprefix("gw") or "0")
    assert number < len(names), f"{worker} has no cluster of its own: DRAGOMAN_CLUSTER names {len(names)}"
    return names[number]


def from_environment() -> Target:
    """The run's cluster; without one the test is reported as not run."""
    names = os.environ.get("DRAGOMAN_CLUSTER")
    if names:
        name = _of_this_process(names.split(","), worker=os.environ.get("PYTEST_XDIST_WORKER", ""))
        cluster = clusters.attach(name)
        assert cluster is not None, f"the cluster {name} is not up: hack/cluster --name {name} up"
        return of_cluster(cluster)
    kubeconfig = os.environ.get("DRAGOMAN_KUBECONFIG")
    if kubeconfig:
        container = os.environ.get("DRAGOMAN_NODE_CONTAINER")
        node: NodeAccess = DockerExecNode(container) if container else NoNode()
        return Target(Api.from_kubeconfig(Path(kubeconfig)), Path(kubeconfig), node)
    pytest.skip("no cluster: hack/test starts one, or set DRAGOMAN_CLUSTER or DRAGOMAN_KUBECONFIG")
