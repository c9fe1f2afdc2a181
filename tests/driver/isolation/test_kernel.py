from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driver.api.share_config import ShareConfig
from driver.cards import Card, IsolationLevel
from driver.cdi import Hook
from driver.cdi.spec import spec_document
from driver.errors import IsolationError
from driver.isolation.base import InForce, ShareContext
from driver.isolation.choose import Chosen, choose_methods, edits_for, levels_for
from driver.isolation.kernel import (
    DmemControllerMissingError,
    Kernel,
    KernelSettings,
    LimitHookMissingError,
    MemoryRegionMissingError,
)
from driver.isolation.none import NoIsolation
from driver.isolation.preload import Preload, PreloadSettings
from driver.shares import Share
from tests.support.folder_host import FolderHost

ROOT = "/sys/fs/cgroup"
HOOK = "/var/lib/dragoman/hook/dragoman-hook-0123"
LIBRARY = "/var/lib/dragoman/preload/libvgpu-0123.so"
REGION = "drm/0000:03:00.0/vram0"
LEAF = "/kubepods.slice/kubepods-pod1.slice/cri-1.scope"
GIB = 1 << 30
KERNEL, PRELOAD, NONE = IsolationLevel.KERNEL, IsolationLevel.PRELOAD, IsolationLevel.NONE
CARD = Card(name="amd-1", vendor="amd", model="m", memory_bytes=16 * GIB, pci_bus_id="0000:03:00.0")
SHARE = Share(claim_uid="uid-1", request="gpu", device="amd-1", memory_mib=4096)
CONTEXT = ShareContext(
    card=CARD, index=0, core_policy="force", claim_uid="uid-1", holds_memory=True, holds_cores=False
)


def node(tmp_path: Path, *, regions: tuple[str, ...] = (REGION, "drm/0000:03:00.0/stolen")) -> FolderHost:
    """A node with the controller, these regions, and the hook."""
    host = FolderHost(tmp_path)
    host.add(f"{ROOT}/cgroup.controllers", "cpuset cpu io memory dmem pids\n")
    host.add(f"{ROOT}/dmem.capacity", "".join(f"{name} {16 * GIB}\n" for name in regions))
    host.add(HOOK)
    return host


def kernel(**changed: str) -> Kernel:
    return Kernel(KernelSettings(**{"hook": HOOK, **changed}))


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    return node(tmp_path)


def test_a_card_whose_memory_the_kernel_counts_can_be_limited_in_memory_alone(host: FolderHost) -> None:
    found = kernel().available(card=CARD, host=host)
    assert (found.memory, found.cores, found.reason) == (True, False, "")


def test_the_hook_is_told_region_and_bytes_and_runs_before_the_entrypoint(host: FolderHost) -> None:
    edits = kernel().edits(SHARE, context=CONTEXT, host=host)
    assert edits.hooks == (
        Hook(
            hook_name="createRuntime",
            path=HOOK,
            args=(
                "dragoman-hook-0123",
                "dmem",
                f"--region={REGION}",
                f"--root={ROOT}",
                f"--bytes={4096 << 20}",
            ),
        ),
    )
    assert (edits.env, edits.mounts, edits.device_nodes) == ({}, (), ())
    assert spec_document({"uid.gpu.amd-1": edits})["devices"]


def test_nothing_is_made_on_the_node_for_a_share(host: FolderHost) -> None:
    kernel().edits(SHARE, context=CONTEXT, host=host)
    assert (host.writes, host.replaced, host.ran) == ([], [], [])
    assert kernel().claims(host=host) == frozenset()
    kernel().undo(SHARE, context=None, host=host)
    kernel().undo_claim("uid-1", host=host)
    assert (host.writes, host.replaced, host.ran) == ([], [], [])


@pytest.mark.parametrize(
    "region",
    [
        "drm/0000:03:00.0/vram",
        "drm/0000:03:00.0/vram0",
        "nvidia/0000:03:00.0/vidmem",
        "nvidia/00000000:03:00.0/vidmem",
    ],
)
def test_the_region_of_a_card_is_found_as_each_driver_writes_it(tmp_path: Path, region: str) -> None:
    host = node(tmp_path, regions=("drm/0000:83:00.0/vram0", region, "drm/0000:03:00.1/vram0"))
    (hook,) = kernel().edits(SHARE, context=CONTEXT, host=host).hooks
    assert f"--region={region}" in hook.args


def test_addresses_in_capitals_are_the_same_addresses(tmp_path: Path) -> None:
    host = node(tmp_path, regions=("nvidia/0000:AF:00.0/vidmem",))
    card = replace(CARD, pci_bus_id="0000:af:00.0")
    assert kernel().available(card=card, host=host).memory


@pytest.mark.parametrize(
    "region",
    [
        "drm/0000:03:00.0/stolen",
        "drm/0000:03:00.0/vram0/x",
        "drm/0000:03:00.1/vram0",
        "drm/0001:03:00.0/vram0",
        "other/0000:03:00.0/vram0",
        "drm/vram0",
        "",
    ],
)
def test_a_region_of_another_card_or_memory_is_not_taken(tmp_path: Path, region: str) -> None:
    host = node(tmp_path, regions=(region,))
    found = kernel().available(card=CARD, host=host)
    assert (found.memory, found.refusal) == (False, MemoryRegionMissingError)
    with pytest.raises(MemoryRegionMissingError, match="counts no memory of card amd-1"):
        kernel().edits(SHARE, context=CONTEXT, host=host)


def test_a_card_with_two_regions_has_no_limit_that_holds_for_both(tmp_path: Path) -> None:
    host = node(tmp_path, regions=(REGION, "drm/0000:03:00.0/vram1"))
    found = kernel().available(card=CARD, host=host)
    assert not found.memory
    assert "in 2 regions (drm/0000:03:00.0/vram0, drm/0000:03:00.0/vram1)" in found.reason


@pytest.mark.parametrize("address", ["", "03:00.0", "0000:03:00", "x:y"])
def test_a_card_without_a_pci_address_has_no_region(host: FolderHost, address: str) -> None:
    assert not kernel().available(card=replace(CARD, pci_bus_id=address), host=host).memory


def test_a_node_with_cgroup_v1_is_told_that_it_needs_v2(tmp_path: Path) -> None:
    host = FolderHost(tmp_path)
    host.add(f"{ROOT}/memory/cgroup.procs")
    host.add(HOOK)
    found = kernel().available(card=CARD, host=host)
    assert (found.memory, found.refusal) == (False, DmemControllerMissingError)
    assert (
        found.reason == "This node has no tree of cgroup v2 at /sys/fs/cgroup; limits of the kernel need one."
    )


def test_a_kernel_without_the_controller_is_told_from_which_release_it_is_there(host: FolderHost) -> None:
    host.add(f"{ROOT}/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
    found = kernel().available(card=CARD, host=host)
    assert "offers no controller dmem" in found.reason
    assert "Linux 6.14" in found.remedy


def test_an_agent_that_sees_its_own_cgroup_alone_is_told_so(host: FolderHost) -> None:
    host.local(f"{ROOT}/dmem.capacity").unlink()
    found = kernel().available(card=CARD, host=host)
    assert "does not see the root of the node's cgroups" in found.reason
    assert "host.mountRoot" in found.remedy


def test_another_place_of_the_tree_is_used_where_it_is_named(host: FolderHost) -> None:
    host.add("/run/cgroup2/cgroup.controllers", "dmem\n")
    host.add("/run/cgroup2/dmem.capacity", f"{REGION} 1\n")
    host.local(f"{ROOT}/cgroup.controllers").unlink()
    (hook,) = kernel(cgroup_root="/run/cgroup2").edits(SHARE, context=CONTEXT, host=host).hooks
    assert "--root=/run/cgroup2" in hook.args


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"hook": "/gone"}, "(/gone)"),
        ({"hook": ""}, "(the agent's image has none)"),
        ({"hook": "", "hook_problem": "/var forbids programs."}, "(/var forbids programs)"),
    ],
)
def test_without_its_program_the_method_is_not_available(
    host: FolderHost, settings: dict[str, str], where: str
) -> None:
    found = kernel(**settings).available(card=CARD, host=host)
    assert (found.memory, found.refusal) == (False, LimitHookMissingError)
    assert where in found.reason
    with pytest.raises(LimitHookMissingError):
        kernel(**settings).edits(SHARE, context=CONTEXT, host=host)


def test_a_capacity_file_of_any_size_is_not_read_whole(tmp_path: Path) -> None:
    host = node(tmp_path, regions=tuple(f"drm/{n:04x}:03:00.0/vram0" for n in range(4096)))
    assert not kernel().available(card=CARD, host=host).memory


# Together with other methods


def chosen(
    host: FolderHost, share: Share, *, order: tuple[IsolationLevel, ...] = (KERNEL, PRELOAD)
) -> Chosen:
    return choose_methods(share, card=NVIDIA, config=ShareConfig(), order=order, methods=methods(), host=host)


NVIDIA = replace(CARD, name="nvidia-1", vendor="nvidia")
CAPPED = replace(SHARE, device="nvidia-1", cores_percent=30)


def methods() -> dict[IsolationLevel, Kernel | Preload | NoIsolation]:
    preload = Preload(
        PreloadSettings(library=LIBRARY, files_dir="/var/lib/dragoman/preload", region_dir="/run/dragoman")
    )
    return {KERNEL: kernel(), PRELOAD: preload, NONE: NoIsolation()}


@pytest.fixture
def both(host: FolderHost) -> FolderHost:
    host.add(LIBRARY)
    host.add("/proc/sys/kernel/random/boot_id", "boot\n")
    return host


def test_memory_is_held_by_the_kernel_and_compute_by_the_library_which_then_limits_no_memory(
    both: FolderHost,
) -> None:
    found = chosen(both, CAPPED)
    assert found == Chosen(memory=KERNEL, cores=PRELOAD)
    edits = edits_for(
        CAPPED, card=NVIDIA, chosen=found, index=0, core_policy="force", methods=methods(), host=both
    )
    assert [hook.hook_name for hook in edits.hooks] == ["createRuntime"]
    assert edits.env["CUDA_DEVICE_SM_LIMIT_0"] == "30"
    assert not [name for name in edits.env if "MEMORY_LIMIT" in name]


def test_a_share_of_memory_alone_needs_no_library(both: FolderHost) -> None:
    share = replace(CAPPED, cores_percent=0)
    edits = edits_for(
        share,
        card=NVIDIA,
        chosen=chosen(both, share),
        index=0,
        core_policy="force",
        methods=methods(),
        host=both,
    )
    assert (len(edits.hooks), edits.env, edits.mounts) == (1, {}, ())


def test_the_card_is_published_with_what_holds_each_dimension(both: FolderHost) -> None:
    assert levels_for(NVIDIA, order=(KERNEL, PRELOAD), methods=methods(), host=both) == (KERNEL, PRELOAD)
    assert levels_for(CARD, order=(KERNEL, PRELOAD), methods=methods(), host=both) == (KERNEL, NONE)


def test_where_the_kernel_has_no_controller_the_next_method_of_the_order_is_taken(both: FolderHost) -> None:
    both.local(f"{ROOT}/cgroup.controllers").unlink()
    assert levels_for(NVIDIA, order=(KERNEL, PRELOAD), methods=methods(), host=both) == (PRELOAD, PRELOAD)
    assert chosen(both, CAPPED) == Chosen(memory=PRELOAD, cores=PRELOAD)


def test_a_limit_on_memory_that_no_method_can_hold_is_refused_with_all_their_reasons(
    host: FolderHost,
) -> None:
    host.local(f"{ROOT}/cgroup.controllers").unlink()
    with pytest.raises(IsolationError, match=r"no tree of cgroup v2.*preload library is missing") as refused:
        chosen(host, CAPPED)
    assert refused.value.reason == "PreloadLibraryMissing"


def test_a_cap_on_compute_is_not_refused_for_what_the_kernel_lacks_for_memory(host: FolderHost) -> None:
    share = replace(CAPPED, whole=True)
    host.local(f"{ROOT}/cgroup.controllers").unlink()
    with pytest.raises(IsolationError) as refused:
        chosen(host, share)
    assert "cgroup" not in refused.value.message
    with pytest.raises(IsolationError, match="cannot be put in force: kernel holds memory only"):
        chosen(host, share, order=(KERNEL,))


# In force?


def seen(host: FolderHost, *, share: Share = SHARE, context: ShareContext = CONTEXT) -> InForce:
    return kernel().in_force(share, context=context, host=host, pid=42)


def running(host: FolderHost, *, path: str = LEAF, limit: str = str(4 * GIB), at: str = LEAF) -> FolderHost:
    """The node with process 42 in a cgroup, and a limit somewhere in the tree."""
    host.add("/proc/42/cgroup", f"0::{path}\n")
    for folder in (LEAF, LEAF.rpartition("/")[0], "/kubepods.slice"):
        host.add(f"{ROOT}{folder}/dmem.max", f"drm/0000:83:00.0/vram0 1\n{REGION} max\n")
        host.add(f"{ROOT}{folder}/cgroup.controllers", "dmem\n")
    host.add(f"{ROOT}{at}/dmem.max", f"drm/0000:83:00.0/vram0 1\n{REGION} {limit}\n")
    return host


def test_the_limit_of_the_containers_cgroup_is_in_force(host: FolderHost) -> None:
    assert seen(running(host)) == InForce(
        holds=True, message=f"The kernel holds the container to {4 * GIB} bytes of {REGION}."
    )


@pytest.mark.parametrize("limit", ["max", str(4 * GIB + 1), "", "x", "-1"])
def test_a_limit_that_is_gone_or_too_high_is_not_in_force(host: FolderHost, limit: str) -> None:
    found = seen(running(host, limit=limit))
    assert (found.holds, found.known, found.reason) == (False, True, "CgroupLimitMissing")
    assert found.message == f"No cgroup of the container limits {REGION} to {4 * GIB} bytes."


def test_a_process_in_a_cgroup_that_the_container_made_is_held_by_the_one_above(host: FolderHost) -> None:
    host.add(f"{ROOT}{LEAF}/init.scope/cgroup.controllers")
    assert seen(running(host, path=f"{LEAF}/init.scope")).holds


@pytest.mark.parametrize(
    "path", [f"/../..{LEAF}", "/../../kubepods-pod1.slice/cri-1.scope", "/../cri-1.scope"]
)
def test_an_agent_with_a_cgroup_namespace_of_its_own_finds_the_cgroup_of_others(
    host: FolderHost, path: str
) -> None:
    assert seen(running(host, path=path)).holds


@pytest.mark.parametrize("path", ["/", "/..", "/../gone.scope", "/gone", "/a/../../b"])
def test_of_a_process_whose_cgroup_is_not_found_nothing_is_said(host: FolderHost, path: str) -> None:
    found = seen(running(host, path=path))
    assert (found.holds, found.known, found.reason) == (False, False, "ProcessesNotVisible")
    assert found.message == "The agent does not find the cgroup of the container's processes."


def test_of_a_process_that_is_gone_nothing_is_said(host: FolderHost) -> None:
    assert (seen(host).known, seen(host).message) == (False, "The process has ended.")


def test_of_a_process_that_may_not_be_looked_at_nothing_is_said(
    host: FolderHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(host)
    read = host.read_text

    def refused(path: str, *, limit: int | None = None) -> str:
        if path.startswith("/proc/"):
            raise PermissionError(13, "Permission denied", path)
        return read(path, limit=limit)

    monkeypatch.setattr(host, "read_text", refused)
    assert (seen(host).known, seen(host).reason) == (False, "ProcessesNotVisible")


def test_a_process_of_a_card_whose_region_is_gone_is_not_held(tmp_path: Path) -> None:
    found = seen(running(node(tmp_path, regions=())))
    assert (found.holds, found.known, found.reason) == (False, True, "MemoryRegionMissing")


def test_a_share_whose_memory_others_hold_gets_no_hook_and_needs_none(host: FolderHost) -> None:
    context = replace(CONTEXT, holds_memory=False)
    assert not kernel().edits(SHARE, context=context, host=host).hooks
    assert seen(host, context=context).holds
    assert not kernel().edits(replace(SHARE, whole=True), context=CONTEXT, host=host).hooks
