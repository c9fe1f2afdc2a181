"""The control groups of a cluster: processes in ``dragoman-N/processes``, pods in ``dragoman-N/kubepods``.

Purpose: two kubelets on one machine do not share a ``kubepods`` group, and whatever the cluster started,
however deep, is found and ended by its group, even when every pid file is lost.
Limits: knows version 1 (one tree for each controller) and version 2 (one tree) at /sys/fs/cgroup; tried on
version 1 only, for no machine with version 2 was at hand.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tooling.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")


def is_version_2(root: Path = ROOT) -> bool:
    """Whether the machine has the unified tree at `root`."""
    return (root / "cgroup.controllers").exists()


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The trees in which a group of the same name belongs to the same cluster."""
    if is_version_2(root):
        return [root]
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())


def create(name: str) -> Path:
    """Makes the cluster's groups; returns the file through which a process joins them."""
    for tree in hierarchies():
        group = tree / name
        group.mkdir(exist_ok=True)
        for part in ("cpuset.cpus", "cpuset.mems"):
            if (group / part).exists() and not is_version_2():
                (group / part).write_text((tree / part).read_text())
        if is_version_2():
            for folder in (tree, group):
                _hand_down(folder)
    leaf = _home() / name / "processes"
    leaf.mkdir(exist_ok=True)
    return leaf / "cgroup.procs"


def members(name: str) -> set[int]:
    """The pids of all processes in the cluster's groups, its containers' too."""
    found: set[int] = set()
    for tree in hierarchies():
        for folder in _below(tree / name):
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return found - {0, os.getpid()}


def kill_members(name: str, *, seconds: float = 60.0) -> int:
    """Kills what is left in the cluster's groups; returns how many processes that were."""
    killed: set[int] = set()
    until = time.monotonic() + seconds
    while pids := members(name):
        if time.monotonic() > until:
            raise ClusterError(
                f"processes {sorted(pids)} of the cluster do not end, not even by SIGKILL",
                remedy="They wait inside the kernel; start the machine again.",
            )
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= pids
        time.sleep(0.05)
    return len(killed)


def remove(name: str, *, seconds: float = 30.0) -> None:
    """Removes the cluster's groups, which must hold no process any more."""
    until = time.monotonic() + seconds
    for tree in hierarchies():
        for folder in reversed(list(_below(tree / name))):
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if time.monotonic() < until:
                        time.sleep(0.05)
                        continue
                    raise ClusterError(f"the control group {folder} is still in use ({error})") from error
                break


def _home() -> Path:
    """The tree in which processes are counted as the cluster's."""
    return ROOT if is_version_2() else ROOT / "pids"


def _hand_down(folder: Path) -> None:
    """Switches the controllers on for the groups below `folder`, those that the machine has."""
    for controller in _CONTROLLERS:
        with contextlib.suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _below(group: Path) -> Iterator[Path]:
    """`group` and all groups in it, parents first."""
    for folder, _, _ in os.walk(group):
        yield Path(folder)
