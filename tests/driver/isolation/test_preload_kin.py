"""The preload libraries of other vendors: what containers get, when it holds, and what is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.errors import IsolationError
from driver.isolation.base import InForce, ShareContext
from driver.isolation.preload import PreloadLibraryMissingError, PreloadSettings
from driver.isolation.preload_amd import PreloadAmd
from driver.isolation.preload_ascend import PreloadAscend
from driver.isolation.preload_by_vendor import PreloadByVendor
from driver.isolation.preload_one_card import OneCardOnlyError
from driver.isolation.preload_seen import MAX_MAPS_BYTES
from driver.shares import Share
from tests.support.folder_host import FolderHost

LIBVGPU = "/var/lib/dragoman/preload/libvgpu-1.so"
LIBVNPU = "/usr/local/hami-vnpu-core/libvnpu.so"
LIBAMVGPU = "/usr/local/vgpu/libamvgpu.so"
COMMON = PreloadSettings(library=LIBVGPU, files_dir="/var/lib/dragoman/preload", region_dir="/run/dragoman")
ASCEND = Card(
    name="ascend-1", vendor="ascend", model="Ascend 910B3", memory_bytes=1 << 36, driver_version="25.5.1"
)
AMD = Card(name="amd-1", vendor="amd", model="MI300X", memory_bytes=1 << 37)
NVIDIA = Card(name="nvidia-1", vendor="nvidia", model="A100", memory_bytes=1 << 35)
MAPS = "7f01-7f02 r-xp 00000000 00:2b 7 "


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    found = FolderHost(tmp_path)
    for path in (LIBVGPU, LIBVNPU, LIBAMVGPU):
        found.add(path)
    found.add("/proc/sys/kernel/random/boot_id", "boot-1\n")
    return found


@pytest.fixture
def method() -> PreloadByVendor:
    return PreloadByVendor(
        COMMON,
        kin={
            "ascend": PreloadAscend(replace(COMMON, library=LIBVNPU)),
            "amd": PreloadAmd(replace(COMMON, library=LIBAMVGPU)),
        },
    )


def share(card: Card, *, memory: int = 4096, cores: int = 30, request: str = "npu") -> Share:
    return Share(claim_uid="uid-1", request=request, device=card.name, memory_mib=memory, cores_percent=cores)


def context(card: Card, *, index: int = 0, memory: bool = True, cores: bool = True) -> ShareContext:
    return ShareContext(
        card=card,
        index=index,
        core_policy="force",
        claim_uid="uid-1",
        holds_memory=memory,
        holds_cores=cores,
        devices=("/dev/card",),
    )


def mounts(edits: ContainerEdits) -> dict[str, tuple[str, bool]]:
    return {one.container_path: (one.host_path, "ro" in one.options) for one in edits.mounts}


def test_an_ascend_share_has_its_quota_and_its_part_of_the_time(
    method: PreloadByVendor, host: FolderHost
) -> None:
    assert method.edits(share(ASCEND), context=context(ASCEND), host=host).env == {
        "NPU_MEM_QUOTA": "4096",
        "NPU_PRIORITY": "30",
        "NPU_FIXED_SHARE_RATIO": "1",
        "NPU_LOCAL_SHM_PATH": "/usr/local/dragoman/region/vnpu_local_shmem",
        "NPU_GLOBAL_SHM_PATH": "/usr/local/dragoman/card/global_registry",
    }


def test_an_ascend_share_without_a_cap_takes_turns_and_is_not_capped(
    method: PreloadByVendor, host: FolderHost
) -> None:
    edits = method.edits(share(ASCEND, cores=0), context=context(ASCEND), host=host)
    assert {"NPU_PRIORITY", "NPU_FIXED_SHARE_RATIO"}.isdisjoint(edits.env)
    assert "NPU_GLOBAL_SHM_PATH" in edits.env


def test_an_ascend_container_gets_library_list_region_and_the_cards_file(
    method: PreloadByVendor, host: FolderHost
) -> None:
    edits = method.edits(share(ASCEND), context=context(ASCEND), host=host)
    assert mounts(edits) == {
        "/usr/local/dragoman/libvnpu.so": (LIBVNPU, True),
        "/etc/ld.so.preload": ("/var/lib/dragoman/preload/ld.so.preload.ascend", True),
        "/usr/local/dragoman/region": ("/run/dragoman/uid-1/npu/region", False),
        "/usr/local/dragoman/card": ("/run/dragoman/.cards/ascend-1", False),
    }
    listed = host.read_text("/var/lib/dragoman/preload/ld.so.preload.ascend")
    assert listed == "/usr/local/dragoman/libvnpu.so\n"
    assert host.local("/run/dragoman/.cards/ascend-1").stat().st_mode & 0o7777 == 0o777
    assert host.local("/run/dragoman/.cards").stat().st_mode & 0o7777 == 0o700


def test_an_amd_share_has_its_limit_and_the_loaders_variable(
    method: PreloadByVendor, host: FolderHost
) -> None:
    edits = method.edits(share(AMD, cores=0), context=context(AMD, cores=False), host=host)
    assert edits.env == {
        "LD_AUDIT": "/usr/local/dragoman/libamvgpu.so",
        "HIP_DEVICE_MEMORY_LIMIT_0": "4096m",
        "HIP_DEVICE_MEMORY_SHARED_CACHE": "/usr/local/dragoman/region/hip.cache",
    }
    assert mounts(edits) == {
        "/usr/local/dragoman/libamvgpu.so": (LIBAMVGPU, True),
        "/usr/local/dragoman/region": ("/run/dragoman/uid-1/npu/region", False),
    }


def test_nvidias_shares_are_as_without_the_others(method: PreloadByVendor, host: FolderHost) -> None:
    edits = method.edits(share(NVIDIA), context=context(NVIDIA, index=1), host=host)
    assert edits.env["CUDA_DEVICE_MEMORY_LIMIT_1"] == "4096m"
    assert mounts(edits)["/usr/local/dragoman/libvgpu.so"] == (LIBVGPU, True)


@pytest.mark.parametrize(("card", "missing"), [(ASCEND, LIBVNPU), (AMD, LIBAMVGPU)])
def test_without_its_library_a_vendors_share_is_refused_by_name(
    method: PreloadByVendor, host: FolderHost, card: Card, missing: str
) -> None:
    host.local(missing).unlink()
    found = method.available(card=card, host=host)
    assert (found.memory, found.cores, found.refusal) == (False, False, PreloadLibraryMissingError)
    assert missing in found.reason
    with pytest.raises(PreloadLibraryMissingError):
        method.edits(share(card), context=context(card), host=host)


@pytest.mark.parametrize("version", ["", "24.1.rc3", "25.4.9", "unknown"])
def test_ascend_drivers_that_cannot_share_a_card_or_tell_no_version_hold_nothing(
    method: PreloadByVendor, host: FolderHost, version: str
) -> None:
    found = method.available(card=replace(ASCEND, driver_version=version), host=host)
    assert (found.memory, found.cores) == (False, False)
    assert (version or "unknown") in found.reason


def test_ascend_drivers_from_25_5_on_hold_both_dimensions(method: PreloadByVendor, host: FolderHost) -> None:
    for version in ("25.5", "25.5.1", "25.10.0", "26.0.rc1"):
        found = method.available(card=replace(ASCEND, driver_version=version), host=host)
        assert (found.memory, found.cores) == (True, True), version


def test_of_an_amd_card_memory_is_held_and_a_cap_on_compute_is_not(
    method: PreloadByVendor, host: FolderHost
) -> None:
    found = method.available(card=AMD, host=host)
    assert (found.memory, found.cores) == (True, False)
    assert "cap on compute" in found.reason


@pytest.mark.parametrize("card", [ASCEND, AMD])
def test_a_card_that_is_not_the_containers_first_is_refused(
    method: PreloadByVendor, host: FolderHost, card: Card
) -> None:
    with pytest.raises(OneCardOnlyError):
        method.edits(share(card), context=context(card, index=1), host=host)


def test_a_limit_of_zero_is_never_written(method: PreloadByVendor, host: FolderHost) -> None:
    none = share(ASCEND)
    object.__setattr__(none, "memory_mib", 0)
    with pytest.raises(IsolationError, match="no limit"):
        method.edits(none, context=context(ASCEND), host=host)


OF_THE_CARD = "/run/dragoman/.cards/ascend-1"


def test_what_all_containers_on_a_card_share_is_no_claims_and_goes_with_the_last_of_them(
    method: PreloadByVendor, host: FolderHost
) -> None:
    first, second = share(ASCEND), replace(share(ASCEND), claim_uid="uid-2")
    for given in (first, second):
        method.edits(given, context=context(ASCEND), host=host)
    host.add(f"{OF_THE_CARD}/junk")
    assert method.claims(host=host) == {"uid-1", "uid-2"}
    method.undo(first, context=None, host=host)
    assert host.exists(f"{OF_THE_CARD}/junk")
    method.undo(second, context=None, host=host)
    assert method.claims(host=host) == frozenset()
    assert host.list_dir("/run/dragoman/.cards") == []


def test_what_a_claim_without_a_record_shared_goes_with_it(method: PreloadByVendor, host: FolderHost) -> None:
    method.edits(share(ASCEND), context=context(ASCEND), host=host)
    host.add("/run/dragoman/.cards/.removed-1/junk")
    method.undo_claim("uid-1", host=host)
    assert host.list_dir("/run/dragoman/.cards") == []


def test_a_cards_name_that_begins_like_anothers_is_another(method: PreloadByVendor, host: FolderHost) -> None:
    another = replace(ASCEND, name="ascend-10")
    method.edits(replace(share(another), claim_uid="uid-2"), context=context(another), host=host)
    method.edits(share(ASCEND), context=context(ASCEND), host=host)
    method.undo(share(ASCEND), context=None, host=host)
    assert host.list_dir("/run/dragoman/.cards") == ["ascend-10"]


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_share_that_is_prepared_while_the_cards_last_goes_finds_the_folder(
    method: PreloadByVendor, host: FolderHost, monkeypatch: pytest.MonkeyPatch, *, made_anew: bool
) -> None:
    method.edits(share(ASCEND), context=context(ASCEND), host=host)
    host.add(f"{OF_THE_CARD}/global_registry")
    rename = host.rename

    def meanwhile(path: str, *, to: str) -> None:
        if made_anew:
            rename(path, to=to)
        if path == OF_THE_CARD:
            second = replace(share(ASCEND), claim_uid="uid-2")
            method.edits(second, context=context(ASCEND), host=host)
        if not made_anew:
            rename(path, to=to)

    monkeypatch.setattr(host, "rename", meanwhile)
    method.undo(share(ASCEND), context=None, host=host)
    assert host.list_dir("/run/dragoman/.cards") == ["ascend-1"]
    assert host.local(OF_THE_CARD).stat().st_mode & 0o7777 == 0o777
    assert host.exists(f"{OF_THE_CARD}/global_registry") is not made_anew


def test_a_region_of_other_limits_is_emptied(method: PreloadByVendor, host: FolderHost) -> None:
    method.edits(share(ASCEND), context=context(ASCEND), host=host)
    host.add("/run/dragoman/uid-1/npu/region/vnpu_local_shmem", "counts")
    method.edits(share(ASCEND), context=context(ASCEND), host=host)
    assert host.exists("/run/dragoman/uid-1/npu/region/vnpu_local_shmem")
    method.edits(share(ASCEND, memory=1024), context=context(ASCEND), host=host)
    assert not host.exists("/run/dragoman/uid-1/npu/region/vnpu_local_shmem")


def process(host: FolderHost, *mapped: str, environment: dict[str, str]) -> None:
    host.add("/proc/7/maps", "".join(f"{MAPS}{path}\n" for path in mapped))
    host.add("/proc/7/environ", "".join(f"{name}={value}\0" for name, value in environment.items()))


REGIONS = {"ascend": "vnpu_local_shmem", "amd": "hip.cache"}
MAPPED = {
    "ascend": ("/usr/local/dragoman/libvnpu.so", "/usr/local/dragoman/region/vnpu_local_shmem"),
    "amd": ("/usr/local/dragoman/libamvgpu.so", "/usr/local/dragoman/region/hip.cache"),
}
MIB = 1 << 20


def hip_region(memory_mib: int, *, magic: bytes = b"2IMH") -> bytes:
    """The head of what amd-hami-core writes."""
    return magic.ljust(56, b"\0") + struct.pack("<Q", memory_mib * MIB) + b"\0" * 8192


def npu_region(memory_mib: int) -> bytes:
    """The head of what HAMi-vnpu-core writes."""
    return struct.pack("<Q", memory_mib * MIB) + b"\0" * 1064


class Started:
    """A process that was started with a share of a card, and what its library wrote."""

    def __init__(self, method: PreloadByVendor, host: FolderHost, card: Card, *, cores: int = 0) -> None:
        self.method, self.host, self.card = method, host, card
        self.share = share(card, cores=cores)
        self.context = context(card, cores=bool(cores))
        self.environment = dict(method.edits(self.share, context=self.context, host=host).env)

    def write(self, content: bytes) -> None:
        path = f"/run/dragoman/uid-1/npu/region/{REGIONS[self.card.vendor]}"
        self.host.add(path)
        self.host.local(path).write_bytes(content)

    def seen(self, *mapped: str, environment: dict[str, str] | None = None) -> InForce:
        process(self.host, *mapped, environment=self.environment if environment is None else environment)
        return self.method.in_force(self.share, context=self.context, host=self.host, pid=7)

    def verdict(self, *mapped: str, environment: dict[str, str] | None = None) -> str:
        found = self.seen(*(mapped or MAPPED[self.card.vendor]), environment=environment)
        return "holds" if found.holds else found.reason if found.known else f"unknown: {found.reason}"


@pytest.mark.parametrize(("card", "content"), [(ASCEND, npu_region(4096)), (AMD, hip_region(4096))])
def test_in_force_is_a_process_with_library_and_limits_and_a_region_that_has_them(
    method: PreloadByVendor, host: FolderHost, card: Card, content: bytes
) -> None:
    started = Started(method, host, card)
    started.write(content)
    library, region = MAPPED[card.vendor]
    assert started.verdict() == "holds"
    assert started.verdict("/nothing") == "unknown: CardNotUsedYet"
    assert started.verdict(library) == "unknown: CardNotUsedYet"
    assert started.verdict("/dev/card") == "LibraryNotLoaded"
    assert started.verdict("/dev/card", library) == "RegionMissing"
    assert started.verdict("/dev/card", library, region, environment={}) == "EnvironmentLost"
    host.local("/proc/7/maps").unlink()
    gone = method.in_force(started.share, context=started.context, host=host, pid=7)
    assert (gone.holds, gone.known) == (False, False)


@pytest.mark.parametrize("magic", [b"1IMH", b"2IMH"])
def test_the_limit_in_the_region_of_an_amd_share_has_to_be_the_shares(
    method: PreloadByVendor, host: FolderHost, magic: bytes
) -> None:
    started = Started(method, host, AMD)
    for memory, told in ((4096, "holds"), (4095, "RegionLimitsDiffer"), (0, "RegionLimitsDiffer")):
        started.write(hip_region(memory, magic=magic))
        assert started.verdict() == told
    assert "no limit instead of 4096 MiB" in started.seen(*MAPPED["amd"]).message


def test_an_amd_region_that_is_being_made_is_waited_for_and_one_of_another_layout_tells_nothing(
    method: PreloadByVendor, host: FolderHost
) -> None:
    started = Started(method, host, AMD)
    assert started.verdict() == "unknown: CardNotUsedYet"
    for empty in (b"", hip_region(4096, magic=b"\0\0\0\0")):
        started.write(empty)
        assert started.verdict() == "unknown: CardNotUsedYet"
    started.write(hip_region(4096, magic=b"3IMH"))
    assert started.verdict() == "unknown: LimitsNotSeen"


def test_of_an_ascend_region_only_the_very_quota_counts_since_it_says_no_version(
    method: PreloadByVendor, host: FolderHost
) -> None:
    started = Started(method, host, ASCEND)
    assert started.verdict() == "unknown: CardNotUsedYet"
    for memory in (0, 4095, 65536):
        started.write(npu_region(memory))
        assert started.verdict() == "unknown: LimitsNotSeen"
    assert "65536 MiB instead of 4096 MiB" in started.seen(*MAPPED["ascend"]).message


def test_that_an_ascend_share_keeps_to_its_part_of_the_time_is_never_said_to_be_seen(
    method: PreloadByVendor, host: FolderHost
) -> None:
    started = Started(method, host, ASCEND, cores=30)
    started.write(npu_region(4096))
    assert started.verdict() == "unknown: LimitsNotSeen"
    assert "30 percent of compute stands nowhere" in started.seen(*MAPPED["ascend"]).message


@pytest.mark.parametrize("card", [ASCEND, AMD])
def test_what_a_container_puts_in_the_place_of_its_region_is_no_region(
    method: PreloadByVendor, host: FolderHost, card: Card
) -> None:
    started = Started(method, host, card)
    host.link(f"/run/dragoman/uid-1/npu/region/{REGIONS[card.vendor]}", "/etc/passwd")
    assert started.verdict() == "RegionUnreadable"


@pytest.mark.parametrize(("card", "content"), [(ASCEND, npu_region(4096)), (AMD, hip_region(4096))])
def test_of_more_mappings_than_are_read_what_is_found_counts_and_what_is_not_tells_nothing(
    method: PreloadByVendor, host: FolderHost, card: Card, content: bytes
) -> None:
    started = Started(method, host, card)
    started.write(content)
    many = ["/a/file"] * (MAX_MAPS_BYTES // 30)
    assert started.verdict(*MAPPED[card.vendor], *many) == "holds"
    assert started.verdict("/dev/card", *many) == "unknown: ProcessTooLarge"
    assert started.verdict("/dev/card", MAPPED[card.vendor][0], *many) == "unknown: ProcessTooLarge"
    assert started.verdict(*many) == "unknown: ProcessTooLarge"
