from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.errors import IsolationError
from driver.isolation import region as layout
from driver.isolation.base import ShareContext
from driver.isolation.preload import Preload, PreloadLibraryMissingError, PreloadSettings
from driver.shares import Share
from kubelet_plugin.host import NodeHost
from tests.driver.isolation import regions
from tests.support.folder_host import FolderHost

LIBRARY = "/var/lib/dragoman/preload/libvgpu-8f3a89c.so"
SETTINGS = PreloadSettings(
    library=LIBRARY, files_dir="/var/lib/dragoman/preload", region_dir="/run/dragoman/regions"
)
CARD = Card(name="nvidia-1", vendor="nvidia", model="m", memory_bytes=1 << 34)
SHARE = Share(claim_uid="uid-1", request="gpu", device="nvidia-1", memory_mib=4096, cores_percent=30)
CONTEXT = ShareContext(
    card=CARD, index=1, core_policy="force", claim_uid="uid-1", holds_memory=True, holds_cores=True
)
REGION = "/run/dragoman/regions/uid-1/gpu/region"


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    found = FolderHost(tmp_path)
    found.add(LIBRARY)
    found.add("/proc/sys/kernel/random/boot_id", "boot-1\n")
    return found


def edits(host: FolderHost, share: Share = SHARE, context: ShareContext = CONTEXT) -> ContainerEdits:
    return Preload(SETTINGS).edits(share, context=context, host=host)


def test_memory_and_compute_stand_at_the_cards_index(host: FolderHost) -> None:
    assert edits(host).env == {
        "CUDA_DEVICE_MEMORY_LIMIT_1": "4096m",
        "CUDA_DEVICE_SM_LIMIT_1": "30",
        "GPU_CORE_UTILIZATION_POLICY": "force",
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": "/usr/local/dragoman/region/shared.cache",
    }


def test_a_cap_that_holds_while_others_compute_is_left_to_the_regions_switch(host: FolderHost) -> None:
    found = edits(host, context=replace(CONTEXT, core_policy="default"))
    assert found.env["GPU_CORE_UTILIZATION_POLICY"] == "default"


@pytest.mark.parametrize(("said", "variable"), [("high", "0"), ("low", "1"), ("", None)])
def test_a_priority_stands_in_the_environment_only_where_somebody_states_it(
    host: FolderHost, said: str, variable: str | None
) -> None:
    found = edits(host, context=replace(CONTEXT, priority=said))
    assert found.env.get("CUDA_TASK_PRIORITY") == variable


def test_a_region_in_use_is_not_emptied_by_an_agent_that_knows_no_priorities(host: FolderHost) -> None:
    edits(host, context=replace(CONTEXT, priority="high"))
    host.add(f"{REGION}/shared.cache", "in use")
    edits(host)
    assert host.read_text(f"{REGION}/shared.cache") == "in use"


def waiting(host: FolderHost, *claims: str) -> list[Path]:
    """Regions whose processes wait."""
    found = []
    for claim in claims:
        edits(host, share=replace(SHARE, claim_uid=claim))
        found.append(host.root / f"run/dragoman/regions/{claim}/gpu/region/shared.cache")
        found[-1].write_bytes(regions.made(recent=-1))
    return found


def recent_kernel(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[layout.RECENT_KERNEL :][:4], "little", signed=True)


def test_all_that_wait_are_let_go_but_those_that_are_to_wait_on(host: FolderHost) -> None:
    first, second, third = waiting(host, "uid-1", "uid-2", "uid-3")
    third.write_bytes(b"damaged" + third.read_bytes()[7:])
    kept = "/run/dragoman/regions/uid-2/gpu/region/shared.cache"
    assert Preload(SETTINGS).let_go(host=NodeHost(host.root), but={kept}) == 2
    assert [recent_kernel(one) for one in (first, second, third)] == [0, -1, 0]
    assert Preload(SETTINGS).let_go(host=NodeHost(host.root)) == 1


def test_what_containers_make_beside_regions_is_no_way_to_write_elsewhere(host: FolderHost) -> None:
    (elsewhere,) = waiting(host, "uid-1")
    aside = host.root / "run/dragoman/regions/.cards/card/other"
    aside.parent.mkdir(parents=True)
    aside.symlink_to(elsewhere.parents[1])
    (aside.parents[1] / "region").symlink_to(elsewhere.parent)
    linked = host.root / "run/dragoman/regions/uid-2/gpu/region/shared.cache"
    edits(host, share=replace(SHARE, claim_uid="uid-2"))
    linked.symlink_to(elsewhere)
    kept = "/run/dragoman/regions/uid-1/gpu/region/shared.cache"
    assert Preload(SETTINGS).let_go(host=NodeHost(host.root), but={kept}) == 0
    assert recent_kernel(elsewhere) == -1


@pytest.mark.parametrize("how", ["undo", "undo_claim"])
def test_a_process_that_outlives_its_region_does_not_wait(host: FolderHost, how: str) -> None:
    (path,) = waiting(host, "uid-1")
    with path.open("rb") as mapped:
        if how == "undo":
            Preload(SETTINGS).undo(SHARE, context=CONTEXT, host=NodeHost(host.root))
        else:
            Preload(SETTINGS).undo_claim("uid-1", host=NodeHost(host.root))
        assert not path.exists()
        mapped.seek(layout.RECENT_KERNEL)
        assert mapped.read(4) == bytes(4)


def test_the_container_gets_the_library_the_list_that_names_it_and_the_region(host: FolderHost) -> None:
    mounts = {mount.container_path: (mount.host_path, "ro" in mount.options) for mount in edits(host).mounts}
    assert mounts == {
        "/usr/local/dragoman/libvgpu.so": (LIBRARY, True),
        "/etc/ld.so.preload": ("/var/lib/dragoman/preload/ld.so.preload", True),
        "/usr/local/dragoman/region": (REGION, False),
    }
    assert host.read_text("/var/lib/dragoman/preload/ld.so.preload") == "/usr/local/dragoman/libvgpu.so\n"


def test_the_list_that_all_containers_read_is_replaced_as_a_whole_and_never_written_into(
    host: FolderHost,
) -> None:
    path = "/var/lib/dragoman/preload/ld.so.preload"
    for content in ("", "half of it"):
        host.add(path, content)
        edits(host)
        assert host.read_text(path) == "/usr/local/dragoman/libvgpu.so\n"
    assert host.replaced == [path, path]
    assert path not in host.writes


def test_what_is_not_keyed_by_index_is_the_same_in_all_shares(host: FolderHost) -> None:
    other = Share(claim_uid="uid-2", request="big", device="nvidia-2", memory_mib=1, cores_percent=99)
    first, second = edits(host), edits(host, other, replace(CONTEXT, index=0, claim_uid="uid-2"))
    shared = first.env.keys() & second.env.keys()
    assert shared == {"CUDA_DEVICE_MEMORY_SHARED_CACHE", "GPU_CORE_UTILIZATION_POLICY"}
    assert {first.env[name] for name in shared} == {second.env[name] for name in shared}
    assert [m.container_path for m in first.mounts] == [m.container_path for m in second.mounts]


def test_a_share_without_a_cap_has_no_variable_for_compute(host: FolderHost) -> None:
    found = edits(host, replace(SHARE, cores_percent=0))
    assert set(found.env) == {"CUDA_DEVICE_MEMORY_LIMIT_1", "CUDA_DEVICE_MEMORY_SHARED_CACHE"}


def test_a_cap_of_100_percent_is_no_cap(host: FolderHost) -> None:
    found = edits(host, replace(SHARE, cores_percent=100))
    assert set(found.env) == {"CUDA_DEVICE_MEMORY_LIMIT_1", "CUDA_DEVICE_MEMORY_SHARED_CACHE"}


def test_a_whole_card_without_a_cap_gets_nothing(host: FolderHost) -> None:
    assert edits(host, replace(SHARE, whole=True, cores_percent=0)) == ContainerEdits()
    assert not host.exists("/run/dragoman/regions")


def test_a_whole_card_with_a_cap_gets_the_cap_alone(host: FolderHost) -> None:
    found = edits(host, replace(SHARE, whole=True))
    assert "CUDA_DEVICE_SM_LIMIT_1" in found.env
    assert "CUDA_DEVICE_MEMORY_LIMIT_1" not in found.env


def test_admin_access_gets_nothing(host: FolderHost) -> None:
    assert edits(host, Share(claim_uid="u", request="r", device="nvidia-1", admin=True)) == ContainerEdits()


def test_a_cap_that_its_author_disabled_is_not_written(host: FolderHost) -> None:
    found = edits(host, context=replace(CONTEXT, core_policy="disable", holds_cores=False))
    assert found.env["GPU_CORE_UTILIZATION_POLICY"] == "disable"
    assert "CUDA_DEVICE_SM_LIMIT_1" not in found.env


def test_a_dimension_that_another_method_holds_is_not_written(host: FolderHost) -> None:
    found = edits(host, context=replace(CONTEXT, holds_memory=False))
    assert "CUDA_DEVICE_MEMORY_LIMIT_1" not in found.env
    assert found.env["CUDA_DEVICE_SM_LIMIT_1"] == "30"


@pytest.mark.parametrize("index", [-1, 16])
def test_an_index_that_the_library_cannot_hold_is_refused(host: FolderHost, index: int) -> None:
    with pytest.raises(IsolationError, match="first 16 only"):
        edits(host, context=replace(CONTEXT, index=index))


def test_a_node_without_the_library_says_so_by_name(host: FolderHost) -> None:
    host.local(LIBRARY).unlink()
    found = Preload(SETTINGS).available(card=CARD, host=host)
    assert (found.memory, found.cores, found.refusal) == (False, False, PreloadLibraryMissingError)
    assert LIBRARY in found.reason
    assert "preload.library" in found.remedy


def test_an_agent_without_a_configured_library_says_so() -> None:
    found = Preload(replace(SETTINGS, library="")).available(card=CARD, host=FolderHost(Path("/nowhere")))
    assert found.refusal is PreloadLibraryMissingError
    assert "no path is configured" in found.reason


def test_a_library_that_vanished_since_fails_closed(host: FolderHost) -> None:
    host.local(LIBRARY).unlink()
    with pytest.raises(PreloadLibraryMissingError):
        edits(host)


def test_the_library_is_not_offered_for_cards_of_another_vendor(host: FolderHost) -> None:
    found = Preload(SETTINGS).available(card=replace(CARD, vendor="amd"), host=host)
    assert not found.memory
    assert "not made for cards of vendor amd" in found.reason


def test_every_user_of_the_container_can_write_into_the_region_and_nobody_else(
    host: FolderHost,
) -> None:
    edits(host)
    assert host.local(REGION).stat().st_mode & 0o7777 == 0o777
    for folder in ("/run/dragoman/regions", "/run/dragoman/regions/uid-1", "/run/dragoman/regions/uid-1/gpu"):
        assert host.local(folder).stat().st_mode & 0o7777 == 0o700


def test_a_repeated_prepare_leaves_the_region_of_running_containers_alone(host: FolderHost) -> None:
    first = edits(host)
    host.add(f"{REGION}/shared.cache", "counts of running processes")
    assert edits(host) == first
    assert host.exists(f"{REGION}/shared.cache")


def test_the_region_is_emptied_after_a_boot(host: FolderHost) -> None:
    edits(host)
    host.add(f"{REGION}/shared.cache", "counts of processes long gone")
    host.add("/proc/sys/kernel/random/boot_id", "boot-2\n")
    edits(host)
    assert host.list_dir(REGION) == []


@pytest.mark.parametrize(
    ("share", "index"),
    [
        (replace(SHARE, memory_mib=100), 1),
        (replace(SHARE, cores_percent=0), 1),
        (SHARE, 0),
        (replace(SHARE, share_id="of-another-allocation"), 1),
    ],
    ids=["memory", "compute", "index", "allocation"],
)
def test_a_region_with_the_limits_of_a_former_allocation_is_emptied(
    host: FolderHost, share: Share, index: int
) -> None:
    edits(host)
    host.add(f"{REGION}/shared.cache", "limits of the first process")
    edits(host, share, replace(CONTEXT, index=index))
    assert host.list_dir(REGION) == []


def test_repeated_prepares_of_two_shares_of_a_request_leave_their_region_alone(host: FolderHost) -> None:
    second = replace(SHARE, device="nvidia-2", memory_mib=100)
    edits(host)
    edits(host, second, replace(CONTEXT, index=2))
    host.add(f"{REGION}/shared.cache", "counts of running processes")
    edits(host)
    edits(host, second, replace(CONTEXT, index=2))
    assert host.exists(f"{REGION}/shared.cache")


def test_all_regions_of_a_claim_are_found_and_removed_without_knowing_its_shares(host: FolderHost) -> None:
    method = Preload(SETTINGS)
    assert method.claims(host=host) == frozenset()
    for request in ("gpu", "other"):
        edits(host, replace(SHARE, request=request))
    edits(host, replace(SHARE, claim_uid="uid-2"))
    assert method.claims(host=host) == {"uid-1", "uid-2"}
    method.undo_claim("uid-1", host=host)
    method.undo_claim("uid-1", host=host)
    assert method.claims(host=host) == {"uid-2"}


def test_a_region_that_cannot_be_removed_does_not_stay_in_the_way(
    host: FolderHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        if host.exists(path):
            raise PermissionError(13, "Permission denied", path)

    method = Preload(SETTINGS)
    edits(host)
    host.add(f"{REGION}/of-another-user/file")
    with monkeypatch.context() as patch:
        patch.setattr(host, "remove_tree", refuse)
        method.undo(SHARE, context=None, host=host)
        assert method.claims(host=host) == frozenset()
        edits(host)
        assert host.list_dir(REGION) == []
        method.undo_claim("uid-1", host=host)
    assert method.claims(host=host) == frozenset()


def test_a_region_that_an_interrupted_prepare_left_half_made_is_made_anew(host: FolderHost) -> None:
    host.add(f"{REGION}/shared.cache", "left by nobody knows whom")
    edits(host)
    assert host.list_dir(REGION) == []


def test_subrequests_have_a_region_of_their_own(host: FolderHost) -> None:
    found = edits(host, replace(SHARE, request="gpu/big"))
    assert found.mounts[-1].host_path == "/run/dragoman/regions/uid-1/gpu_big/region"


@pytest.mark.parametrize("uid", ["..", "a/../b", ""])
def test_a_uid_that_leads_out_of_the_folder_is_refused(host: FolderHost, uid: str) -> None:
    with pytest.raises(IsolationError, match="cannot be the name of a folder"):
        edits(host, replace(SHARE, claim_uid=uid))


def test_undo_leaves_nothing_and_can_be_repeated(host: FolderHost) -> None:
    method = Preload(SETTINGS)
    edits(host)
    other = replace(SHARE, request="other")
    edits(host, other)
    method.undo(SHARE, context=None, host=host)
    assert host.list_dir("/run/dragoman/regions/uid-1") == ["other"]
    method.undo(other, context=None, host=host)
    method.undo(other, context=None, host=host)
    assert host.list_dir("/run/dragoman/regions") == []
