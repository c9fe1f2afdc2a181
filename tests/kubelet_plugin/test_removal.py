"""Folders are removed whatever a container put into them."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import tracemalloc
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from kubelet_plugin.removal import remove_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def nest(folder: Path, *, levels: int) -> None:
    """Folders in folders, deeper than any path can name."""
    handle = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)


def test_a_folder_that_is_missing_is_no_error(tmp_path: Path) -> None:
    remove_folder(tmp_path / "missing")


def test_files_and_folders_of_all_kinds_go(tmp_path: Path) -> None:
    folder = tmp_path / "region"
    for name in ("a/b/c", "a/d", "e"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("x")
    os.mkfifo(folder / "a" / "pipe")
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_folders_nested_thousands_of_levels_deep_go(tmp_path: Path) -> None:
    folder = tmp_path / "region"
    folder.mkdir()
    nest(folder, levels=1500)
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_deep_tree_needs_few_open_files(tmp_path: Path) -> None:
    folder = tmp_path / "region"
    folder.mkdir()
    nest(folder, levels=200)
    with ExitStack() as stack:
        free = _leave_open_files(stack, free=8)
        remove_folder(folder)
    assert free == 8
    assert not folder.exists()


def _leave_open_files(stack: ExitStack, *, free: int) -> int:
    """Lowers the process's limit so that only so many files can be opened."""
    import resource  # noqa: PLC0415 - for this test alone

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208 - names are wanted
    # Between files that are open there are numbers to be had, more or fewer of them.
    numbers = (number for number in itertools.count() if number not in taken)
    last = next(itertools.islice(numbers, free - 1, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    return free


def test_very_many_files_cost_no_memory(tmp_path: Path) -> None:
    folder = tmp_path / "region"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number:0200}").touch()
    tracemalloc.start()
    remove_folder(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000
    assert not folder.exists()


def test_links_are_removed_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "file").write_text("x")
    folder = tmp_path / "region"
    (folder / "deep").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "others")
    (folder / "deep" / "link").symlink_to("../../others")
    remove_folder(folder)
    assert (tmp_path / "others" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["others"]


def test_a_link_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    (tmp_path / "region").symlink_to("others")
    with pytest.raises(OSError, match="region"):
        remove_folder(tmp_path / "region")
    assert (tmp_path / "others").is_dir()


def test_folders_whose_owner_shut_them_go(tmp_path: Path) -> None:
    folder = tmp_path / "region"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    for path in (folder / "a" / "b", folder / "a"):
        path.chmod(0)
    _without_capabilities(lambda: remove_folder(folder))
    assert not folder.exists()


def _without_capabilities(work: Callable[[], None]) -> None:
    """As an agent runs in its container: root without any privilege, if it is root."""
    failed: list[BaseException] = []

    def run() -> None:
        # Version 3, this thread; nothing effective, permitted or inheritable. Linux keeps these by thread.
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            assert libc.capset(header, data) == 0
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
