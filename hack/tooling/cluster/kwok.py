"""Thousands of nodes without machines: kwok beside a cluster of `hack/cluster`.

Purpose: how the scheduler, and our controller, do with 1,000 nodes on one machine. kwok plays the kubelet of
each node that carries its annotation: it says that the node is Ready, and runs pods there in word only. API
server, etcd, controller manager and scheduler are real; so is the cluster's first node, which kwok leaves
alone.
Flow: `start` builds kwok once and runs it as one more component of the cluster, so that whatever ends the
cluster ends it too; `node` is a Node for it to play.
Limits: nothing happens on such a node. No container runs, no claim is prepared, no agent finds cards.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tooling.cluster import build, lifecycle
from tooling.cluster.processes import Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tooling.cluster.api import Cluster
    from tooling.cluster.progress import Report

KWOK = build.Tool(
    name="kwok",
    version="0.7.0",
    module="kwok",
    programs={"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
    minutes=2,
)

MANAGED = {"kwok.x-k8s.io/node": "fake"}
"""The annotation of the nodes that kwok plays."""

LEASE_S = 200
"""Each Lease is renewed after a quarter of this. A kubelet does so every 10 s, which for 1,000 nodes is 100
writes in a second: more than all else on a small machine."""
_GRACE_S = 300


def start(cluster: Cluster, *, report: Report) -> None:
    """Runs kwok beside a cluster, and makes the controller manager as patient as kwok's nodes are slow."""
    folder = build.ensure(KWOK, report=report)
    services = lifecycle.services_of(cluster.layout)
    manager = services.definition("controller-manager")
    services.define(
        Service(
            name="kwok",
            command=[
                str(folder / "kwok"),
                f"--kubeconfig={cluster.kubeconfig}",
                f"--manage-nodes-with-annotation-selector={_selector(MANAGED)}",
                f"--node-lease-duration-seconds={LEASE_S}",
                # Addresses that are nobody's: for documentation, and private ones that no cluster here has.
                "--node-ip=192.0.2.1",
                "--cidr=172.16.0.1/12",
                # It logs each patch otherwise, which costs more than the patch.
                "--v=WARN",
            ],
            environment={**manager.environment},
            namespace=manager.namespace,
            cgroup_procs=manager.cgroup_procs,
            log=str(cluster.layout.logs / "kwok.log"),
        )
    )
    patience = f"--node-monitor-grace-period={_GRACE_S}s"
    if patience not in manager.command:
        services.define(replace(manager, command=[*manager.command, patience]))
        services.stop("controller-manager")
        services.start("controller-manager")
    services.start("kwok")


def node(name: str, *, labels: Mapping[str, str]) -> dict[str, Any]:
    """A Node for kwok to play: large, and with room for 110 pods as a kubelet's default is."""
    room = {"cpu": "96", "memory": "1Ti", "pods": "110"}
    return {
        "metadata": {
            "name": name,
            "annotations": dict(MANAGED),
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                **labels,
            },
        },
        "status": {"allocatable": room, "capacity": room},
    }


def _selector(annotations: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in annotations.items())
