from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pynvml
import pytest

from driver.vendors.nvml import PynvmlNvml
from tests.driver.vendors.nvml_world import NvmlWorld, loader


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NvmlWorld]:
    monkeypatch.setenv("MOCK_NVML_FILE", "")
    yield NvmlWorld(tmp_path / "nvml.txt")
    # The library counts sessions, and it is one for all tests.
    with suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


@pytest.fixture
def nvml(world: NvmlWorld) -> Iterator[PynvmlNvml]:
    found = PynvmlNvml(loader())
    yield found
    found.close()
