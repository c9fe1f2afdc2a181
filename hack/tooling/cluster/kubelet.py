"""The kubelet: its config and how it is started.

Limits: pods' resources are not enforced for the node as a whole, swap is allowed, images are never collected.
The device plugin folder (/var/lib/kubelet/device-plugins) cannot be moved and is shared by all kubelets of a
machine; DRA does not use it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tooling.cluster.paths import NODE_NAME, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping


def configure(layout: Layout, *, kubernetes: str, gates: Mapping[str, bool]) -> list[str]:
    """Writes the kubelet's config and returns the command that starts it. containerd must answer before."""
    for folder in (layout.kubelet_root, layout.pod_logs):
        folder.mkdir(parents=True, exist_ok=True)
    config = layout.configs / "kubelet.json"
    config.write_text(json.dumps(_document(layout, kubernetes=kubernetes, gates=gates), indent=1))
    return [
        "kubelet",
        f"--config={config}",
        f"--kubeconfig={layout.configs / 'kubelet.kubeconfig'}",
        f"--root-dir={layout.kubelet_root}",
        f"--cert-dir={layout.kubelet_root / 'pki'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={layout.node_address}",
    ]


def _document(layout: Layout, *, kubernetes: str, gates: Mapping[str, bool]) -> dict[str, object]:
    pki = layout.certificates
    document: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "podLogsDir": str(layout.pod_logs),
        "volumePluginDir": str(layout.node_root / "volume-plugins"),
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 100,
        "eventBurst": 200,
        "featureGates": dict(gates),
    }
    if int(kubernetes.split(".")[1]) >= 35:
        # From 1.35 on the kubelet refuses control groups of version 1 unless told otherwise.
        document["failCgroupV1"] = False
    return document
