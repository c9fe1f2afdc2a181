from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driver.isolation import region as layout
from kubelet_plugin.host import NodeHost
from tests.native.build import probe, probe_rootfs, stub_library

MIB = 1 << 20


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(stub_library()),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(tmp_path / "shared.cache"),
        **variables,
    }


def cards(count: int) -> dict[str, str]:
    return {f"DRAGOMAN_SIMULATED_CARD_{n}": f"nvidia 0000:{9 - n:02x}:00.0 GPU-{n}" for n in range(count)}


def ask(variables: dict[str, str]) -> Any:
    done = subprocess.run([probe(), "--once"], env=variables, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def limits(found: Any) -> list[tuple[str, Any, Any]]:
    return [(card["card"], card["memoryBytes"], card["cores"]) for card in found["cards"]]


def test_limits_are_reported_for_each_card_in_the_order_of_its_own_view(tmp_path: Path) -> None:
    found = ask(
        environment(
            tmp_path,
            **cards(2),
            CUDA_DEVICE_MEMORY_LIMIT_1="4096m",
            CUDA_DEVICE_SM_LIMIT_1="30",
            GPU_CORE_UTILIZATION_POLICY="force",
        )
    )
    assert limits(found) == [("GPU-1", None, None), ("GPU-0", 4096 * MIB, 30)]
    assert (found["corePolicy"], found["stray"], found["library"]) == ("force", [], True)


@pytest.mark.parametrize(
    ("variables", "memory"),
    [
        ({"CUDA_DEVICE_MEMORY_LIMIT_0": "2g"}, 2048 * MIB),
        ({"CUDA_DEVICE_MEMORY_LIMIT_0": "2048k"}, 2 * MIB),
        ({"CUDA_DEVICE_MEMORY_LIMIT_0": "12345"}, 12345),
        ({"CUDA_DEVICE_MEMORY_LIMIT": "7m"}, 7 * MIB),
        ({"CUDA_DEVICE_MEMORY_LIMIT_0": "0m", "CUDA_DEVICE_MEMORY_LIMIT": "7m"}, 7 * MIB),
        ({"CUDA_DEVICE_MEMORY_LIMIT_0": "0m"}, None),
        ({"CUDA_DEVICE_MEMORY_LIMIT_0": ""}, None),
        ({"CUDA_DEVICE_MEMORY_LIMIT_0": "many"}, None),
        ({}, None),
    ],
)
def test_memory_is_read_as_hami_core_reads_it(
    tmp_path: Path, variables: dict[str, str], memory: int | None
) -> None:
    assert limits(ask(environment(tmp_path, **cards(1), **variables))) == [("GPU-0", memory, None)]


@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({"CUDA_DEVICE_SM_LIMIT_0": "30"}, 30),
        ({"CUDA_DEVICE_SM_LIMIT_0": "0", "CUDA_DEVICE_SM_LIMIT": "20"}, 20),
        ({"CUDA_DEVICE_SM_LIMIT_0": "100"}, None),
        ({}, None),
    ],
)
def test_compute_is_read_as_hami_core_reads_it(
    tmp_path: Path, variables: dict[str, str], cores: int | None
) -> None:
    assert limits(ask(environment(tmp_path, **cards(1), **variables))) == [("GPU-0", None, cores)]


def test_a_limit_without_a_card_is_reported_as_stray(tmp_path: Path) -> None:
    found = ask(environment(tmp_path, **cards(1), CUDA_DEVICE_MEMORY_LIMIT_3="1m"))
    assert found["stray"] == [{"index": 3, "memoryBytes": MIB, "cores": None}]


def test_the_first_process_fixes_the_limits_of_a_region(tmp_path: Path) -> None:
    ask(environment(tmp_path, **cards(1), CUDA_DEVICE_MEMORY_LIMIT_0="1m"))
    second = ask(environment(tmp_path, **cards(1), CUDA_DEVICE_MEMORY_LIMIT_0="2m"))
    assert limits(second) == [("GPU-0", MIB, None)]
    assert second["conflict"] is True
    assert second["opened"] == 2


def test_a_process_does_not_start_where_the_region_cannot_be_written(tmp_path: Path) -> None:
    variables = environment(tmp_path / "missing")
    done = subprocess.run([probe(), "--once"], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot open the shared region" in done.stderr


def test_without_the_library_the_probe_says_so_and_reports_no_limit() -> None:
    found = ask({**cards(1), "CUDA_DEVICE_MEMORY_LIMIT_0": "1m"})
    assert found["library"] is False
    assert limits(found) == [("GPU-0", None, None)]


def test_the_probe_names_variables_without_their_values_and_shows_mounts() -> None:
    found = ask({"A_SECRET": "s3cret"})
    assert found["env"] == ["A_SECRET"]
    assert "s3cret" not in json.dumps(found)
    assert "/proc" in [mount["target"] for mount in found["mounts"]]


def test_the_probe_waits_for_sigterm_and_ends_well(tmp_path: Path) -> None:
    with subprocess.Popen([probe()], env=environment(tmp_path), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        assert running.poll() is None
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(timeout=60) == 0


def test_the_image_of_the_probe_holds_its_loader_and_libraries() -> None:
    names = {Path(path).name for path in probe_rootfs()}
    assert "probe" in names
    assert "libc.so.6" in names
    assert any(name.startswith("ld-linux") for name in names)
    assert all(path.is_file() for path in probe_rootfs().values())


LAUNCHES = layout.TAIL - 8
"""Where the stub library counts launches."""


def _launches(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[LAUNCHES:][:8], "little")


def _soon(look: Callable[[], bool]) -> bool:
    until = time.monotonic() + 60
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(
    ("cap", "policy", "switch", "waits"),
    [
        ("30", "force", 1, True),
        ("30", "default", 1, True),
        ("30", "default", 0, False),
        ("30", "disable", 1, False),
        ("100", "force", 1, False),
    ],
)
def test_only_who_has_a_cap_that_holds_waits_before_a_launch_until_it_is_let_go(
    tmp_path: Path, cap: str, policy: str, switch: int, waits: bool
) -> None:
    region, host = tmp_path / "shared.cache", NodeHost()
    variables = environment(
        tmp_path,
        CUDA_DEVICE_SM_LIMIT_0=cap,
        GPU_CORE_UTILIZATION_POLICY=policy,
        CUDA_TASK_PRIORITY="0",
        DRAGOMAN_PROBE="busy",
    )
    ask({**variables, "DRAGOMAN_PROBE": ""})
    layout.write_number(str(region), field=layout.UTILIZATION_SWITCH, value=switch, host=host)
    with subprocess.Popen([probe()], env=variables, stdout=subprocess.PIPE) as running:
        try:
            assert _soon(lambda: _launches(region) > 0)
            assert layout.make_wait(str(region), host=host)
            began, before = int(time.time()), _launches(region)
            if waits:
                # It notes that it is about to launch, and does not.
                assert _soon(lambda: layout.read_region(str(region), host=host).last_kernel > began)
                assert _launches(region) == before
                assert layout.let_go(str(region), host=host)
            assert _soon(lambda: _launches(region) > before)
            assert layout.read_region(str(region), host=host).recent_kernel == (2 if waits else layout.WAIT)
        finally:
            running.kill()
