"""The program that puts limits on a cgroup, on plain folders and on a tree that answers as the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import dmem_tree
from tests.support.dmem_tree import DmemTree
from tests.support.tracing import name_of, need_strace
from tooling.hook import build_hook

REGION = "drm/0000:03:00.0/vram0"
OTHER = "drm/0000:83:00.0/vram0"
LEAF = "/kubepods/pod1/container"
PID = 4242
GIB = 1 << 30
STATE = {
    "ociVersion": "1.0.2",
    "id": "container",
    "pid": PID,
    "status": "creating",
    "bundle": "/run/bundle",
    "annotations": {"a": '{"pid": 1}', "pid": "2", "b": 'x"y\\'},
}

_kernel_like = pytest.mark.skipif(
    not dmem_tree.possible(), reason="not run: a tree that answers as the kernel needs root and /dev/fuse"
)


class Node:
    """A node's procfs and tree of cgroups, as folders."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.root = folder / "cgroup"
        self.leaf = self.root / LEAF.lstrip("/")
        self.leaf.mkdir(parents=True)
        self.says(PID, f"0::{LEAF}\n")
        self.says("self", "0::/system.slice/runtime\n")

    def says(self, process: int | str, lines: str) -> None:
        """What procfs says about the cgroups of a process."""
        (self.proc / str(process)).mkdir(parents=True, exist_ok=True)
        (self.proc / str(process) / "cgroup").write_text(lines)

    def files(self, **content: str) -> None:
        for name, text in content.items():
            (self.leaf / name.replace("_", ".")).write_text(text)

    def run(self, *more: str, state: Any = STATE, size: int | str = GIB, region: str = REGION) -> str:
        """Runs the program; "" where the container may start, else what it says."""
        arguments = [f"--root={self.root}", f"--region={region}", f"--bytes={size}", f"--proc={self.proc}"]
        return run(
            "dmem", *arguments, *more, stdin=state if isinstance(state, bytes) else json.dumps(state).encode()
        )


def run(*arguments: str, stdin: bytes = b"") -> str:
    done = subprocess.run(
        [build_hook(), *arguments], input=stdin, capture_output=True, check=False, env={}, timeout=120
    )
    said = done.stderr.decode()
    assert done.stdout == b""
    assert (done.returncode, said.count("\n")) in ((0, 0), (1, 1))
    assert not said or said.startswith("dragoman: ")
    return said.removeprefix("dragoman: ").removesuffix("\n")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def limited(node: Node) -> Node:
    """A node whose leaf has one region, as a plain file."""
    node.files(dmem_max=f"{REGION} max\n")
    return node


@pytest.fixture
def tree(node: Node, tmp_path: Path) -> Iterator[DmemTree]:
    """The node's tree with the controller's files, answered as the kernel answers."""
    with DmemTree(tmp_path / "dmem", below=node.root, capacity={OTHER: 64 * GIB, REGION: 16 * GIB}) as found:
        node.root = found.at
        yield found


def test_the_program_needs_nothing_of_the_node_to_run() -> None:
    told = subprocess.run(
        ["readelf", "--program-headers", "--dynamic", build_hook()],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout
    assert "LOAD" in told
    assert "INTERP" not in told
    assert "NEEDED" not in told


def test_the_limit_stands_in_the_containers_own_leaf(limited: Node) -> None:
    assert limited.run() == ""
    assert (limited.leaf / "dmem.max").read_text() == f"{REGION} {GIB}\n"


def test_a_container_with_its_limit_in_place_may_start(limited: Node) -> None:
    limited.files(dmem_max=f"{REGION} {GIB}\n")
    assert limited.run() == ""


def test_another_limit_that_is_there_already_is_not_replaced(limited: Node) -> None:
    limited.files(dmem_max=f"{REGION} {2 * GIB}\n")
    assert f"has a limit of {2 * GIB} bytes already; {GIB} are wanted" in limited.run()
    assert (limited.leaf / "dmem.max").read_text() == f"{REGION} {2 * GIB}\n"


@pytest.mark.parametrize("status", ["running", "stopped", "", "creatingg"])
def test_a_container_that_is_not_being_created_gets_no_limit(limited: Node, status: str) -> None:
    assert "not being created" in limited.run(state={**STATE, "status": status})


def test_a_node_with_cgroup_v1_only_is_told_so(limited: Node) -> None:
    limited.says(PID, "4:memory:/kubepods/x\n1:cpu:/kubepods/x\n")
    assert "limits on a card's memory need a node with cgroup v2" in limited.run()


@pytest.mark.parametrize("path", ["/", "/../x", "/kubepods/../..", "/kubepods/./x"])
def test_a_cgroup_outside_of_the_runtimes_view_is_refused(limited: Node, path: str) -> None:
    limited.says(PID, f"0::{path}\n")
    assert "is not one of its own in the runtime's view" in limited.run()


@pytest.mark.parametrize("own", [LEAF, f"{LEAF}/runtime"])
def test_a_cgroup_that_the_runtime_is_in_as_well_is_not_the_containers_own(limited: Node, own: str) -> None:
    limited.says("self", f"0::{own}\n")
    assert "no cgroup of its own" in limited.run()


def test_a_cgroup_that_only_begins_like_the_runtimes_is_the_containers_own(limited: Node) -> None:
    limited.says("self", f"0::{LEAF}-runtime\n")
    assert limited.run() == ""


def test_a_cgroup_that_is_not_in_the_tree_is_refused(limited: Node) -> None:
    limited.says(PID, "0::/kubepods/pod1/gone\n")
    assert "cannot be opened: No such file or directory" in limited.run()


def test_a_link_in_the_tree_is_not_followed(limited: Node) -> None:
    (limited.root / "link").symlink_to(limited.leaf)
    limited.says(PID, "0::/link\n")
    assert "cannot be opened" in limited.run()


def test_a_process_that_is_gone_is_refused(limited: Node) -> None:
    assert "cannot be read: No such file or directory" in limited.run(state={**STATE, "pid": 7})


def test_a_leaf_without_the_controllers_files_is_refused(node: Node) -> None:
    assert "controller dmem cannot be switched on" in node.run()


def test_a_region_that_the_kernel_does_not_list_is_refused(limited: Node) -> None:
    assert "the kernel has no memory region drm/0000:03:00.0/vram" in limited.run(region=REGION[:-1])


@pytest.mark.parametrize("text", [f"{REGION} 12x\n", f"{REGION} \n", f"{REGION} -1\n", f"{REGION} 1 2\n"])
def test_limits_that_are_not_understood_are_refused(limited: Node, text: str) -> None:
    limited.files(dmem_max=text)
    assert "dmem.max of the container's cgroup is not understood" in limited.run()


@pytest.mark.parametrize(
    "size", ["0", "", "-1", "+1", " 1", "1k", "01", "0x10", str(1 << 63), str(1 << 64), "9" * 40]
)
def test_an_amount_that_is_no_limit_is_refused(limited: Node, size: str) -> None:
    assert "--bytes is a number from 1 on" in limited.run(size=size)
    assert (limited.leaf / "dmem.max").read_text() == f"{REGION} max\n"


@pytest.mark.parametrize("region", ["", "a b", "a\nb", "a\tb", "é", "x" * 256])
def test_a_name_that_could_write_another_line_is_refused(limited: Node, region: str) -> None:
    assert "--region is the name of a memory region" in limited.run(region=region)


@pytest.mark.parametrize("arguments", [(), ("other",), ("dmem", "--root=here"), ("dmem", "--unknown=1")])
def test_arguments_that_are_not_understood_are_refused(arguments: tuple[str, ...]) -> None:
    assert run(*arguments)


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"pid": 4242}',
        b'{"status": "creating"}',
        b'{"pid": 4242, "pid": 4242, "status": "creating"}',
        b'{"pid": "4242", "status": "creating"}',
        b'{"pid": 4242.0, "status": "creating"}',
        b'{"pid": -4242, "status": "creating"}',
        b'{"pid": 04242, "status": "creating"}',
        b'{"pid": 0, "status": "creating"}',
        b'{"pid": 99999999999999999999999, "status": "creating"}',
        b'{"pid": 4242, "status": "creating"',
        b'{"pid": 4242, "status": "creating"} x',
        b'{"pid": 4242, "status": "creating",}',
        b'{"pid": 4242, "status": creating}',
        b'{"a": {"pid": 4242, "status": "creating"}}',
        b'{"a": "\\',
        b'{"pid": 4242, "status": "creating", "a": ' + b"[" * 100 + b"]" * 100 + b"}",
        b"[" * 100_000,
    ],
)
def test_a_state_that_is_not_what_runtimes_write_is_refused(limited: Node, state: bytes) -> None:
    assert "state of the container" in limited.run(state=state)


def test_a_state_of_more_than_a_mebibyte_is_refused(limited: Node) -> None:
    state = {**STATE, "annotations": {"a": "x" * (1 << 20)}}
    assert "state of the container cannot be read: File too large" in limited.run(state=state)


def test_a_state_that_just_fits_is_taken(limited: Node) -> None:
    empty = len(json.dumps({**STATE, "annotations": {"a": ""}}))
    assert limited.run(state={**STATE, "annotations": {"a": "x" * ((1 << 20) - empty)}}) == ""


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.dictionaries(st.text().filter(lambda name: name not in STATE), _values, max_size=4))
def test_whatever_else_a_state_says_its_process_is_found(limited: Node, extra: dict[str, Any]) -> None:
    limited.files(dmem_max=f"{REGION} max\n")
    for ascii_only in (True, False):
        text = json.dumps({**extra, **STATE, **extra}, ensure_ascii=ascii_only)
        assert limited.run(state=text.encode(errors="surrogatepass")) == ""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_state_is_refused_or_means_the_same(limited: Node, data: st.DataObject) -> None:
    text = json.dumps(STATE).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.binary(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    limited.files(dmem_max=f"{REGION} max\n")
    if limited.run(state=damaged) == "":
        assert (limited.leaf / "dmem.max").read_text() == f"{REGION} {GIB}\n"


@pytest.mark.long
def test_a_runtime_that_never_says_what_it_means_is_not_waited_for_without_end(limited: Node) -> None:
    reading, writing = os.pipe()
    arguments = [f"--root={limited.root}", f"--region={REGION}", "--bytes=1", f"--proc={limited.proc}"]
    began = time.monotonic()
    try:
        done = subprocess.run(
            [build_hook(), "dmem", *arguments], stdin=reading, capture_output=True, check=False, timeout=240
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert (done.returncode, done.stderr) == (
        1,
        b"dragoman: the memory limit was not in place within 10 s.\n",
    )
    assert time.monotonic() - began > 5


def test_a_sentence_holds_no_control_characters(limited: Node) -> None:
    limited.says(PID, "0::/a\tb\x1b[31m\n")
    said = limited.run()
    assert "/a?b?[31m" in said


@pytest.mark.parametrize("fault", ["signal=KILL", "error=EIO", "error=EINTR"])
def test_whatever_fails_at_any_system_call_no_container_starts_without_its_limit(
    limited: Node, tmp_path: Path, fault: str
) -> None:
    need_strace()
    arguments = [f"--root={limited.root}", f"--region={REGION}", f"--bytes={GIB}", f"--proc={limited.proc}"]
    command = [str(build_hook()), "dmem", *arguments]

    def traced(*options: str) -> int:
        limited.files(dmem_max=f"{REGION} max\n")
        log = tmp_path / "trace"
        done = subprocess.run(
            ["strace", "-qq", "-o", log, *options, *command],
            input=json.dumps(STATE).encode(),
            capture_output=True,
            check=False,
            env={},
            timeout=120,
        )
        return done.returncode

    assert traced() == 0
    calls = [name_of(line) for line in (tmp_path / "trace").read_text().splitlines()]
    points = {(name, calls[: at + 1].count(name)) for at, name in enumerate(calls) if name}
    points -= {("execve", 1), ("exit_group", 1)}
    assert len(points) > 15
    for name, number in sorted(points):
        started = traced("-e", f"inject={name}:{fault}:when={number}") == 0
        if started:
            assert (limited.leaf / "dmem.max").read_text() == f"{REGION} {GIB}\n", (name, number)


@_kernel_like
def test_the_kernels_tree_takes_the_limit_of_one_region_and_keeps_the_others(
    node: Node, tree: DmemTree
) -> None:
    assert node.run() == ""
    assert (tree.at / LEAF.lstrip("/") / "dmem.max").read_text() == f"{OTHER} max\n{REGION} {GIB}\n"


@_kernel_like
def test_nothing_but_the_hard_limit_of_the_leaf_is_ever_written(node: Node, tree: DmemTree) -> None:
    assert node.run() == ""
    assert tree.writes == [(LEAF, "dmem.max", f"{REGION} {GIB}\n")]


@_kernel_like
def test_two_cards_of_one_container_have_a_limit_each(node: Node, tree: DmemTree) -> None:
    assert node.run() == ""
    assert node.run(region=OTHER, size=3 * GIB) == ""
    found = (tree.at / LEAF.lstrip("/") / "dmem.max").read_text()
    assert found == f"{OTHER} {3 * GIB}\n{REGION} {GIB}\n"


@_kernel_like
def test_the_controller_is_switched_on_from_the_root_down_where_it_is_off(node: Node, tmp_path: Path) -> None:
    below = node.root
    with DmemTree(tmp_path / "off", below=below, capacity={REGION: 16 * GIB}, enabled=False) as tree:
        node.root = tree.at
        assert node.run() == ""
    assert tree.writes == [
        ("/", "cgroup.subtree_control", "+dmem"),
        ("/kubepods", "cgroup.subtree_control", "+dmem"),
        ("/kubepods/pod1", "cgroup.subtree_control", "+dmem"),
        (LEAF, "dmem.max", f"{REGION} {GIB}\n"),
    ]


@_kernel_like
def test_a_limit_that_the_kernel_did_not_keep_is_seen(node: Node, tmp_path: Path) -> None:
    below = node.root
    with DmemTree(tmp_path / "deaf", below=below, capacity={REGION: 16 * GIB}, deaf=True) as tree:
        node.root = tree.at
        assert node.run() == f"the limit of memory region {REGION} is not in force: it reads max."


@_kernel_like
@pytest.mark.parametrize("kept", [GIB - 1, GIB + 4096, 2 * GIB, 0])
def test_another_limit_than_the_one_that_was_written_is_seen(node: Node, tmp_path: Path, kept: int) -> None:
    below = node.root
    with DmemTree(tmp_path / "rounding", below=below, capacity={REGION: 16 * GIB}, keeps=str(kept)) as tree:
        node.root = tree.at
        assert node.run() == (
            f"the limit of memory region {REGION} is not in force: it reads {kept}, not {GIB} bytes."
        )


@_kernel_like
def test_a_tree_that_is_gone_is_refused(node: Node, tree: DmemTree) -> None:
    tree.__exit__()
    assert "cannot be opened" in node.run()
