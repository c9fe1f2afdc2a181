"""The agent's small helpers, one rule each."""

import asyncio
import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from driver.api.node import AgentStatus
from driver.api.policy import effective_policy
from driver.errors import ConfigError
from kubelet_plugin import loop
from kubelet_plugin.inventory import Snapshot
from kubelet_plugin.inventory_file import InventoryFile
from kubelet_plugin.logs import configure_logs, operation
from kubelet_plugin.node_status import StatusMaker
from kubelet_plugin.preload_install import install_library
from kubelet_plugin.settings import parse_settings
from kubelet_plugin.threads import in_daemon_thread
from kubelet_plugin.vendor_sources import SimulatedVendors, vendor_source
from tests.support.folder_host import FolderHost
from tests.support.node_world import card

NODE = """
apiVersion: dragoman.dev/v1alpha1
kind: SimulatedNode
cards: [{{vendor: {vendor}, model: M, memory: 1Gi, uuid: U-1}}]
"""


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    written = io.BytesIO()

    class Stderr:
        buffer = written

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", Stderr())
    configure_logs("info")
    yield written
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def parsed(lines: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_all_lines_of_a_flow_carry_its_op(lines: io.BytesIO) -> None:
    log = structlog.get_logger("test")
    with operation("prepare", claim="u") as op:
        log.info("one")
        log.warning("two", pool="p")
    log.info("outside")
    first, second, outside = parsed(lines)
    assert (first["op"], first["flow"], first["claim"], first["msg"]) == (op, "prepare", "u", "one")
    assert (second["op"], second["level"], second["pool"]) == (op, "warning", "p")
    assert "op" not in outside
    assert len(op) == 8


def test_lines_below_the_level_are_not_written(lines: io.BytesIO) -> None:
    structlog.get_logger("quiet").debug("nothing")
    assert parsed(lines) == []


def test_an_exception_is_one_line(lines: io.BytesIO) -> None:
    try:
        int("boom")
    except ValueError:
        structlog.get_logger("failing").exception("failed")
    [line] = parsed(lines)
    assert "invalid literal" in line["exception"]


def test_what_libraries_log_arrives_in_the_same_form(lines: io.BytesIO) -> None:
    logging.getLogger("grpc").error("broken %s", "pipe")
    [line] = parsed(lines)
    assert (line["msg"], line["logger"], line["level"]) == ("broken pipe", "grpc", "error")


@pytest.mark.asyncio
async def test_a_background_part_that_fails_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.kube.backoff.Backoff.next_delay", lambda _self: 0.0)
    outcomes: list[Exception | None] = [RuntimeError("once"), ValueError("twice"), None]

    async def work() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    await asyncio.wait_for(loop.keep_running("part", work), 60)
    assert outcomes == []


@pytest.mark.asyncio
async def test_a_background_part_that_is_cancelled_ends() -> None:
    task = asyncio.create_task(loop.keep_running("part", lambda: asyncio.sleep(3600)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_blocking_work_runs_in_a_thread_that_does_not_hold_up_the_end_of_the_process() -> None:
    thread = await in_daemon_thread(threading.current_thread, name="mine")
    assert (thread.daemon, thread.name) == (True, "mine")


@pytest.mark.asyncio
async def test_an_exception_of_blocking_work_belongs_to_who_asked() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await in_daemon_thread(fail, name="failing")


@pytest.mark.asyncio
async def test_who_stops_waiting_for_blocking_work_is_not_disturbed_by_its_end() -> None:
    release = threading.Event()
    waiting = asyncio.create_task(in_daemon_thread(release.wait, name="slow"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    release.set()
    await asyncio.sleep(0.05)
    assert waiting.cancelled()


def test_a_library_is_installed_under_the_name_of_its_content(tmp_path: Path) -> None:
    source = tmp_path / "libvgpu.so"
    source.write_bytes(b"one")
    first = install_library(source, folder=tmp_path / "node")
    source.write_bytes(b"two")
    second = install_library(source, folder=tmp_path / "node")
    assert first != second
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    assert first.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("umask", [0o077, 0o777, 0o000], ids=oct)
def test_a_library_can_be_loaded_by_any_user_whatever_the_umask_and_whatever_it_was(
    tmp_path: Path, umask: int
) -> None:
    source = tmp_path / "libvgpu.so"
    source.write_bytes(b"one")
    before = os.umask(umask)
    try:
        (tmp_path / "node").mkdir()
        (tmp_path / "node").chmod(0o755)
        modes = []
        for _ in range(2):
            installed = install_library(source, folder=tmp_path / "node")
            modes.append(installed.stat().st_mode & 0o777)
            installed.chmod(0o700)
    finally:
        os.umask(before)
    assert modes == [0o755, 0o755]


def test_a_library_that_is_there_is_not_touched(tmp_path: Path) -> None:
    source = tmp_path / "libvgpu.so"
    source.write_bytes(b"one")
    before = install_library(source, folder=tmp_path).stat()
    after = install_library(source, folder=tmp_path).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_damaged_library_is_replaced_and_running_programs_keep_the_old_file(tmp_path: Path) -> None:
    source = tmp_path / "libvgpu.so"
    source.write_bytes(b"whole")
    installed = install_library(source, folder=tmp_path / "node")
    installed.write_bytes(b"damag")
    before = installed.stat().st_ino
    assert install_library(source, folder=tmp_path / "node") == installed
    assert installed.read_bytes() == b"whole"
    assert installed.stat().st_ino != before


def test_the_simulated_node_is_read_again_only_when_its_file_changed(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(NODE.format(vendor="nvidia"))
    vendors = SimulatedVendors(path)
    first = vendors()
    assert vendors() is first
    path.write_text(NODE.format(vendor="ascend"))
    assert [vendor.name for vendor in vendors()] == ["ascend"]


@pytest.mark.parametrize("content", [None, "a: [", "kind: Other"])
def test_a_simulated_node_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "node.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"node\.yaml|apiVersion"):
        SimulatedVendors(path)()


def test_the_inventory_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    maker = StatusMaker(
        node_name="worker", agent=AgentStatus(version="1"), simulated=True, problems=lambda: ["full"]
    )
    InventoryFile(path, maker=maker).update(
        Snapshot(
            cards={"a": card("a")},
            policy=effective_policy([], node_labels={}),
            problems=("lost",),
            complete=True,
        )
    )
    document = json.loads(path.read_text())
    assert (document["kind"], document["metadata"]["name"]) == ("AcceleratorNode", "worker")
    assert document["status"]["problems"] == ["lost", "full"]
    assert [found.name for found in tmp_path.iterdir()] == ["node.json"]


def test_only_vendors_whose_hardware_is_there_now_are_asked(tmp_path: Path) -> None:
    host = FolderHost(tmp_path)
    vendors = vendor_source(parse_settings([], environment={"DRAGOMAN_NODE_NAME": "worker"}), host=host)
    assert [vendor.name for vendor in vendors()] == ["nvidia"]
    host.add("/sys/bus/pci/devices/0000:03:00.0/vendor", "0x1002\n")
    host.add("/sys/bus/pci/devices/0000:04:00.0/vendor", "garbage\n")
    first, second = vendors(), vendors()
    assert [vendor.name for vendor in first] == ["nvidia", "amd"]
    assert all(one is other for one, other in zip(first, second, strict=True))
