"""Whether limits are in force, asked of processes that really run on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driver.cards import Card
from driver.isolation.base import ShareContext
from driver.isolation.preload_seen import Where, judge
from driver.isolation.region import LAST_KERNEL, UTILIZATION_SWITCH, read_region, write_number
from driver.shares import Share
from kubelet_plugin.host import NodeHost
from tests.native.build import empty_library, probe, static_probe, stub_library

CARD = Card(name="nvidia-1", vendor="nvidia", model="m", memory_bytes=1 << 34)
SHARE = Share(claim_uid="uid-1", request="gpu", device="nvidia-1", memory_mib=64, cores_percent=30)
CONTEXT = ShareContext(
    card=CARD,
    index=0,
    core_policy="force",
    claim_uid="uid-1",
    holds_memory=True,
    holds_cores=True,
    devices=("/dev/null",),
)
"""For these tests /dev/null is the card's device node: who has it open has come to the card."""


@contextmanager
def running(
    program: Path, tmp_path: Path, *, library: Path | None = None, uses: bool = True, **variables: str
) -> Iterator[int]:
    environment = {
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(tmp_path / "shared.cache"),
        "CUDA_DEVICE_MEMORY_LIMIT_0": "64m",
        "CUDA_DEVICE_SM_LIMIT_0": "30",
        "GPU_CORE_UTILIZATION_POLICY": "force",
        **({"LD_PRELOAD": str(library)} if library else {}),
        **variables,
    }
    device = subprocess.DEVNULL if uses else subprocess.PIPE
    with subprocess.Popen([program], env=environment, stdin=device, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if variables.get("DRAGOMAN_PROBE") != "waits":
            process.stdout.readline()
        yield process.pid
        process.send_signal(signal.SIGTERM)


def verdict(pid: int, tmp_path: Path, *, library: Path | None = None) -> str:
    region = str(tmp_path / "shared.cache")
    used = library or stub_library()
    where = Where(library=str(used), library_source=str(used), region=region, region_source=region)
    found = judge(pid, SHARE, context=CONTEXT, where=where, host=NodeHost(proc=Path("/proc")))
    return "holds" if found.holds else found.reason if found.known else f"unknown: {found.reason}"


def test_limits_hold_in_a_process_with_the_library(tmp_path: Path) -> None:
    with running(probe(), tmp_path, library=stub_library()) as pid:
        assert verdict(pid, tmp_path) == "holds"


def test_the_agents_table_reads_what_the_library_wrote(tmp_path: Path) -> None:
    with running(probe(), tmp_path, library=stub_library(), DRAGOMAN_STUB_USE_0="1048576 25") as pid:
        region = read_region("/shared.cache", host=NodeHost(tmp_path))
        assert (region.memory[0], region.cores[0]) == (64 << 20, 30)
        assert [one.pid for one in region.processes] == [pid]
        assert (region.used(0), region.compute(0), region.priority) == (1 << 20, 25, 1)
        assert (tmp_path / "shared.cache").stat().st_size > LAST_KERNEL
    assert read_region("/shared.cache", host=NodeHost(tmp_path)).processes == ()


def test_the_library_sees_the_switch_that_the_agent_writes(tmp_path: Path) -> None:
    source = tmp_path / "ask.c"
    source.write_text(
        "#include <dlfcn.h>\n#include <stdio.h>\n"
        "int main(void) { int (*ask)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "
        '"dragoman_stub_throttled"); while (getchar() > 0) { printf("%d", ask()); fflush(stdout); } }\n'
    )
    compiler = os.environ.get("CC") or shutil.which("gcc") or "cc"
    subprocess.run([compiler, "-D_GNU_SOURCE", "-o", tmp_path / "ask", source, "-ldl"], check=True)
    environment = {
        "LD_PRELOAD": str(stub_library()),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(tmp_path / "shared.cache"),
        "GPU_CORE_UTILIZATION_POLICY": "default",
    }
    command = [tmp_path / "ask"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asked:
        assert asked.stdin is not None
        assert asked.stdout is not None
        answers = []
        for value in (None, 0, 1):
            if value is not None:
                write_number("/shared.cache", field=UTILIZATION_SWITCH, value=value, host=NodeHost(tmp_path))
            asked.stdin.write("x")
            asked.stdin.flush()
            answers.append(asked.stdout.read(1))
        asked.stdin.close()
    assert answers == ["1", "0", "1"]


@pytest.mark.parametrize("uses", [True, False])
def test_a_static_program_is_a_failure_once_it_has_its_card_open(tmp_path: Path, uses: bool) -> None:
    with running(static_probe(), tmp_path, library=stub_library(), uses=uses) as pid:
        assert verdict(pid, tmp_path) == ("StaticBinary" if uses else "unknown: CardNotUsedYet")


def test_a_program_without_the_library_is_a_failure(tmp_path: Path) -> None:
    with running(probe(), tmp_path) as pid:
        assert verdict(pid, tmp_path) == "LibraryNotLoaded"


def test_a_library_that_does_nothing_is_a_failure(tmp_path: Path) -> None:
    with running(probe(), tmp_path, library=empty_library()) as pid:
        assert verdict(pid, tmp_path, library=empty_library()) == "ShadowedByLdPreload"


def test_a_program_that_was_started_with_other_limits_is_a_failure(tmp_path: Path) -> None:
    with running(probe(), tmp_path, library=stub_library(), CUDA_DEVICE_MEMORY_LIMIT_0="128m") as pid:
        assert verdict(pid, tmp_path) == "RegionLimitsDiffer"


def test_a_program_that_lost_its_environment_is_a_failure(tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "other")
    with running(probe(), tmp_path, library=stub_library(), CUDA_DEVICE_MEMORY_SHARED_CACHE=elsewhere) as pid:
        assert verdict(pid, tmp_path) == "EnvironmentLost"


def test_a_program_that_has_not_come_to_its_card_is_no_failure(tmp_path: Path) -> None:
    with running(
        probe(), tmp_path, library=stub_library(), uses=False, DRAGOMAN_STUB="idle", DRAGOMAN_PROBE="idle"
    ) as pid:
        assert verdict(pid, tmp_path) == "unknown: CardNotUsedYet"
