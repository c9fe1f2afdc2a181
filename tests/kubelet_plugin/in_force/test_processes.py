from __future__ import annotations

from pathlib import Path

import pytest

from kubelet_plugin.in_force.processes import FORGET_S, MAX_NEW, Process, ProcessTable, containers_in
from tests.support.folder_host import FolderHost

A, B = "a" * 64, "b" * 64


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    found = FolderHost(tmp_path)
    found.add("/proc/meminfo")
    return found


def stat(pid: int, *, started: int = 0, name: str = "python", state: str = "S") -> str:
    """The text of /proc/PID/stat."""
    return f"{pid} ({name}) {state} " + "1 " * 18 + f"{started or 1000 + pid} " + "0 " * 30


def runs(host: FolderHost, pid: int, container: str, *, started: int = 0) -> None:
    host.add(f"/proc/{pid}/stat", stat(pid, started=started))
    host.add(
        f"/proc/{pid}/cgroup", f"0::/kubepods.slice/kubepods-podx.slice/cri-containerd-{container}.scope\n"
    )


@pytest.mark.parametrize(
    "cgroups",
    [
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-{A}.scope\n",
        f"0::/kubepods/burstable/pod1-2/{A}\n",
        f"0::/../../kubepods-pod1_2.slice/crio-{A}.scope/app.slice\n",
        f"12:memory:/kubepods/pod1-2/{A}\n11:cpu,cpuacct:/kubepods/pod1-2/{A}\n1:name=systemd:/x\n0::/\n",
        f"4:cpuset:/system.slice/containerd.service/kubepods-besteffort-pod1_2.slice:cri-containerd:{A}\n0::/\n",
        f"0::/docker/{A}\n",
        f"4:memory:/docker/{B}/kubelet/kubepods/burstable/pod1-2/{A}\n0::/\n",
        f"0::/kubepods/burstable/pod1-2/{A}/{B}\n",
        f"0::/kubepods/burstable/pod1-2/{A}/\f0::/{B}\n",
        f"0::/kubepods/burstable/pod1-2/{A}/kubepods/{B}\n",
        f"0::/../../pod1-2/{A}/kubepods/pod3-4/{B}\n",
        f"0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{A}.scope/kubepods-pod3_4.slice/x-{B}.scope\n",
    ],
    ids=[
        *("v2-systemd", "v2-cgroupfs", "v2-relative", "v1", "hybrid-colons", "docker", "node-in-a-container"),
        *(
            "named-after-another",
            "other-ends-of-lines",
            "kubepods-below",
            "relative-kubepods-below",
            "systemd-kubepods-below",
        ),
    ],
)
def test_a_container_is_found_in_each_way_to_write_its_cgroup(cgroups: str) -> None:
    assert containers_in(cgroups) == [A]


@pytest.mark.parametrize(
    "cgroups", ["0::/\n", "", "0::/user.slice/session-1.scope\n", "0::/abc123\n", "\0\xff" * 99]
)
def test_other_processes_are_in_no_container(cgroups: str) -> None:
    assert containers_in(cgroups) == []


def found(table: ProcessTable, *containers: str, now: float) -> dict[str, list[int]]:
    """The processes' numbers."""
    seen = table.of(frozenset(containers), now=now)
    return {container: [one.pid for one in processes] for container, processes in seen.items()}


def test_processes_are_found_by_container(host: FolderHost) -> None:
    runs(host, 7, A)
    runs(host, 12, A)
    runs(host, 9, B)
    host.add("/proc/1/cgroup", "0::/init.scope\n")
    table = ProcessTable(host)
    assert found(table, A, now=0.0) == {A: [7, 12]}
    assert found(table, A, B, now=1.0) == {A: [7, 12], B: [9]}


def test_processes_that_end_are_gone_and_new_ones_are_found(host: FolderHost) -> None:
    runs(host, 7, A)
    table = ProcessTable(host)
    table.of({A}, now=0.0)
    host.remove_tree("/proc/7")
    runs(host, 8, A)
    assert found(table, A, now=1.0) == {A: [8]}


def test_a_process_that_joins_its_container_after_it_was_seen_is_found(host: FolderHost) -> None:
    host.add("/proc/7/cgroup", "0::/system.slice/containerd.service\n")
    table = ProcessTable(host)
    assert table.of({A}, now=0.0) == {}
    runs(host, 7, A)
    assert found(table, A, now=1.0) == {A: [7]}


def test_a_number_that_is_used_again_is_looked_up_again(host: FolderHost) -> None:
    runs(host, 7, A)
    table = ProcessTable(host)
    table.of({A, B}, now=0.0)
    runs(host, 7, B, started=9999)
    assert found(table, A, B, now=1.0) == {B: [7]}


def test_a_number_that_is_used_again_in_the_same_container_is_another_process(host: FolderHost) -> None:
    runs(host, 7, A)
    table = ProcessTable(host)
    (former,) = table.of({A}, now=0.0)[A]
    runs(host, 7, A, started=9999)
    (latter,) = table.of({A}, now=1.0)[A]
    assert former != latter
    assert (table.lives(former), table.lives(latter)) == (False, True)


def test_a_programs_name_does_not_hide_when_it_started(host: FolderHost) -> None:
    runs(host, 7, A)
    host.add("/proc/7/stat", stat(7, started=4711, name=") S 1 (x"))
    assert ProcessTable(host).of({A}, now=0.0) == {A: (Process(7, "4711"),)}


@pytest.mark.parametrize("text", ["", "7 (x", stat(7, state="Z"), "7 (x) S 1 2"])
def test_a_process_that_is_dead_or_says_nothing_is_none(host: FolderHost, text: str) -> None:
    runs(host, 7, A)
    host.add("/proc/7/stat", text)
    assert ProcessTable(host).of({A}, now=0.0) == {}


def test_a_process_that_ends_while_it_is_looked_up_is_none(host: FolderHost) -> None:
    class Recycled(FolderHost):
        asked = 0

        def read_part(self, path: str, *, offset: int = 0, length: int, follow: bool = False) -> bytes:
            if path.endswith("/cgroup"):
                self.asked += 1
                return f"0::/kubepods/x/{A if self.asked == 1 else B}\n".encode()
            return super().read_part(path, offset=offset, length=length, follow=follow)

    runs(host, 7, A)
    assert ProcessTable(Recycled(host.root)).of({A, B}, now=0.0) == {}


def test_what_was_no_containers_is_asked_again_after_a_while_only(host: FolderHost) -> None:
    host.add("/proc/7/cgroup", "0::/init.scope\n")
    table = ProcessTable(host)
    for now in range(3):
        table.of({A}, now=float(now))
    runs(host, 7, A)
    assert table.of({A}, now=3.0) == {}
    assert found(table, A, now=FORGET_S + 1) == {A: [7]}


def test_a_round_reads_a_bounded_number_of_new_processes() -> None:
    class Crowd(FolderHost):
        asked = 0

        def list_dir(self, path: str) -> list[str]:
            return [str(pid) for pid in range(1, 3 * MAX_NEW)]

        def read_part(self, path: str, *, offset: int = 0, length: int, follow: bool = False) -> bytes:
            self.asked += 1
            return b"0::/\n"

    host = Crowd(Path("/nowhere"))
    ProcessTable(host).of({A}, now=0.0)
    assert host.asked == MAX_NEW
