from __future__ import annotations

import os
from pathlib import Path

import pytest

from driver.cards import Card
from kubelet_plugin.hook_install import install_hook, make_kernel
from kubelet_plugin.prepare.durable import NodeStorageError
from kubelet_plugin.settings import Settings, parse_settings
from tests.support.folder_host import FolderHost
from tooling.hook import build_hook

CARD = Card(name="amd-1", vendor="amd", model="m", memory_bytes=1 << 34, pci_bus_id="0000:03:00.0")


def settings(tmp_path: Path, *, hook: str = "") -> Settings:
    arguments = [
        "--node-name",
        "n",
        "--host-root",
        str(tmp_path),
        "--hook-dir",
        "/hook",
        "--kernel-hook",
        hook,
    ]
    return parse_settings(arguments, environment={})


def why_not(tmp_path: Path, *, hook: str) -> str:
    host = FolderHost(tmp_path)
    host.add("/sys/fs/cgroup/cgroup.controllers", "dmem\n")
    host.add("/sys/fs/cgroup/dmem.capacity", "drm/0000:03:00.0/vram0 1\n")
    return make_kernel(settings(tmp_path, hook=hook)).available(card=CARD, host=host).reason


def test_the_program_is_installed_under_the_name_of_its_content_and_runs_there(tmp_path: Path) -> None:
    assert why_not(tmp_path, hook=str(build_hook())) == ""
    (installed,) = (tmp_path / "hook").iterdir()
    assert installed.name.startswith("dragoman-hook-")
    assert installed.stat().st_mode & 0o777 == 0o755


def test_a_new_version_leaves_the_one_that_cdi_specs_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    first = install_hook(source, folder=tmp_path / "hook")
    source.write_bytes(b"two")
    second = install_hook(source, folder=tmp_path / "hook")
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")


def test_an_image_without_the_program_makes_the_method_unavailable(tmp_path: Path) -> None:
    assert "the agent's image has no /gone/hook" in why_not(tmp_path, hook="/gone/hook")
    assert "the agent's image has none" in why_not(tmp_path, hook="")


def test_a_program_that_cannot_be_installed_makes_the_method_unavailable(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("a file where the folder should be")
    assert "cannot be installed" in why_not(tmp_path, hook=str(build_hook()))


def test_a_folder_from_which_no_program_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(
        os, "statvfs", lambda _: os.statvfs_result((*real[:8], real.f_flag | os.ST_NOEXEC, real[9]))
    )
    source = tmp_path / "source"
    source.write_bytes(b"one")
    with pytest.raises(NodeStorageError, match="mounted noexec") as refused:
        install_hook(source, folder=tmp_path / "hook")
    assert "host.hookDir" in refused.value.remedy
