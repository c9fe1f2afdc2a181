"""Keys, certificates and kubeconfigs, made by openssl: one authority for each cluster, no unchecked side."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tooling.cluster.errors import ClusterError
from tooling.cluster.paths import NODE_NAME, Layout

SERVICE_ADDRESS = "10.96.0.1"
_DAYS = "365"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whom a certificate names; with `addresses` it is a server, else a client in `group`."""

    file: str
    common_name: str
    group: str = ""
    addresses: tuple[str, ...] = ()


def create(layout: Layout) -> None:
    """Makes the authority, all certificates, the key of the service accounts, and the kubeconfigs."""
    folder = layout.certificates
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _key(folder / "sa.key")
    _openssl("pkey", "-in", str(folder / "sa.key"), "-pubout", "-out", str(folder / "sa.pub"))
    _authority(folder)
    for subject in _subjects(layout):
        _sign(folder, subject)
    _kubeconfig(layout, user="admin", to=layout.kubeconfig)
    for user in ("controller-manager", "scheduler", "kubelet", "proxy"):
        _kubeconfig(layout, user=user, to=layout.configs / f"{user}.kubeconfig")


def _subjects(layout: Layout) -> list[Subject]:
    kubernetes = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    server = ("localhost", *kubernetes, "kubernetes.default.svc.cluster.local")
    addresses = ("127.0.0.1", SERVICE_ADDRESS, layout.node_address, layout.second_address)
    return [
        Subject(file="apiserver", common_name="kube-apiserver", addresses=(*server, *addresses)),
        Subject(
            file="kubelet-server",
            common_name=f"system:node:{NODE_NAME}",
            addresses=(NODE_NAME, layout.node_address, "127.0.0.1"),
        ),
        Subject(file="apiserver-kubelet-client", common_name="kube-apiserver", group="system:masters"),
        Subject(file="admin", common_name="admin", group="system:masters"),
        Subject(file="controller-manager", common_name="system:kube-controller-manager"),
        Subject(file="scheduler", common_name="system:kube-scheduler"),
        Subject(file="proxy", common_name="system:kube-proxy"),
        Subject(file="kubelet", common_name=f"system:node:{NODE_NAME}", group="system:nodes"),
    ]


def _authority(folder: Path) -> None:
    _key(folder / "ca.key")
    extensions = [
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
    ]
    added = [part for extension in extensions for part in ("-addext", extension)]
    _openssl(
        *("req", "-x509", "-new", "-key", str(folder / "ca.key"), "-subj", "/CN=dragoman-test-cluster"),
        *("-days", _DAYS, "-out", str(folder / "ca.crt"), *added),
    )


def _sign(folder: Path, subject: Subject) -> None:
    base = folder / subject.file
    key, request, extensions = (str(base.with_name(base.name + end)) for end in (".key", ".csr", ".ext"))
    _key(Path(key))
    organisation = f"/O={subject.group}" if subject.group else ""
    _openssl("req", "-new", "-key", key, "-subj", f"{organisation}/CN={subject.common_name}", "-out", request)
    names = ",".join(f"{'IP' if one[0].isdigit() else 'DNS'}:{one}" for one in subject.addresses)
    lines = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        f"extendedKeyUsage={'serverAuth' if names else 'clientAuth'}",
        *([f"subjectAltName={names}"] if names else []),
    ]
    Path(extensions).write_text("\n".join(lines) + "\n")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")),
        *(
            "-CAcreateserial",
            "-days",
            _DAYS,
            "-extfile",
            extensions,
            "-out",
            str(folder / f"{subject.file}.crt"),
        ),
    )
    Path(request).unlink()
    Path(extensions).unlink()


def _kubeconfig(layout: Layout, *, user: str, to: Path) -> None:
    folder = layout.certificates
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": layout.folder.name,
                "cluster": {
                    "server": layout.server,
                    "certificate-authority-data": _encoded(folder / "ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _encoded(folder / f"{user}.crt"),
                    "client-key-data": _encoded(folder / f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": layout.folder.name, "context": {"cluster": layout.folder.name, "user": user}}],
        "current-context": layout.folder.name,
    }
    to.parent.mkdir(parents=True, exist_ok=True)
    to.touch(mode=0o600)
    to.write_text(json.dumps(document, indent=1))


def _key(path: Path) -> None:
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(path))


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
