"""The program that limits NVIDIA's memory by cgroup through NVML; the library keeps limits in a file."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.native.build import mock_memory_limits
from tooling.hook import build_nvml_hook

GPU = "GPU-6ca02a4c-84e9-4b5b-9d3b-0d3ae4c1d9a4"
LEAF = "/kubepods/pod1/container"
PID = 4242
GIB = 1 << 30
OLDEST_GLIBC = (2, 17)
"""Of CentOS 7, which is older than any system that NVIDIA's driver 615 is made for."""


class Node:
    """A node's procfs and tree of cgroups, as folders, and the library's file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "cgroup"
        (self.root / LEAF.lstrip("/")).mkdir(parents=True)
        for process, path in ((str(PID), LEAF), ("self", "/system.slice/runtime")):
            (folder / "proc" / process).mkdir(parents=True)
            (folder / "proc" / process / "cgroup").write_text(f"0::{path}\n")

    @property
    def limits(self) -> list[str]:
        found = self.folder / "limits"
        return found.read_text().splitlines() if found.exists() else []

    def run(self, *, mode: str = "", gpu: str = GPU, size: int | str = GIB, status: str = "creating") -> str:
        """Runs the program; "" where the container may start, else what it says."""
        arguments = [f"--root={self.root}", f"--gpu={gpu}", f"--bytes={size}", f"--proc={self.folder}/proc"]
        done = subprocess.run(
            [build_nvml_hook(), "nvml", *arguments],
            input=json.dumps({"pid": PID, "status": status, "annotations": {"pid": "1"}}).encode(),
            capture_output=True,
            check=False,
            timeout=120,
            env={
                "LD_LIBRARY_PATH": str(mock_memory_limits().parent),
                "MOCK_LIMITS": str(self.folder / "limits"),
                "MOCK_LIMITS_MODE": mode,
            },
        )
        said = done.stderr.decode()
        assert (done.returncode, said.startswith("dragoman: ")) in ((0, False), (1, True))
        return said.removeprefix("dragoman: ").removesuffix("\n")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_hard_limit_is_set_for_the_containers_own_cgroup_and_nothing_is_reserved(node: Node) -> None:
    assert node.run() == ""
    assert node.limits == [f"{GPU} {node.root}{LEAF} 0 {GIB}"]


def test_a_limit_that_the_driver_did_not_keep_is_seen(node: Node) -> None:
    said = node.run(mode="deaf")
    assert (
        said == f"the memory limit of card {GPU} is not in force: it reads {(1 << 64) - 1}, not {GIB} bytes."
    )


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("refuses", "the memory limit of the card cannot be set: Insufficient Permissions."),
        ("unsupported", "the memory limit of the card cannot be set: Not Supported."),
        ("away", "NVIDIA's management library cannot be used: Driver Not Loaded."),
    ],
)
def test_a_driver_that_does_not_do_it_keeps_the_container_from_starting(
    node: Node, mode: str, said: str
) -> None:
    assert node.run(mode=mode) == said


def test_a_card_that_is_gone_is_named_so(node: Node) -> None:
    assert node.run(gpu="GPU-dead") == "the card is not on this node (any more): Not Found."


def test_a_cgroup_that_is_not_in_the_tree_is_refused(node: Node) -> None:
    (node.root / LEAF.lstrip("/")).rmdir()
    assert "cannot be opened" in node.run()
    assert not node.limits


def test_a_container_that_runs_already_gets_no_limit(node: Node) -> None:
    assert "not being created" in node.run(status="running")
    assert not node.limits


@pytest.mark.parametrize("size", ["0", "", "-1", "1k", str(1 << 63)])
def test_an_amount_that_is_no_limit_is_refused(node: Node, size: str) -> None:
    assert "--bytes is a number from 1 on" in node.run(size=size)
    assert not node.limits


def test_it_runs_with_every_c_library_that_the_driver_runs_with() -> None:
    told = subprocess.run(
        ["readelf", "--version-info", build_nvml_hook()], capture_output=True, text=True, check=True
    ).stdout
    needed = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", told)}
    assert needed
    assert max(found[:2] for found in needed) <= OLDEST_GLIBC
