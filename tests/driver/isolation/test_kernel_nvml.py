"""NVIDIA's own limits of cgroups, where the kernel has no controller for them."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import Card
from driver.isolation.base import ShareContext
from driver.isolation.kernel import DmemControllerMissingError, Kernel, KernelSettings
from driver.isolation.kernel_nvml import KEPT_S, LIBRARY, NvmlLimits
from driver.shares import Share
from tests.native.build import mock_memory_limits, mock_nvml
from tests.support.folder_host import FolderHost

ROOT = "/sys/fs/cgroup"
HOOK, NVML_HOOK = "/hook/dragoman-hook-1", "/hook/dragoman-hook-nvml-1"
UUID = "GPU-6ca02a4c-84e9-4b5b-9d3b-0d3ae4c1d9a4"
CARD = Card(
    name="nvidia-1", vendor="nvidia", model="m", memory_bytes=1 << 34, pci_bus_id="0000:3b:00.0", uuid=UUID
)
SHARE = Share(claim_uid="uid-1", request="gpu", device="nvidia-1", memory_mib=4096)
CONTEXT = ShareContext(
    card=CARD, index=0, core_policy="force", claim_uid="uid-1", holds_memory=True, holds_cores=False
)


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    """A node with cgroup v2 and an older kernel, and a driver that counts by itself."""
    found = FolderHost(tmp_path, libraries={LIBRARY: lambda: ctypes.CDLL(str(mock_memory_limits()))})
    found.add(f"{ROOT}/cgroup.controllers", "cpu memory misc pids\n")
    for program in (HOOK, NVML_HOOK):
        found.add(program)
    return found


def kernel(**changed: str) -> Kernel:
    return Kernel(KernelSettings(**{"hook": HOOK, "nvml_hook": NVML_HOOK, **changed}))


def reason(host: FolderHost, *, card: Card = CARD, **changed: str) -> str:
    return kernel(**changed).available(card=card, host=host).reason


def test_without_the_controller_the_drivers_own_limits_are_taken(host: FolderHost) -> None:
    assert kernel().available(card=CARD, host=host).memory
    (hook,) = kernel().edits(SHARE, context=CONTEXT, host=host).hooks
    assert (hook.hook_name, hook.path, hook.env) == ("createRuntime", NVML_HOOK, ())
    assert hook.args == (
        "dragoman-hook-nvml-1",
        "nvml",
        f"--gpu={UUID}",
        f"--root={ROOT}",
        f"--bytes={4096 << 20}",
    )


def test_with_the_controller_it_is_the_controller(host: FolderHost) -> None:
    host.add(f"{ROOT}/cgroup.controllers", "cpu memory dmem\n")
    host.add(f"{ROOT}/dmem.capacity", "nvidia/0000:3b:00.0/vidmem 1\n")
    (hook,) = kernel().edits(SHARE, context=CONTEXT, host=host).hooks
    assert hook.path == HOOK


def test_the_library_of_a_driver_that_lies_elsewhere_is_found_there(host: FolderHost) -> None:
    (hook,) = kernel(driver_root="/run/nvidia/driver").edits(SHARE, context=CONTEXT, host=host).hooks
    (variable,) = hook.env
    assert variable.startswith("LD_LIBRARY_PATH=/run/nvidia/driver/usr/lib/x86_64-linux-gnu:/run/nvidia/")


def test_a_driver_before_these_limits_is_told_from_which_release_they_are_there(host: FolderHost) -> None:
    host.libraries[LIBRARY] = lambda: ctypes.CDLL(str(mock_nvml()))
    assert "from release 615 on; this node's is older" in reason(host)


def test_a_driver_that_counts_nothing_is_not_taken(host: FolderHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOCK_LIMITS_MODE", "unsupported")
    assert reason(host).endswith("NVIDIA's driver limits no memory of cgroups for this card (code 3).")
    with pytest.raises(DmemControllerMissingError):
        kernel().edits(SHARE, context=CONTEXT, host=host)


def test_a_library_without_its_driver_is_not_taken(host: FolderHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOCK_LIMITS_MODE", "away")
    assert "cannot be used (code 9)" in reason(host)


def test_a_node_without_the_library_is_not_taken(host: FolderHost) -> None:
    host.libraries.clear()
    assert "management library is not on this node" in reason(host)


def test_a_node_without_cgroup_v2_is_not_taken(host: FolderHost) -> None:
    host.local(f"{ROOT}/cgroup.controllers").unlink()
    assert "no tree of cgroup v2" in reason(host)
    assert "need it as well" in reason(host)


def test_without_its_program_it_is_not_taken(host: FolderHost) -> None:
    assert "is not installed either" in reason(host, nvml_hook="")


def test_cards_of_others_have_the_controller_alone(host: FolderHost) -> None:
    assert "offers no controller dmem" in reason(host, card=replace(CARD, vendor="amd"))


@pytest.mark.parametrize("uuid", ["", "MIG-6ca02a4c-84e9-4b5b-9d3b-0d3ae4c1d9a4", "GPU- --root=/"])
def test_what_is_no_whole_card_of_nvidia_is_not_taken(host: FolderHost, uuid: str) -> None:
    assert not kernel().available(card=replace(CARD, uuid=uuid), host=host).memory


def test_the_driver_is_asked_once_a_minute_for_a_card(host: FolderHost) -> None:
    asked: list[str] = []

    def load() -> ctypes.CDLL:
        asked.append(LIBRARY)
        return ctypes.CDLL(str(mock_memory_limits()))

    host.libraries[LIBRARY] = load
    now = 0.0
    limits = NvmlLimits(clock=lambda: now)
    for _ in range(3):
        assert limits.why_not(CARD, host=host) == ""
    assert len(asked) == 1
    now = KEPT_S + 1
    limits.why_not(CARD, host=host)
    assert len(asked) == 2


def test_of_a_limit_that_the_driver_holds_nothing_is_said_after_the_start(host: FolderHost) -> None:
    host.add("/proc/42/cgroup", "0::/pod/container\n")
    host.add(f"{ROOT}/pod/container/cgroup.controllers")
    found = kernel().in_force(SHARE, context=CONTEXT, host=host, pid=42)
    assert (found.holds, found.known, found.reason) == (False, False, "LimitNotReadable")
