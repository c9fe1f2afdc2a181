"""A folder that is laid over the root of a node, so that the node has files and devices of another machine.

Purpose: a node with cards that this machine does not have: device nodes, sysfs, the vendors' programs. What
is in the folder is seen at the same path by the node's containerd, its kubelet and every container that has
the node's root; the machine itself and other clusters see nothing of it.

Flow: `holder` starts containerd in a mount namespace of its own, with overlays of the folder; `member` starts
another component, and `enter` runs a command, in the namespace of the running containerd.
Limits: overlays are read-only. Nothing can be laid over control groups (`/sys/fs`). The namespace lives as
long as containerd: when that starts again, the kubelet has to, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tooling.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEVER = ("/proc", "/run", "/tmp", "/var", "/sys/fs")  # noqa: S108 - names of folders
# Arguments: the folder; where the machine's own folders stay mounted; how many paths follow; they; a command.
_LAY_OVER = """\
set -e
folder=$1 kept=$2 paths=$3
shift 3
while [ "$paths" -gt 0 ]; do
    below=
    while read -r _ _ _ _ at _; do
        case $at in "$1"/*) below="$below $at";; esac
    done < /proc/self/mountinfo
    mkdir -p "$kept$1"
    mount --rbind "$1" "$kept$1"
    mount -t overlay -o "lowerdir=$folder$1:$kept$1" laid-over "$1"
    for at in $below; do mount --rbind "$kept$at" "$at"; done
    shift
    paths=$((paths - 1))
done
# As systemd makes it: what the node mounts later is seen in containers that ask for that.
mount --make-rshared /
exec "$@"
"""
_JOIN = """\
pid=$(sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p' "$1")
shift
exec nsenter --mount="/proc/$pid/ns/mnt" -- "$@"
"""


def holder(command: Sequence[str], *, folder: Path, kept: Path) -> list[str]:
    """The command that lays the folder over and then becomes `command`.

    Raises:
        ClusterError: Something in the folder cannot be laid over.
    """
    paths = [str(path) for path in _paths(folder)]
    script = ["/bin/sh", "-c", _LAY_OVER, "sh", str(folder), str(kept), str(len(paths)), *paths]
    return ["unshare", "--mount", "--propagation", "private", *script, *command]


def member(command: Sequence[str], *, of: Path) -> list[str]:
    """The command that joins the process whose pid file is `of`, and then becomes `command`."""
    return ["/bin/sh", "-c", _JOIN, "sh", str(of), *command]


def enter(pid: int) -> list[str]:
    """Arguments of nsenter for the namespace that the process holds."""
    return [f"--mount=/proc/{pid}/ns/mnt"]


def _paths(folder: Path) -> list[Path]:
    found = []
    for top in sorted(folder.iterdir()):
        below = sorted(top.iterdir()) if top.name == "sys" else [top]
        found += [Path("/") / path.relative_to(folder) for path in below]
    for path in found:
        if str(path) in _NEVER or not path.is_dir():
            raise ClusterError(
                f"nothing can be laid over {path}",
                remedy=f"Leave out {', '.join(_NEVER)}, and folders that this machine does not have.",
            )
    return found
