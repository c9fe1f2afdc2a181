"""The hook on real runc, at each stage that OCI has for it: why the isolation method uses createRuntime.

The container's program is the hook itself, called without arguments: what it then says shows that it ran.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import dmem_tree
from tests.support.dmem_tree import DmemTree
from tooling.hook import build_hook

REGION = "drm/0000:03:00.0/vram0"
GIB = 1 << 30
RAN = "dragoman: usage: dragoman-hook"

pytestmark = pytest.mark.skipif(
    not dmem_tree.possible() or shutil.which("runc") is None,
    reason="not run: containers and a tree that answers as the kernel need root, /dev/fuse and runc",
)


def _cgroup2() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    pytest.skip("not run: this machine has no tree of cgroup v2")


@dataclass(frozen=True)
class Bundle:
    """A container that is ready to be run, and the node's tree of cgroups."""

    folder: Path
    tree: DmemTree
    cgroup: str

    def run(self, stage: str, *, region: str = REGION) -> tuple[bool, str]:
        """Runs the container with the hook at a stage: whether its program ran, and what was said."""
        path = self.folder / "config.json"
        config = json.loads(path.read_text())
        arguments = [
            "dragoman-hook",
            "dmem",
            f"--root={self.tree.at}",
            f"--region={region}",
            f"--bytes={GIB}",
        ]
        config["hooks"] = {stage: [{"path": str(build_hook()), "args": arguments}]}
        path.write_text(json.dumps(config))
        done = subprocess.run(
            ["runc", "--root", str(self.folder / "state"), "run", f"t-{secrets.token_hex(4)}"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        said = done.stdout + done.stderr
        return RAN in said, said


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    root = tmp_path / "rootfs"
    root.mkdir()
    shutil.copy(build_hook(), root / "program")
    subprocess.run(["runc", "spec"], cwd=tmp_path, check=True)
    path = tmp_path / "config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    process = config["process"]
    process |= {"args": ["/program"], "terminal": False}
    for refused_without_privileges in ("rlimits", "oomScoreAdj"):
        process.pop(refused_without_privileges, None)
    cgroup = f"/dragoman-tests-{os.getpid()}-{secrets.token_hex(2)}"
    config["linux"]["cgroupsPath"] = cgroup
    path.write_text(json.dumps(config))
    with DmemTree(tmp_path / "dmem", below=_cgroup2(), capacity={REGION: 16 * GIB}) as tree:
        yield Bundle(tmp_path, tree, cgroup)


def test_at_create_runtime_the_limit_stands_before_the_program_runs(bundle: Bundle) -> None:
    ran, said = bundle.run("createRuntime")
    assert ran, said
    assert bundle.tree.writes == [(bundle.cgroup, "dmem.max", f"{REGION} {GIB}\n")]


def test_a_hook_that_fails_keeps_the_program_from_running_and_says_why(bundle: Bundle) -> None:
    ran, said = bundle.run("createRuntime", region="drm/0000:03:00.0/vram7")
    assert not ran
    assert "dragoman: the kernel has no memory region drm/0000:03:00.0/vram7 (any more)." in said


def test_at_create_container_the_hook_cannot_tell_whose_cgroup_it_is(bundle: Bundle) -> None:
    ran, said = bundle.run("createContainer")
    assert not ran
    assert "dragoman: the container" in said
    assert bundle.tree.writes == []


def test_at_poststop_there_is_no_cgroup_left_to_clear(bundle: Bundle) -> None:
    ran, said = bundle.run("poststop")
    assert ran
    assert "names no process or no status" in said or "is not what the OCI specification says" in said
    assert not (bundle.tree.at / bundle.cgroup.lstrip("/")).exists()
    assert bundle.tree.writes == []
