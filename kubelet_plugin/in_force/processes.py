"""The processes of containers, found by their cgroups.

Purpose: container runtimes name a container's cgroup by its ID, in each of their ways to write it, on
cgroup v1, on v2, and where both are mounted. The path may be relative to the agent's own cgroup
(`/../../kubepods...`) and go on below the container's (programs that make cgroups of their own): the ID
stands in it all the same. A container that may make cgroups names them as it likes, also after another
container, so it is the ID nearest the root that counts: a runtime's name stands before whatever is below it.
On cgroup v1 a node that is itself a container has its own ID above `kubepods`, which does not count.

Flow: each round lists /proc and reads the cgroup of what is new; what was no container's twice is not asked
again until `FORGET_S` have passed, for numbers of processes are used again. Of those that are a container's
the time of the start is read in each round, so that what has their number by now is not taken for them.

Limits: at most `MAX_NEW` are read in a round, the rest in the next. Containers whose processes are not the
node's (virtual machines, gVisor) have none here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from driver.host import Host
from kubelet_plugin.process_times import MAX_STAT_BYTES, started_in

MAX_NEW = 4096
FORGET_S = 60.0
MAX_CGROUP_BYTES = 1 << 16

_ID = re.compile(r"[0-9a-f]{64}")
_ABOVE = re.compile(r"(?!/\.\./).*?/kubepods")
"""From the root to where the kubelet's part begins, in a path that is not relative to the agent's own."""

_SURE_AFTER = 2


class Process(NamedTuple):
    """A process: its number, and when it started, in the kernel's ticks."""

    pid: int
    started: str


class ProcessTable:
    """Which processes are in which containers.

    Args:
        host: The node, with its /proc.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._others: dict[int, int] = {}
        self._ours: dict[Process, str] = {}
        self._forgot_at = float("-inf")

    def of(self, containers: Collection[str], *, now: float) -> Mapping[str, tuple[Process, ...]]:
        """The processes of containers, lowest number first; those that are dead and not buried are none.

        Args:
            containers: IDs of the containers.
            now: Monotonic seconds.
        """
        if now - self._forgot_at >= FORGET_S:
            self._others.clear()
            self._forgot_at = now
        alive = {int(name) for name in self._host.list_dir("/proc") if name.isdecimal()}
        self._others = {pid: times for pid, times in self._others.items() if pid in alive}
        ours = {
            process: container
            for process, container in self._ours.items()
            if container in containers and process.pid in alive and self.lives(process)
        }
        known = {process.pid for process in ours}
        new = sorted(pid for pid in alive - known if self._others.get(pid, 0) < _SURE_AFTER)
        for pid in new[:MAX_NEW]:
            container = self._container_of(pid, containers)
            if container is None:
                # The runtime's own process becomes the container's when it is moved to its cgroup.
                self._others[pid] = self._others.get(pid, 0) + 1
                continue
            process = Process(pid, self._started(pid))
            # Asked again, since the number may have become another's before the time was read.
            if process.started and self._container_of(pid, containers) == container:
                ours[process] = container
        self._ours = ours
        found: dict[str, list[Process]] = {}
        for process, container in ours.items():
            found.setdefault(container, []).append(process)
        return {container: tuple(sorted(processes)) for container, processes in found.items()}

    def lives(self, process: Process) -> bool:
        """Whether it is there and still has its number."""
        return self._started(process.pid) == process.started

    def _started(self, pid: int) -> str:
        try:
            content = self._host.read_part(f"/proc/{pid}/stat", length=MAX_STAT_BYTES)
        except OSError:
            return ""
        return started_in(content.decode("utf-8", "replace"))

    def _container_of(self, pid: int, containers: Collection[str]) -> str | None:
        return next((one for one in self._containers_of(pid) if one in containers), None)

    def _containers_of(self, pid: int) -> list[str]:
        try:
            content = self._host.read_part(f"/proc/{pid}/cgroup", length=MAX_CGROUP_BYTES)
        except OSError:
            return []
        return containers_in(content.decode("utf-8", "replace"))


def containers_in(cgroups: str) -> list[str]:
    """The IDs nearest the root in the text of /proc/<pid>/cgroup, one of each hierarchy, each once."""
    found = []
    # Names of cgroups hold no line feed, and may hold whatever else Python takes for the end of a line.
    for line in cgroups.split("\n"):
        path = line.split(":", 2)[-1]
        above = _ABOVE.match(path)
        nearest = _ID.search(path, above.end() if above else 0)
        if nearest:
            found.append(nearest[0])
    return list(dict.fromkeys(found))
