"""A real node, from its start to its end: these tests start clusters of their own and kill their parts."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tooling.cluster import api, traces
from tooling.cluster.images import BUSYBOX, busybox
from tooling.cluster.paths import REPOSITORY, cache
from tooling.cluster.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.own_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[api.Cluster]:
    name = api.unique_name("node")
    try:
        yield api.start(name=name)
    finally:
        api.stop(name)


def kubectl(cluster: api.Cluster, *arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [str(cluster.program("kubectl")), *arguments],
        env={**os.environ, **cluster.environment},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_pod(cluster: api.Cluster, name: str, script: str) -> dict[str, Any]:
    """Starts a pod with a shell script and returns it once it runs."""
    container = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    kubectl(cluster, "apply", "-f", "-", stdin=json.dumps(pod))
    kubectl(cluster, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    found: dict[str, Any] = json.loads(kubectl(cluster, "get", "pod", name, "-o", "json"))
    return found


@pytest.fixture(scope="module")
def pod(cluster: api.Cluster) -> dict[str, Any]:
    if busybox() is None:
        pytest.skip("busybox-static is not installed")
    return run_pod(cluster, "talker", "echo said; sleep 1000 & wait")


def test_the_server_calls_itself_by_the_version_that_was_asked_for(cluster: api.Cluster) -> None:
    assert json.loads(kubectl(cluster, "version", "-o", "json"))["serverVersion"]["gitVersion"] == "v1.36.3"


def test_logs_and_exec_reach_a_pod_through_the_kubelet(cluster: api.Cluster, pod: dict[str, Any]) -> None:
    assert kubectl(cluster, "logs", "talker") == "said\n"
    assert kubectl(cluster, "exec", "talker", "--", "echo", "heard") == "heard\n"


def test_pods_are_reached_from_the_machine_itself(cluster: api.Cluster) -> None:
    server = run_pod(cluster, "server", "nc -l -p 8080 -e echo reached")
    with socket.create_connection((server["status"]["podIP"], 8080), timeout=20) as connection:
        assert connection.recv(64) == b"reached\n"


def test_the_service_address_of_the_api_server_shows_a_certificate_that_the_ca_in_pods_signed(
    cluster: api.Cluster, pod: dict[str, Any], tmp_path: Path
) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text(
        kubectl(
            cluster, "exec", "talker", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
        )
    )
    said = cluster.node.run(
        *("openssl", "s_client", "-connect", "10.96.0.1:443", "-CAfile", str(authority)),
        *("-verify_ip", "10.96.0.1", "-verify_return_error", "-brief"),
    )
    assert said == ""


def test_the_kubelet_speaks_as_its_node_and_for_no_other(cluster: api.Cluster) -> None:
    environment = {**os.environ, "KUBECONFIG": str(cluster.layout.configs / "kubelet.kubeconfig")}
    command = [
        str(cluster.program("kubectl")),
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "system:node:node-1"
    label = [str(cluster.program("kubectl")), "label", "node", "node-2", "a=b"]
    assert subprocess.run(label, env=environment, capture_output=True, check=False).returncode != 0


def test_a_container_is_found_by_its_pods_uid_and_its_name(cluster: api.Cluster, pod: dict[str, Any]) -> None:
    first, *others = cluster.node.container_pids(pod_uid=pod["metadata"]["uid"], container="main")
    assert b"echo said" in Path(f"/proc/{first}/cmdline").read_bytes()
    assert [Path(f"/proc/{pid}/comm").read_text() for pid in others] == ["sleep\n"]
    assert cluster.node.container_pids(pod_uid=pod["metadata"]["uid"], container="other") == []


@pytest.mark.parametrize("how", ["restart_kubelet", "kill_kubelet", "restart_containerd"])
def test_a_pod_goes_on_while_the_parts_of_its_node_start_again(
    cluster: api.Cluster, pod: dict[str, Any], how: str
) -> None:
    before = cluster.node.container_pids(pod_uid=pod["metadata"]["uid"], container="main")
    operation: Callable[[], None] = getattr(cluster.node, how)
    operation()
    cluster.node.start_kubelet()
    assert cluster.node.container_pids(pod_uid=pod["metadata"]["uid"], container="main") == before
    assert wait_until(lambda: kubectl(cluster, "logs", "talker") == "said\n", seconds=20)


def test_files_of_the_node_are_listed_written_read_and_removed(cluster: api.Cluster) -> None:
    node, path = cluster.node, cluster.node.cdi_folder / "x.json"
    node.write_file(path, b"{}")
    assert node.list_files(node.cdi_folder) == ["x.json"]
    assert node.read_file(path) == b"{}"
    node.remove_files(path, path)
    assert node.list_files(node.cdi_folder) == []
    assert node.list_files("/no/such/folder") == []
    with pytest.raises(FileNotFoundError):
        node.read_file(path)


def test_two_clusters_are_up_side_by_side_and_one_ends_without_the_other(cluster: api.Cluster) -> None:
    name = api.unique_name("beside")
    try:
        other = api.start(name=name, feature_gates={"DRADeviceTaints": True})
        assert other.server != cluster.server
        assert other.ready()
        assert cluster.ready()
        run_pod(other, "a", "sleep 1000")
        sockets = traces.shim_sockets(other.layout)
        assert sockets
        assert all(socket.exists() for socket in sockets)
        assert traces.network_results(other.layout)
    finally:
        api.stop(name)
    assert not any(socket.exists() for socket in sockets)
    assert not traces.network_results(other.layout)
    assert leftovers(other.layout.number, name) == []
    assert cluster.ready()


def test_starting_the_same_cluster_again_finds_it_and_other_settings_are_refused(
    cluster: api.Cluster,
) -> None:
    assert api.start(name=cluster.name).layout == cluster.layout
    with pytest.raises(api.ClusterError, match=r"is up already, with other settings .*Take it down first"):
        api.start(name=cluster.name, feature_gates={"DRADeviceTaints": True})


@pytest.mark.parametrize("part", range(4))
def test_a_start_killed_at_any_moment_is_removed_by_stop(part: int) -> None:
    name = api.unique_name("killed")
    seconds = random.Random(part).uniform(part, part + 1.0)
    with subprocess.Popen(
        [sys.executable, "-m", "tooling.cluster", "--name", name, "up"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "hack")},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as starter:
        time.sleep(seconds)
        starter.send_signal(signal.SIGKILL)
    found = api.attach(name)
    api.stop(name)
    assert api.attach(name) is None
    if found is not None:
        assert leftovers(found.layout.number, name) == []


def leftovers(number: int, name: str) -> list[str]:
    """What still is there of a cluster that has ended."""
    own = f"dragoman-{number}"
    places = [
        Path("/var/lib") / own,
        Path("/run/netns") / own,
        Path("/sys/class/net") / own,
        *Path("/sys/fs/cgroup").glob(own),
        *Path("/sys/fs/cgroup").glob(f"*/{own}"),
        cache() / "clusters" / name,
    ]
    found = [str(place) for place in places if place.exists()]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"/{own}/" in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and f"/{own}" in (process / "cgroup").read_text():
                found.append(f"process {process.name}")
        except OSError:
            continue
    return found
