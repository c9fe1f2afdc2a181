from __future__ import annotations

from pathlib import Path

import pytest

from kubelet_plugin.card_health.memory import HealthFile
from tests.support.memory_host import MemoryHost

BOOT = "/proc/sys/kernel/random/boot_id"
KEPT = {"a": {"reason": "Xid79"}}


def file(path: Path, *, boot: str = "one") -> HealthFile:
    return HealthFile(path / "plugin" / "health.json", host=MemoryHost({BOOT: f"{boot}\n"}))


def test_without_a_file_nothing_is_remembered(tmp_path: Path) -> None:
    assert file(tmp_path).read() == {}


def test_what_was_kept_is_read_by_the_next_agent(tmp_path: Path) -> None:
    file(tmp_path).write(KEPT)
    assert file(tmp_path).read() == KEPT
    assert [one.name for one in (tmp_path / "plugin").iterdir()] == ["health.json"]


def test_after_a_reboot_all_is_forgotten(tmp_path: Path) -> None:
    file(tmp_path).write(KEPT)
    assert file(tmp_path, boot="two").read() == {}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b'{"boot": "one"}', b'{"boot": "one", "cards": 7}']
)
def test_a_file_that_says_nothing_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "health.json").write_bytes(content)
    assert file(tmp_path).read() == {}


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "plugin").write_text("no folder")
    file(tmp_path).write(KEPT)
