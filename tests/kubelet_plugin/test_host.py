import contextlib
import mmap
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from kubelet_plugin.host import NodeHost


def test_paths_are_those_of_the_node_below_its_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("node\n")
    assert NodeHost(tmp_path).read_text("/etc/os-release") == "node\n"


def test_an_absolute_link_leads_within_the_nodes_root_and_not_into_the_agents(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/name").write_text("the node's")
    (tmp_path / "hostname").symlink_to("/run/name")
    host = NodeHost(tmp_path)
    assert host.resolve("/hostname") == "/run/name"
    assert host.read_text("/hostname") == "the node's"


def test_a_relative_link_with_parents_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c").write_text("c")
    (tmp_path / "a/b/link").symlink_to("../../c")
    assert NodeHost(tmp_path).resolve("/a/b/link") == "/c"


def test_no_path_leads_out_of_the_nodes_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("the agent's")
    with pytest.raises(FileNotFoundError):
        NodeHost(root).read_text("/../secret")


def test_links_that_go_in_circles_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("/a")
    assert NodeHost(tmp_path).resolve("/a") in ("/a", "/b")


def test_a_folder_that_is_missing_has_no_names(tmp_path: Path) -> None:
    assert NodeHost(tmp_path).list_dir("/nowhere") == []


def test_names_of_a_folder_are_sorted(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).touch()
    assert NodeHost(tmp_path).list_dir("/") == ["a", "b", "c"]


def test_a_folder_and_its_parents_get_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        NodeHost(tmp_path).make_dir("/a/b", mode=0o777)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o777, 0o777]


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    NodeHost(tmp_path).make_dir("/a", mode=0o755)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_replaced_is_never_seen_half_written(tmp_path: Path) -> None:
    host = NodeHost(tmp_path)
    host.replace_text("/list", "old")
    with (tmp_path / "list").open() as opened:
        host.replace_text("/list", "new")
        assert opened.read() == "old"
    assert (tmp_path / "list").read_text() == "new"
    assert (tmp_path / "list").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["list"]


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    with pytest.raises(OSError, match="list"):
        NodeHost(tmp_path).replace_text("/list", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["list"]


def test_removing_a_tree_that_is_missing_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    host = NodeHost(tmp_path)
    host.remove_tree("/a")
    host.remove_tree("/a")
    assert not (tmp_path / "a").exists()


def test_a_program_is_found_where_nodes_keep_programs_and_its_answer_told(tmp_path: Path) -> None:
    program = tmp_path / "usr/bin/tool"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho out $1; echo err >&2; exit 3\n")
    program.chmod(0o755)
    done = NodeHost(tmp_path).run(["tool", "x"], timeout_s=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out x\n", "err\n")


def test_a_program_that_is_not_installed_is_missing_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="tool is not installed"):
        NodeHost(tmp_path).run(["tool"], timeout_s=60)


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError, match="did not answer within"):
        NodeHost().run(["sleep", "10"], timeout_s=0.05)


def test_a_library_that_is_nowhere_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="libnothing"):
        NodeHost(tmp_path).load_library("libnothing-at-all.so.1")


def test_a_relative_path_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not an absolute path"):
        NodeHost(tmp_path).read_text("etc/os-release")


def test_bytes_that_are_no_text_do_not_stop_a_reader(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"ok\xff")
    assert NodeHost(tmp_path).read_text("/file").startswith("ok")


def test_a_folder_that_became_a_link_is_followed_a_second_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("kubelet_plugin.host.time.monotonic", lambda: clock[0])
    host = NodeHost(tmp_path)
    for folder in ("run/driver", "opt/driver"):
        (tmp_path / folder).mkdir(parents=True)
    assert host.resolve("/run/driver/lib") == "/run/driver/lib"
    (tmp_path / "run/driver").rmdir()
    (tmp_path / "run/driver").symlink_to("/opt/driver")
    clock[0] += 1.0
    assert host.resolve("/run/driver/lib") == "/opt/driver/lib"


def test_a_folder_that_was_missing_is_looked_for_at_once_again(tmp_path: Path) -> None:
    host = NodeHost(tmp_path)
    assert host.resolve("/run/driver/lib") == "/run/driver/lib"
    (tmp_path / "opt").mkdir()
    (tmp_path / "run").symlink_to("/opt")
    assert host.resolve("/run/driver/lib") == "/opt/driver/lib"


def test_no_more_than_a_few_folders_are_remembered(tmp_path: Path) -> None:
    host = NodeHost(tmp_path)
    for number in range(1000):
        (tmp_path / f"{number}").mkdir()
        host.resolve(f"/{number}/x")
    assert len(host._folders) <= 256


def test_a_file_that_holds_more_than_was_asked_for_is_refused_and_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(b"x" * 4097)
    assert NodeHost(tmp_path).read_text("/huge", limit=4097) == "x" * 4097
    with pytest.raises(OSError, match="File too large"):
        NodeHost(tmp_path).read_text("/huge", limit=4096)


def test_a_program_that_writes_without_end_is_ended() -> None:
    with pytest.raises(OSError, match="yes wrote more than"):
        NodeHost().run(["yes"], timeout_s=120)


def test_a_program_that_trickles_without_end_is_ended_in_time() -> None:
    with pytest.raises(TimeoutError, match=r"did not answer within 0\.2 s"):
        NodeHost().run(["sh", "-c", "while :; do echo x; sleep 0.01; done"], timeout_s=0.2)


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    said = tmp_path / "pid"
    for seconds in (0.5, 5.0, 50.0):  # a busy machine may not have come to it in the shortest time
        with pytest.raises(TimeoutError):
            NodeHost().run(["sh", "-c", f"sleep 600 & echo $! > {said}; wait"], timeout_s=seconds)
        if said.exists() and said.read_text():
            break
    helper = int(said.read_text())
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{helper}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    pytest.fail("the helper is still running")


def test_a_program_finds_its_own_libraries_below_the_nodes_root(tmp_path: Path) -> None:
    (tmp_path / "opt/vendor/lib").mkdir(parents=True)
    (tmp_path / "usr/bin").mkdir(parents=True)
    tool = tmp_path / "usr/bin/tool"
    tool.write_text('#!/bin/sh\nprintf %s "$LD_LIBRARY_PATH"\n')
    tool.chmod(0o755)
    done = NodeHost(tmp_path).run(["tool"], timeout_s=60, library_dirs=["/opt/vendor/lib"])
    assert done.stdout == f"{tmp_path}/opt/vendor/lib"


def test_a_part_of_a_file_is_read_and_written_over(tmp_path: Path) -> None:
    (tmp_path / "region").write_bytes(b"0123456789")
    host = NodeHost(tmp_path)
    host.write_part("/region", b"xy", offset=4)
    assert host.read_part("/region", offset=3, length=4) == b"3xy6"
    assert host.read_part("/region", length=100) == b"0123xy6789"


def test_writing_over_a_part_never_makes_a_file_longer(tmp_path: Path) -> None:
    (tmp_path / "region").write_bytes(b"0123")
    with pytest.raises(OSError, match="shorter"):
        NodeHost(tmp_path).write_part("/region", b"xy", offset=3)
    assert (tmp_path / "region").read_bytes() == b"0123"


def test_a_part_that_lies_on_two_pages_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "region").write_bytes(b"." * 10_000)
    NodeHost(tmp_path).write_part("/region", b"abcd", offset=8190)
    assert (tmp_path / "region").read_bytes() == b"." * 8190 + b"abcd" + b"." * 1806


def test_a_part_is_written_without_the_lock_that_another_writer_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "region").write_bytes(b"0123456789")
    region = (tmp_path / "region").stat().st_ino
    write = os.write

    def takes_the_lock(file: int, content: bytes, *at: int) -> int:
        assert os.fstat(file).st_ino != region
        return write(file, content)

    monkeypatch.setattr(os, "write", takes_the_lock)
    monkeypatch.setattr(os, "pwrite", takes_the_lock)
    NodeHost(tmp_path).write_part("/region", b"xy", offset=4)
    assert (tmp_path / "region").read_bytes() == b"0123xy6789"


@pytest.mark.parametrize("when", ["before it is mapped", "afterwards"])
def test_a_file_that_is_made_shorter_while_it_is_written_over_is_an_error_and_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    path = tmp_path / "region"
    path.write_bytes(b"." * 10_000)
    mapping = mmap.mmap

    def cut(*arguments: Any, **options: Any) -> Any:
        if when == "before it is mapped":
            os.truncate(path, 5)
        mapped = mapping(*arguments, **options)
        os.truncate(path, 5)
        return mapped

    monkeypatch.setattr(mmap, "mmap", cut)
    with pytest.raises(OSError, match=r"mmap|address"):
        NodeHost(tmp_path).write_part("/region", b"xy", offset=9000)
    assert path.read_bytes() == b"." * 5


@pytest.mark.timeout(10)
def test_what_is_put_in_the_place_of_a_file_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("secret")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    host = NodeHost(tmp_path)
    for name in ("link", "folder", "pipe", "missing"):
        with pytest.raises(OSError, match=name):
            host.read_part(f"/{name}", length=6)
        with pytest.raises(OSError, match=name):
            host.write_part(f"/{name}", b"x", offset=0)
    assert host.read_part("/link", length=6, follow=True) == b"secret"
    assert host.read_link("/link") == "secret"
    assert (tmp_path / "secret").read_bytes() == b"secret"


def in_a_root_of_a_process(root: Path) -> NodeHost:
    """A node whose process 7 has `root`/container for its root, beside what is the agent's own."""
    for folder in ("proc/7", "container/lib", "agent"):
        (root / folder).mkdir(parents=True)
    (root / "proc/7/root").symlink_to(root / "container")
    (root / "container/lib/libc.so.6").write_bytes(b"the container's")
    (root / "agent/libc.so.6").write_bytes(b"the agent's")
    return NodeHost(root)


def test_a_file_below_the_root_of_a_process_is_read(tmp_path: Path) -> None:
    host = in_a_root_of_a_process(tmp_path)
    assert host.read_part("/proc/7/root/lib/libc.so.6", length=100) == b"the container's"


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("path", ["out/libc.so.6", "lib/out", "../agent/libc.so.6", "inside/libc.so.6"])
def test_no_link_and_no_parent_leads_out_of_the_root_of_a_process(
    tmp_path: Path, path: str, *, follow: bool
) -> None:
    host = in_a_root_of_a_process(tmp_path)
    (tmp_path / "container/out").symlink_to(tmp_path / "agent")
    (tmp_path / "container/inside").symlink_to("lib")
    (tmp_path / "container/lib/out").symlink_to(tmp_path / "agent/libc.so.6")
    with pytest.raises(OSError, match=path):
        host.read_part(f"/proc/7/root/{path}", length=100, follow=follow)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = in_a_root_of_a_process(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "container/pipe")
    opened, really = [], os.open

    def spy(path: str, flags: int, **more: int) -> int:
        file = really(path, flags, **more)
        if stat.S_ISFIFO(os.fstat(file).st_mode) and not flags & os.O_PATH:
            opened.append(path)
        return file

    monkeypatch.setattr(os, "open", spy)
    for path in ("/pipe", "/proc/7/root/pipe"):
        for follow in (False, True):
            with pytest.raises(OSError, match="no regular file"):
                host.read_part(path, length=1, follow=follow)
    assert opened == []


def test_reading_leaves_nothing_open(tmp_path: Path) -> None:
    host = in_a_root_of_a_process(tmp_path)
    for name in ("lib/libc.so.6", "lib", "missing/x", "lib/libc.so.6/x"):
        with contextlib.suppress(OSError):
            host.read_part(f"/proc/7/root/{name}", length=1)
    # What other tests left open may be closed at any time.
    assert [one for one in map(opened_as, Path("/proc/self/fd").iterdir()) if str(tmp_path) in one] == []


def opened_as(file: Path) -> str:
    """What is open under a number; "" if it is closed meanwhile."""
    try:
        return str(file.readlink())
    except FileNotFoundError:
        return ""


def test_links_of_procfs_that_have_no_name_are_left_to_the_kernel(tmp_path: Path) -> None:
    host = NodeHost(tmp_path, proc=Path("/proc"))
    assert host.read_part(f"/proc/{os.getpid()}/exe", length=4, follow=True) == b"\x7fELF"
    assert host.read_text(f"/proc/{os.getpid()}/cgroup", limit=1 << 16)
    assert str(os.getpid()) in host.list_dir("/proc")


def test_a_files_inode_is_told_as_the_kernel_tells_it_of_mappings(tmp_path: Path) -> None:
    with Path("/proc/self/maps").open() as maps:
        line = next(one.split() for one in maps if one.rstrip().endswith(".so") and "/" in one)
    device, inode = NodeHost().inode(line[5])
    assert inode == int(line[4])
    (tmp_path / "link").symlink_to("/etc")
    assert NodeHost(tmp_path).inode("/link") == (device_of(tmp_path), (tmp_path / "link").lstat().st_ino)
    assert device.count(":") == 1


def device_of(path: Path) -> str:
    found = path.stat().st_dev
    return f"{os.major(found):02x}:{os.minor(found):02x}"
