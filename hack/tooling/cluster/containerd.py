"""containerd on the node: its config with CDI, the pods' network, and loading images.

Limits: runc and the CNI plugins are Debian's. One network (a bridge) for all pods of the node.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

from tooling.cluster.errors import ClusterError
from tooling.cluster.images import PAUSE
from tooling.cluster.machine import CNI_PLUGINS

if TYPE_CHECKING:
    from pathlib import Path

    from tooling.cluster.paths import Layout

_CONFIG = """\
version = 3
root = "{root}/root"
state = "{root}/state"
# Neither is needed, and both would use paths that all clusters of a machine share.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
address = "{socket}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
cdi_spec_dirs = ["{cdi}"]
# Without CAP_SYS_RESOURCE (a container, a small virtual machine) no sandbox could lower its score.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{cni_plugins}"]
conf_dir = "{cni}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{root}/runc"
"""


def configure(layout: Layout) -> list[str]:
    """Writes the config and the pods' network; returns the command that starts containerd."""
    cni = layout.configs / "cni"
    for folder in (cni, layout.cdi, layout.containerd):
        folder.mkdir(parents=True, exist_ok=True)
    config = layout.configs / "containerd.toml"
    config.write_text(
        _CONFIG.format(
            root=layout.containerd,
            socket=layout.containerd_socket,
            pause=PAUSE,
            cdi=layout.cdi,
            cni=cni,
            cni_plugins=CNI_PLUGINS,
        )
    )
    (cni / "10-bridge.conflist").write_text(json.dumps(_network(layout), indent=1))
    return ["containerd", "--config", str(config)]


def _network(layout: Layout) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(layout.node_root / "addresses"),
            "ranges": [[{"subnet": layout.pod_subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": layout.namespace, "plugins": [bridge, portmap]}


def ready(layout: Layout, *, ctr: Path) -> bool:
    """Whether containerd answers on its socket."""
    if not layout.containerd_socket.exists():
        return False
    return _ctr(layout, ctr, "version").returncode == 0


def load(layout: Layout, *, ctr: Path, image: Path) -> list[str]:
    """Imports an image tar for the kubelet's use; returns the names of the images."""
    if not image.is_file():
        raise ClusterError(
            f"{image} does not exist", remedy="Make the image first (hack/image) and name its tar."
        )
    if not tarfile.is_tarfile(image):
        raise ClusterError(
            f"{image} is not a tar", remedy="Make the image anew (hack/image) and name its tar."
        )
    done = _ctr(layout, ctr, "images", "import", "--local", "--all-platforms", str(image))
    if done.returncode != 0:
        raise ClusterError(f"{image} cannot be imported: {done.stderr.strip() or done.stdout.strip()}")
    return _names(image)


def _names(image: Path) -> list[str]:
    """The names that an image tar gives its images, by the index of its layout."""
    with tarfile.open(image) as tar:
        file = tar.extractfile("index.json") if "index.json" in tar.getnames() else None
        index = json.load(file) if file is not None else {}
    found = (one.get("annotations", {}).get("io.containerd.image.name") for one in index.get("manifests", []))
    return [name for name in found if name]


def _ctr(layout: Layout, ctr: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ctr), "--address", str(layout.containerd_socket), "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
