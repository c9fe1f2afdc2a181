from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.isolation import region as layout
from driver.isolation.region import (
    RegionError,
    RegionNotReadyError,
    let_go,
    make_wait,
    read_region,
    write_number,
)
from kubelet_plugin.host import NodeHost
from tests.driver.isolation import regions
from tests.native.build import region_layout

PATH = "/region"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> NodeHost:
    return NodeHost(tmp_path_factory.mktemp("regions"))


def put(host: NodeHost, content: bytes) -> None:
    Path(str(host._at(PATH))).write_bytes(content)


def test_limits_and_use_are_read_by_the_cards_index(host: NodeHost) -> None:
    put(
        host,
        regions.made(
            memory={0: 4096, 1: 8192},
            cores={1: 30},
            uuids=["GPU-a", "GPU-b"],
            processes=[{0: (1 << 30, 20), 1: (5, 7)}, {1: (1 << 20, 10)}],
            switch=0,
            recent=-1,
            priority=0,
        ),
    )
    found = read_region(PATH, host=host)
    assert found.memory[:3] == (4096 << 20, 8192 << 20, 0)
    assert found.cores[:3] == (100, 30, 100)
    assert found.uuids[:3] == ("GPU-a", "GPU-b", "")
    assert [found.used(index) for index in range(3)] == [1 << 30, (1 << 20) + 5, 0]
    assert [found.compute(index) for index in range(3)] == [20, 17, 0]
    assert (found.utilization_switch, found.recent_kernel, found.priority) == (0, -1, 0)
    assert found.last_kernel == 1_700_000_000


def test_processes_that_have_ended_do_not_count(host: NodeHost) -> None:
    content = bytearray(regions.made(processes=[{0: (1, 1)}, {0: (2, 2)}]))
    content[layout.SLOTS : layout.SLOTS + 4] = bytes(4)
    put(host, bytes(content))
    assert read_region(PATH, host=host).used(0) == 2


def test_counts_that_make_no_sense_are_cut(host: NodeHost) -> None:
    put(host, regions.made(processes=[{0: (-5, 1 << 40)}], count=1 << 30))
    found = read_region(PATH, host=host)
    assert (found.used(0), found.compute(0)) == (0, 100)


def test_a_full_region_is_read_as_a_whole(host: NodeHost) -> None:
    put(host, regions.made(processes=[{15: (1, 0)}] * layout.MAX_PROCESSES))
    assert read_region(PATH, host=host).used(15) == layout.MAX_PROCESSES


def test_no_region_and_one_that_is_being_made_are_told_apart(host: NodeHost) -> None:
    Path(str(host._at(PATH))).unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        read_region(PATH, host=host)
    put(host, bytes(layout.SIZE + 1))
    with pytest.raises(RegionNotReadyError):
        read_region(PATH, host=host)


class _Counting(NodeHost):
    read = 0

    def read_part(self, path: str, *, offset: int = 0, length: int, follow: bool = False) -> bytes:
        found = super().read_part(path, offset=offset, length=length, follow=follow)
        self.read += len(found)
        return found


def test_limits_alone_cost_a_few_kilobytes_however_many_processes_there_are(tmp_path: Path) -> None:
    host = _Counting(tmp_path)
    put(host, regions.made(memory={0: 64}, cores={0: 30}, processes=[{0: (1, 1)}] * layout.MAX_PROCESSES))
    found = read_region(PATH, host=host, slots=False)
    assert (found.memory[0], found.cores[0], found.processes) == (64 << 20, 30, ())
    assert host.read < 4096


@given(
    content=st.binary(max_size=4000)
    | st.tuples(st.binary(max_size=200), st.integers(0, layout.SIZE), st.integers(0, layout.SIZE + 5000)).map(
        lambda one: (regions.made()[: one[1]] + one[0] + regions.made()[one[1] + len(one[0]) :])[: one[2]]
    )
)
def test_whatever_a_container_writes_costs_little_and_is_a_region_or_a_reason(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    host = _Counting(tmp_path_factory.getbasetemp())
    put(host, content)
    try:
        found = read_region(PATH, host=host)
    except RegionError:
        found = None
    if found is not None:
        assert len(found.processes) <= layout.MAX_PROCESSES
        assert all(re.fullmatch(r"[A-Za-z0-9./_-]{0,95}", uuid) for uuid in found.uuids)
        assert all(0 <= found.compute(index) <= 100 for index in range(layout.MAX_CARDS))
    assert host.read <= layout.SIZE


def test_a_huge_file_costs_no_more_than_another(tmp_path: Path) -> None:
    host = _Counting(tmp_path)
    put(host, regions.made())
    os.truncate(tmp_path / "region", 1 << 40)
    read_region(PATH, host=host)
    assert host.read < 4096


def test_only_two_numbers_are_written(host: NodeHost) -> None:
    before = regions.made()
    put(host, before)
    write_number(PATH, field=layout.UTILIZATION_SWITCH, value=0, host=host)
    write_number(PATH, field=layout.RECENT_KERNEL, value=-1, host=host)
    after = Path(str(host._at(PATH))).read_bytes()
    found = read_region(PATH, host=host)
    assert (found.utilization_switch, found.recent_kernel) == (0, -1)
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= 8
    with pytest.raises(ValueError, match="ours to write"):
        write_number(PATH, field=layout.LIMITS, value=0, host=host)


def test_who_is_made_to_wait_is_let_go_again(host: NodeHost) -> None:
    put(host, regions.made())
    assert (make_wait(PATH, host=host), make_wait(PATH, host=host)) == (True, False)
    assert read_region(PATH, host=host).recent_kernel == layout.WAIT < 0
    assert (let_go(PATH, host=host), let_go(PATH, host=host)) == (True, False)
    assert read_region(PATH, host=host).recent_kernel == 0


def test_who_does_not_wait_is_not_written_to(host: NodeHost) -> None:
    put(host, regions.made(recent=2))
    assert not let_go(PATH, host=host)
    assert read_region(PATH, host=host).recent_kernel == 2


def test_where_there_is_no_region_nobody_waits_and_nothing_is_written(host: NodeHost) -> None:
    assert (make_wait("/none", host=host), let_go("/none", host=host)) == (False, False)
    put(host, b"short")
    assert (make_wait(PATH, host=host), let_go(PATH, host=host)) == (False, False)
    assert Path(str(host._at(PATH))).read_bytes() == b"short"


def test_the_layout_is_that_of_a_c_compiler() -> None:
    told = subprocess.run([region_layout()], check=True, capture_output=True, text=True).stdout
    assert [int(word) for word in told.split()] == [
        layout.UUIDS,
        layout.LIMITS,
        layout.SM_LIMITS,
        layout.SLOTS,
        layout.TAIL,
        layout.UTILIZATION_SWITCH,
        layout.RECENT_KERNEL,
        layout.PRIORITY,
        layout.LAST_KERNEL,
        layout.SIZE,
        layout.SLOT_SIZE,
        layout.SLOT_USED + layout.SLOT_USED_SIZE + layout.SLOT_USED_TOTAL,
        layout.SLOT_UTIL + layout.SLOT_UTIL_SIZE + layout.SLOT_UTIL_SM,
    ]
