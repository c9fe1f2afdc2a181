"""The network of a cluster: a namespace of its own and a cable (veth pair) to the machine's.

Flow: the node has 10.200.N.1 on the cable's inner end, the machine 10.200.N.2 on the outer one; a route leads
from the machine to the pods' addresses as well, so that tests reach the API server and every pod directly.
Limits: nothing is translated or forwarded: pods do not reach the world outside the machine. Ports, rules and
other routes of the machine stay as they are.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tooling.cluster.errors import ClusterError

if TYPE_CHECKING:
    from tooling.cluster.paths import Layout

_INNER = "eth0"


def create(layout: Layout) -> None:
    """Makes the namespace and the cable."""
    name, outer = layout.namespace, layout.host_device
    _run("ip", "netns", "add", name)
    _run("ip", "link", "add", outer, "type", "veth", "peer", "name", _INNER, "netns", name)
    _run("ip", "address", "add", f"{layout.host_address}/24", "dev", outer)
    _run("ip", "link", "set", outer, "up")
    _run("ip", "-n", name, "link", "set", "lo", "up")
    _run("ip", "-n", name, "address", "add", f"{layout.node_address}/24", "dev", _INNER)
    _run("ip", "-n", name, "link", "set", _INNER, "up")
    _run("ip", "-n", name, "route", "add", "default", "via", layout.host_address)
    _run("ip", "route", "add", layout.pod_subnet, "via", layout.node_address)
    inside(layout, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def add_address(layout: Layout, address: str) -> None:
    """Gives the node one more address, reached from the machine's own namespace too."""
    _run("ip", "-n", layout.namespace, "address", "replace", f"{address}/24", "dev", _INNER)


def remove(layout: Layout) -> None:
    """Removes both; what is not there is not missed. The routes go with the cable."""
    if (Path("/sys/class/net") / layout.host_device).exists():
        with contextlib.suppress(ClusterError):
            _run("ip", "link", "delete", layout.host_device)
    if (Path("/run/netns") / layout.namespace).exists():
        _run("ip", "netns", "delete", layout.namespace)


def taken(number: int) -> bool:
    """Whether the addresses of a cluster of this number are used on this machine already."""
    found = subprocess.run(["ip", "-json", "route", "show"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return False
    wanted = (f"10.200.{number}.", f"10.244.{number}.")
    return any(str(route.get("dst", "")).startswith(wanted) for route in json.loads(found.stdout or "[]"))


def inside(layout: Layout, *command: str) -> str:
    """Runs a command in the cluster's network namespace and returns what it printed.

    By nsenter and not by ``ip netns exec``: that mounts /sys anew and hides the control groups.
    """
    return _run("nsenter", f"--net=/run/netns/{layout.namespace}", "--", *command)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}",
            remedy="Run `hack/cluster down` to remove what an interrupted start left, then try again.",
        )
    return done.stdout
