"""What a cluster leaves outside its own folders, and how it is undone.

Purpose: ``down`` leaves the machine as ``up`` found it.
Flow: before the first cluster starts, `remember` notes which shared folders existed and what the kernel
settings were that a kubelet changes; after the last one ended, `forget` puts them back. What belongs to one
cluster alone (mounts, sockets of its shims, results of its CNI calls, links to its logs) goes with that
cluster.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

from tooling.cluster.errors import ClusterError
from tooling.cluster.paths import NODE_ROOTS, Layout

_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_SHARED_FOLDERS = (
    "/run/netns",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/log/pods",
    "/run/containerd",
    "/opt/cni",
)
_SHIM_SOCKETS = Path("/run/containerd/s")
_CNI_RESULTS = Path("/var/lib/cni/results")
_NAMESPACES = Path("/run/netns")
_LOG_LINKS = Path("/var/log/containers")


def remember(path: Path) -> None:
    """Notes the state of the machine in `path`, unless a cluster that still is there has done so."""
    if path.exists() and any(NODE_ROOTS.glob("dragoman-[0-9]*/owner")):
        return
    settings = {name: _read(Path("/proc/sys") / name) for name in _SETTINGS}
    found = {
        "settings": {name: value for name, value in settings.items() if value is not None},
        "folders": [folder for folder in _SHARED_FOLDERS if Path(folder).exists()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))


def forget(path: Path) -> None:
    """Puts the machine's state back as noted in `path`, once no cluster is left."""
    if not path.exists() or any(NODE_ROOTS.glob("dragoman-[0-9]*/owner")):
        return
    before = json.loads(path.read_text())
    for name, value in before["settings"].items():
        with contextlib.suppress(OSError):
            (Path("/proc/sys") / name).write_text(value)
    for folder in set(_SHARED_FOLDERS) - set(before["folders"]):
        _remove_shared(Path(folder))
    path.unlink()


def _remove_shared(folder: Path) -> None:
    """Removes a folder that the clusters brought, unless somebody else put something into it meanwhile."""
    if not folder.is_dir():
        return
    if folder == _NAMESPACES:
        # `ip netns` mounts the folder on itself. Another's namespace in it keeps it.
        if any(folder.iterdir()):
            return
        unmount_below(folder)
    if not mounts_below(folder):
        shutil.rmtree(folder)


def remove_own(layout: Layout) -> None:
    """Removes what one cluster left in shared places: after its processes, before its own folders."""
    for socket in shim_sockets(layout):
        socket.unlink(missing_ok=True)
    for result in network_results(layout):
        result.unlink(missing_ok=True)
    if _LOG_LINKS.is_dir():
        for link in _LOG_LINKS.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(f"{layout.pod_logs}/"):
                link.unlink(missing_ok=True)


def shim_sockets(layout: Layout) -> list[Path]:
    """The sockets of the cluster's shims, as containerd noted them beside each container."""
    found: set[Path] = set()
    for noted in layout.containerd.glob("state/io.containerd.runtime.v2.task/*/*/bootstrap.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            socket = Path(str(json.loads(noted.read_text()).get("address", "")).removeprefix("unix://"))
            if socket.parent == _SHIM_SOCKETS:
                found.add(socket)
    return sorted(found)


def network_results(layout: Layout, *, folder: Path = _CNI_RESULTS) -> list[Path]:
    """What the CNI library noted about pods whose network namespace was the cluster's."""
    found: list[Path] = []
    for noted in folder.glob("*") if folder.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if str(json.loads(noted.read_text()).get("netns", "")).startswith(f"{layout.node_root}/"):
                found.append(noted)
    return sorted(found)


def mounts_below(folder: Path) -> list[str]:
    """All mount points at or below `folder`, the deepest first."""
    found: list[str] = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = line.split()[1].encode().decode("unicode_escape")
        if point == str(folder) or point.startswith(f"{folder}/"):
            found.append(point)
    return sorted(found, reverse=True)


def unmount_below(folder: Path) -> None:
    """Unmounts all at or below `folder`."""
    for point in mounts_below(folder):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
    left = mounts_below(folder)
    if left:
        raise ClusterError(
            f"{left[0]} cannot be unmounted, so {folder} is not removed",
            remedy="Unmount it by hand and run `hack/cluster down` again.",
        )


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
