from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import Card
from driver.isolation.base import InForce, ShareContext
from driver.isolation.preload import Preload, PreloadSettings
from driver.isolation.preload_seen import MAX_FILES, MAX_MAPS_BYTES
from driver.shares import Share
from tests.driver.isolation import regions
from tests.support.folder_host import FolderHost

SOURCE = "/var/lib/dragoman/preload/libvgpu-8f3a89c.so"
SETTINGS = PreloadSettings(library=SOURCE, files_dir="/var/lib/dragoman/preload", region_dir="/run/dragoman")
CARD = Card(name="nvidia-1", vendor="nvidia", model="m", memory_bytes=1 << 34)
SHARE = Share(claim_uid="uid-1", request="gpu", device="nvidia-1", memory_mib=4096, cores_percent=30)
CONTEXT = ShareContext(
    card=CARD,
    index=1,
    core_policy="force",
    claim_uid="uid-1",
    holds_memory=True,
    holds_cores=True,
    devices=("/dev/nvidia0", "/dev/nvidiactl"),
)
REGION = "/run/dragoman/uid-1/gpu/region/shared.cache"

LIBRARY = "7f01-7f02 r-xp 00000000 00:2b 7 /usr/local/dragoman/libvgpu.so\n"
MAPPED = "7f03-7f04 rw-s 00000000 00:2c 8 /usr/local/dragoman/region/shared.cache\n"
CUDA = "7f05-7f06 r-xp 00000000 00:2d 9 /usr/lib/x86_64-linux-gnu/libcuda.so.575.51.03\n"
LIBC = "7f07-7f08 r-xp 00000000 00:2d 10 /usr/lib/x86_64-linux-gnu/libc.so.6\n"
ENVIRONMENT = {
    "CUDA_DEVICE_MEMORY_LIMIT_1": "4096m",
    "CUDA_DEVICE_SM_LIMIT_1": "30",
    "GPU_CORE_UTILIZATION_POLICY": "force",
    "CUDA_DEVICE_MEMORY_SHARED_CACHE": "/usr/local/dragoman/region/shared.cache",
}


def elf(*, interpreter: str = "/lib64/ld-linux-x86-64.so.2", machine: int = 62) -> bytes:
    name = interpreter.encode() + b"\0"
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    kind = 3 if interpreter else 1
    return head + struct.pack("<IIQQQQQQ", kind, 4, 120, 0, 0, len(name), len(name), 1) + name


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    found = FolderHost(tmp_path)
    put(found, SOURCE, elf(interpreter="") + b"GLIBC_2.2.5\0GLIBC_2.17\0")
    return found


def put(host: FolderHost, path: str, content: bytes) -> None:
    host.add(path)
    host.local(path).write_bytes(content)


def process(
    host: FolderHost,
    *maps: str,
    environment: dict[str, str] | None = None,
    program: bytes | None = None,
    files: tuple[str, ...] = (),
) -> None:
    host.add("/proc/7/maps", "".join(maps))
    variables = ENVIRONMENT if environment is None else environment
    host.add("/proc/7/environ", "".join(f"{name}={value}\0" for name, value in variables.items()))
    put(host, "/proc/7/exe", elf() if program is None else program)
    for number, target in enumerate(files):
        host.link(f"/proc/7/fd/{number}", target)


def region(host: FolderHost, content: bytes | None = None) -> None:
    put(host, REGION, regions.made(memory={1: 4096}, cores={1: 30}) if content is None else content)


def ask(host: FolderHost, context: ShareContext = CONTEXT) -> InForce:
    return Preload(SETTINGS).in_force(SHARE, context=context, host=host, pid=7)


def verdict(found: InForce) -> str:
    return "holds" if found.holds else found.reason if found.known else f"unknown: {found.reason}"


def test_limits_hold_where_library_and_region_are_mapped_and_the_region_has_them(host: FolderHost) -> None:
    process(host, LIBRARY, MAPPED, CUDA)
    region(host)
    assert verdict(ask(host)) == "holds"


def test_a_library_that_was_replaced_on_the_node_since_goes_on_holding(host: FolderHost) -> None:
    replaced = LIBRARY.replace("libvgpu.so", "libvgpu.so//deleted")
    process(host, replaced, MAPPED, CUDA)
    region(host)
    assert verdict(ask(host)) == "holds"
    process(host, replaced, CUDA)
    assert verdict(ask(host)) == "RegionMissing"


def test_paths_that_a_container_makes_up_cost_no_more_than_others(host: FolderHost) -> None:
    # With one regular expression over all mappings this took more than a minute, so that the test would end
    # by its time limit.
    deep = f"7f09-7f0a r--s 00000000 00:2d 11 {'/a' * 2000}\n" * 400
    process(host, deep, LIBRARY, MAPPED, CUDA)
    region(host)
    assert verdict(ask(host)) == "holds"


MANY = "7f09-7f0a r--s 00000000 00:2d 11 /a/file\n" * (MAX_MAPS_BYTES // 30)


@pytest.mark.parametrize("found", [(), (CUDA,), (LIBRARY, CUDA)])
def test_of_a_process_with_more_mappings_than_are_read_it_is_said_that_nobody_can_tell(
    host: FolderHost, found: tuple[str, ...]
) -> None:
    process(host, *found, MANY)
    region(host)
    assert verdict(ask(host)) == "unknown: ProcessTooLarge"


def test_a_region_that_is_among_the_mappings_that_are_read_counts_however_many_there_are(
    host: FolderHost,
) -> None:
    process(host, MAPPED, MANY)
    region(host)
    assert verdict(ask(host)) == "holds"
    region(host, regions.made(memory={1: 8192}, cores={1: 30}))
    assert verdict(ask(host)) == "RegionLimitsDiffer"


def test_a_path_that_is_cut_off_where_reading_ends_is_no_path(host: FolderHost) -> None:
    line = MAPPED.rstrip("\n")
    padding = "7f09-7f0a r--s 00000000 00:2d 11 /".ljust(MAX_MAPS_BYTES - len(line) - 1, "a") + "\n"
    process(host, padding, line + "-of-another\n")
    region(host)
    assert verdict(ask(host)) == "unknown: ProcessTooLarge"


def test_of_a_process_with_more_open_files_than_are_looked_at_it_is_said_that_nobody_can_tell(
    host: FolderHost,
) -> None:
    process(host, files=("/dev/null",) * (MAX_FILES + 1))
    assert verdict(ask(host)) == "unknown: ProcessTooLarge"


def test_names_with_spaces_are_read_whole(host: FolderHost) -> None:
    process(
        host, LIBRARY, "7f03-7f04 rw-s 00000000 00:2c 8 /a /usr/local/dragoman/region/shared.cache\n", CUDA
    )
    region(host)
    assert verdict(ask(host)) == "RegionMissing"


def test_a_region_that_was_removed_on_the_node_is_not_the_shares_any_more(host: FolderHost) -> None:
    process(host, LIBRARY, MAPPED.replace("shared.cache", "shared.cache//deleted"), CUDA)
    region(host)
    assert verdict(ask(host)) == "RegionMissing"


@pytest.mark.parametrize("with_library", [True, False])
def test_a_process_that_has_not_come_to_its_card_is_neither_proof_nor_failure(
    host: FolderHost, with_library: bool
) -> None:
    process(host, *([LIBRARY] if with_library else []), program=elf(interpreter=""), files=("/dev/null",))
    assert verdict(ask(host)) == "unknown: CardNotUsedYet"


def test_a_process_that_has_ended_is_neither_proof_nor_failure(host: FolderHost) -> None:
    assert verdict(ask(host)) == "unknown: CardNotUsedYet"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (elf(interpreter=""), "StaticBinary"),
        (elf(interpreter="/lib/ld-musl-x86_64.so.1"), "MuslLibc"),
        (elf(machine=183), "OtherArchitecture"),
        (elf(), "LibraryNotLoaded"),
        (b"#!/bin/sh\n", "LibraryNotLoaded"),
    ],
)
def test_a_program_that_uses_its_card_without_the_library_is_told_why(
    host: FolderHost, program: bytes, reason: str
) -> None:
    process(host, program=program, files=("/dev/null", "/dev/nvidia0"))
    found = ask(host)
    assert verdict(found) == reason
    assert found.message.endswith(".")
    assert found.remedy.endswith(".")


@pytest.mark.parametrize(
    ("libc", "content", "reason"),
    [
        (LIBC, b"GLIBC_2.2.5\0GLIBC_2.16\0", "GlibcTooOld"),
        (LIBC, b"GLIBC_2.2.5\0GLIBC_2.17\0", "LibraryNotLoaded"),
        (LIBC.replace("libc.so.6", "libc-2.12.so"), b"", "GlibcTooOld"),
        (LIBC.replace("libc.so.6", "libc-2.28.so"), b"", "LibraryNotLoaded"),
    ],
)
def test_a_glibc_that_is_older_than_the_library_needs_is_named(
    host: FolderHost, libc: str, content: bytes, reason: str
) -> None:
    process(host, libc, CUDA)
    put(host, "/proc/7/root/usr/lib/x86_64-linux-gnu/libc.so.6", content)
    assert verdict(ask(host)) == reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "RegionMissing"),
        ({"CUDA_DISABLE_CONTROL": "true"}, "DisabledByUser"),
        ({"CUDA_DISABLE_CONTROL": "false"}, "RegionMissing"),
        ({"LD_PRELOAD": "/opt/other.so"}, "ShadowedByLdPreload"),
        ({"CUDA_DEVICE_MEMORY_SHARED_CACHE": "/tmp/mine"}, "EnvironmentLost"),
        ({"CUDA_DEVICE_MEMORY_SHARED_CACHE": None}, "EnvironmentLost"),
    ],
)
def test_a_library_that_is_loaded_and_does_nothing_is_told_why(
    host: FolderHost, changed: dict[str, str | None], reason: str
) -> None:
    environment = {name: value for name, value in {**ENVIRONMENT, **changed}.items() if value is not None}
    process(host, LIBRARY, CUDA, environment=environment)
    assert verdict(ask(host)) == reason


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "CUDA_DISABLE_CONTROL"])
def test_what_users_set_is_no_failure_where_the_library_works_all_the_same(
    host: FolderHost, variable: str
) -> None:
    process(host, LIBRARY, MAPPED, CUDA, environment={**ENVIRONMENT, variable: "true"})
    region(host)
    assert verdict(ask(host)) == "holds"


@pytest.mark.parametrize(
    ("memory", "cores", "told"),
    [
        ({1: 8192}, {1: 30}, "8192 MiB instead of 4096 MiB"),
        ({0: 4096}, {1: 30}, "no limit instead of 4096 MiB"),
        ({1: 4096}, {}, "no cap instead of 30 percent"),
        ({1: 4096}, {1: 60}, "60 percent instead of 30 percent"),
    ],
)
def test_a_region_with_other_limits_is_no_proof(
    host: FolderHost, memory: dict[int, int], cores: dict[int, int], told: str
) -> None:
    process(host, LIBRARY, MAPPED, CUDA)
    region(host, regions.made(memory=memory, cores=cores))
    found = ask(host)
    assert verdict(found) == "RegionLimitsDiffer"
    assert told in found.message


def test_only_the_dimension_that_the_method_holds_is_looked_at(host: FolderHost) -> None:
    process(host, LIBRARY, MAPPED, CUDA)
    region(host, regions.made(memory={1: 4096}))
    assert verdict(ask(host, replace(CONTEXT, holds_cores=False))) == "holds"


def test_a_process_that_was_started_without_throttling_is_found(host: FolderHost) -> None:
    process(
        host, LIBRARY, MAPPED, CUDA, environment={**ENVIRONMENT, "GPU_CORE_UTILIZATION_POLICY": "DISABLE"}
    )
    region(host)
    assert verdict(ask(host)) == "ThrottlingDisabled"


@pytest.mark.parametrize("content", [b"", bytes(64), regions.made(magic=0)])
def test_a_region_that_is_being_made_is_neither_proof_nor_failure(host: FolderHost, content: bytes) -> None:
    process(host, LIBRARY, MAPPED, CUDA)
    region(host, content)
    assert verdict(ask(host)) == "unknown: CardNotUsedYet"


@pytest.mark.parametrize("content", [b"garbage" * 1000, regions.made(version=(2, 0)), regions.made()[:1900]])
def test_a_region_that_is_not_understood_is_told(host: FolderHost, content: bytes) -> None:
    process(host, LIBRARY, MAPPED, CUDA)
    region(host, content)
    assert verdict(ask(host)) == "RegionUnreadable"


def test_a_link_in_the_place_of_the_region_is_not_followed(host: FolderHost) -> None:
    process(host, LIBRARY, MAPPED, CUDA)
    put(host, "/run/elsewhere", regions.made(memory={1: 4096}, cores={1: 30}))
    host.link(REGION, "/run/elsewhere")
    found = ask(host)
    assert verdict(found) == "RegionUnreadable"
    assert "something else in its place" in found.message


def test_of_the_regions_of_a_containers_shares_the_one_that_is_mapped_counts(host: FolderHost) -> None:
    other = replace(SHARE, request="other", device="nvidia-2", memory_mib=64, cores_percent=0)
    both = regions.made(memory={1: 4096, 2: 64}, cores={1: 30})
    put(host, REGION.replace("/gpu/", "/other/"), both)
    device, inode = host.inode(REGION.replace("/gpu/", "/other/"))
    mapped = f"7f03-7f04 rw-s 00000000 {device} {inode}   /usr/local/dragoman/region/shared.cache\n"
    process(host, LIBRARY, mapped, CUDA)
    # Of an earlier start of the container, when the mounts had another order.
    region(host, regions.made(memory={1: 9999}))
    assert verdict(ask(host, replace(CONTEXT, beside=(other,)))) == "holds"
    used = Preload(SETTINGS).region_used([SHARE, other], host=host, pid=7, context=CONTEXT)
    assert used == REGION.replace("/gpu/", "/other/")


def test_a_region_that_no_share_of_the_container_has_is_no_proof(host: FolderHost) -> None:
    other = replace(SHARE, request="other", device="nvidia-2")
    process(host, LIBRARY, MAPPED.replace("00:2c 8", "ff:ff 1"), CUDA)
    region(host)
    assert verdict(ask(host, replace(CONTEXT, beside=(other,)))) == "RegionUnreadable"


def test_where_the_agent_may_not_look_it_says_so(host: FolderHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host, "read_part", refuse)
    assert verdict(ask(host)) == "unknown: ProcessesNotVisible"
