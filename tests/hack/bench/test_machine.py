"""What is read of the machine and of processes."""

import os
from pathlib import Path

import pytest

from tooling.bench.machine import Machine, processor_of, storage_of
from tooling.bench.process import Memory, memory_of, parse_rollup, parse_stat, processor_s

ROLLUP = """\
00400000-7ffe Rollup
Rss:               65536 kB
Pss:               40000 kB
Private_Clean:      1024 kB
Private_Dirty:     31744 kB
Swap:                  0 kB
"""
MOUNTS = """\
/dev/root / ext4 rw 0 0
tmpfs /var tmpfs rw 0 0
/dev/disk /var/lib xfs rw 0 0
"""


def test_uss_is_what_no_other_process_shares() -> None:
    assert parse_rollup(ROLLUP) == Memory(rss_mib=64.0, uss_mib=32.0)


def test_a_rollup_without_rss_is_an_error_and_not_zero() -> None:
    with pytest.raises(KeyError):
        parse_rollup("head\nPss: 1 kB\n")


def test_our_own_memory_and_processor_time_can_be_read() -> None:
    memory = memory_of(os.getpid())
    assert memory.rss_mib >= memory.uss_mib > 1
    assert processor_s(os.getpid()) >= 0


def test_processor_time_is_read_behind_a_program_name_with_blanks_and_parentheses() -> None:
    fields = ["S", *("0" for _ in range(10)), "150", "50", "0", "0"]
    text = f"7 (a) b) c) {' '.join(fields)}"
    assert parse_stat(text) == 200 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/var/lib/x", "xfs"), ("/var/library", "tmpfs"), ("/var", "tmpfs"), ("/home", "ext4")],
)
def test_storage_is_that_of_the_innermost_mount(folder: str, kind: str) -> None:
    assert storage_of(Path(folder), mounts=MOUNTS) == kind


def test_a_later_mount_on_the_same_point_covers_the_earlier() -> None:
    assert storage_of(Path("/var"), mounts=MOUNTS + "/dev/new /var btrfs rw 0 0\n") == "btrfs"


def test_an_unknown_processor_is_left_out_of_the_line() -> None:
    name = processor_of("processor : 0\nmodel name\t: Fast One\nmodel name\t: Fast One\n")
    known = Machine(
        cores=2, processor=name, memory_gib=24, kernel="6.1", python="3.11.7", storage="ext4",
        versions={"Kubernetes": "1.36.3"},
    )  # fmt: skip
    assert (
        known.line()
        == "2 cores (Fast One), 24 GiB, Linux 6.1, state on ext4, Python 3.11.7, Kubernetes 1.36.3"
    )
    assert processor_of("") == ""
