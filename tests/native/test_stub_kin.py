"""The stubs of HAMi's libraries for Ascend and AMD: loaded as the real ones are, they find their limits."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from driver.isolation.preload import PreloadSettings
from driver.isolation.preload_amd import PreloadAmd
from driver.isolation.preload_ascend import PreloadAscend
from driver.isolation.preload_one_card import REGION_HEAD, Held
from tests.native.build import probe, stub_amvgpu, stub_vnpu

SETTINGS = PreloadSettings(library="/l", files_dir="/f", region_dir="/r")


def _region(tmp_path: Path, variables: dict[str, str]) -> set[str]:
    subprocess.run([probe(), "--once"], env=variables, capture_output=True, check=True)
    return set((tmp_path / "region.variables").read_text().splitlines())


def test_a_preloaded_libvnpu_finds_quota_and_priority(tmp_path: Path) -> None:
    variables = {
        "NPU_LOCAL_SHM_PATH": str(tmp_path / "region"),
        "NPU_MEM_QUOTA": "1024",
        "NPU_PRIORITY": "10",
    }
    found = _region(tmp_path, {**variables, "LD_PRELOAD": str(stub_vnpu()), "HOME": "/"})
    assert found == {f"{name}={value}" for name, value in variables.items()}
    held = PreloadAscend(SETTINGS).held_in((tmp_path / "region").read_bytes()[:REGION_HEAD])
    assert held.memory_bytes == 1024 << 20


def test_an_auditing_libamvgpu_finds_its_limit(tmp_path: Path) -> None:
    variables = {
        "HIP_DEVICE_MEMORY_SHARED_CACHE": str(tmp_path / "region"),
        "HIP_DEVICE_MEMORY_LIMIT_0": "1024m",
    }
    found = _region(tmp_path, {**variables, "LD_AUDIT": str(stub_amvgpu()), "HOME": "/"})
    assert found == {f"{name}={value}" for name, value in variables.items()}
    # The stub has the structure's head from its C compiler, semaphore included.
    held = PreloadAmd(SETTINGS).held_in((tmp_path / "region").read_bytes()[:REGION_HEAD])
    assert held == Held(memory_bytes=1024 << 20, certain=True)


@pytest.mark.parametrize("how", ["LD_PRELOAD", "LD_AUDIT"])
def test_without_its_variable_a_library_opens_nothing(tmp_path: Path, how: str) -> None:
    library = stub_vnpu() if how == "LD_PRELOAD" else stub_amvgpu()
    subprocess.run([probe(), "--once"], env={how: str(library)}, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []
