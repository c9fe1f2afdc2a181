"""How etcd, API server, controller manager, scheduler and kube-proxy are started, and when they answer.

Limits: one of each, but for a second API server of another release beside the first; no leader election;
etcd does not sync to disk (a test cluster's data may be lost with the power).
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

from tooling.cluster.certificates import SERVICE_ADDRESS
from tooling.cluster.paths import NODE_NAME, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVICE_SUBNET = SERVICE_ADDRESS.rsplit(".", 1)[0].rsplit(".", 1)[0] + ".0.0/16"
_ETCD = "http://127.0.0.1:2379"


def feature_gates(gates: Mapping[str, bool]) -> list[str]:
    """The flag that sets feature gates, none when there are none to set."""
    pairs = ",".join(f"{name}={str(on).lower()}" for name, on in sorted(gates.items()))
    return [f"--feature-gates={pairs}"] if pairs else []


def etcd(layout: Layout) -> list[str]:
    """How etcd is started."""
    peer = "http://127.0.0.1:2380"
    return [
        "etcd",
        "--name=one",
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=one={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(layout: Layout, *, gates: Mapping[str, bool], more: Sequence[str]) -> list[str]:
    """How the API server is started; `more` comes last and so overrides."""
    pki = layout.certificates
    return [
        "kube-apiserver",
        f"--etcd-servers={_ETCD}",
        "--secure-port=6443",
        f"--advertise-address={layout.node_address}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICE_SUBNET}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        # Webhooks that are named by a Service reach its endpoints without kube-proxy.
        "--enable-aggregator-routing=true",
        *feature_gates(gates),
        *more,
    ]


def beside(layout: Layout, *, found: bool) -> tuple[list[str], str]:
    """What the second API server of the same etcd is told besides, and its URL.

    Args:
        layout: Of the cluster.
        found: Whether pods find it by the Service `kubernetes`, as the first one: then it has an address of
            its own, and the first one must not listen on all addresses. Otherwise only who knows its port.
    """
    if found:
        address = layout.second_address
        return [f"--bind-address={address}", f"--advertise-address={address}"], f"https://{address}:6443"
    port = 6444
    more = [f"--secure-port={port}", "--endpoint-reconciler-type=none"]
    return more, f"https://{layout.node_address}:{port}"


def controller_manager(layout: Layout, *, gates: Mapping[str, bool]) -> list[str]:
    """How the controller manager is started."""
    pki = layout.certificates
    config = f"{layout.configs / 'controller-manager.kubeconfig'}"
    return [
        "kube-controller-manager",
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        *feature_gates(gates),
    ]


def scheduler(layout: Layout, *, gates: Mapping[str, bool]) -> list[str]:
    """How the scheduler is started; writes its config."""
    kubeconfig = str(layout.configs / "scheduler.kubeconfig")
    config = layout.configs / "scheduler.json"
    document = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 200, "burst": 400},
    }
    config.write_text(json.dumps(document, indent=1))
    return [
        "kube-scheduler",
        f"--config={config}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        *feature_gates(gates),
    ]


def proxy(layout: Layout, *, gates: Mapping[str, bool]) -> list[str]:
    """How kube-proxy is started; writes its config."""
    config = layout.configs / "proxy.json"
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": layout.pod_subnet,
        "hostnameOverride": NODE_NAME,
        "clientConnection": {"kubeconfig": str(layout.configs / "proxy.kubeconfig")},
        # The sysctl is read-only in a network namespace of one's own.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "featureGates": dict(gates),
    }
    config.write_text(json.dumps(document, indent=1))
    return ["kube-proxy", f"--config={config}"]


class Api:
    """The few questions that starting and showing a cluster asks its API server, as the administrator."""

    def __init__(self, layout: Layout, *, server: str = "") -> None:
        self._server = server or layout.server
        pki = layout.certificates
        self._trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._trust.load_cert_chain(str(pki / "admin.crt"), str(pki / "admin.key"))

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at `path`; none when it is not there or nobody answers."""
        text = self.text(path)
        return None if text is None else json.loads(text)

    def text(self, path: str) -> str | None:
        """What the server answers at `path`; none when that is an error or nobody answers."""
        try:
            with self._open(path) as answer:
                return str(answer.read().decode())
        except (OSError, http.client.HTTPException):
            # The second where it ended in the middle of its answer.
            return None

    def ready(self) -> bool:
        """Whether the API server serves."""
        return self.text("/readyz") == "ok"

    def node_ready(self) -> bool:
        """Whether the node runs pods: its Ready condition is true and nothing taints it."""
        node = self.get(f"/api/v1/nodes/{NODE_NAME}")
        if node is None or node["spec"].get("taints"):
            return False
        conditions = node["status"].get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def kubelet(self) -> str:
        """The version that the node's kubelet told last, such as ``v1.36.3``; "" when it told none."""
        node = self.get(f"/api/v1/nodes/{NODE_NAME}") or {}
        return str(node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", ""))

    def accepts_pods(self) -> bool:
        """Whether a pod can be made in the default namespace: its service account and the CA are there."""
        namespace = "/api/v1/namespaces/default"
        return (
            self.get(f"{namespace}/serviceaccounts/default") is not None
            and self.get(f"{namespace}/configmaps/kube-root-ca.crt") is not None
        )

    def _open(self, path: str) -> Any:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._trust)
        )
        return opener.open(self._server + path, timeout=5)
