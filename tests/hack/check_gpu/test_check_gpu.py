"""The whole command on a scripted NVML and a CUDA driver without a card; the child is a real process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver.vendors.nvidia import Nvidia
from driver.vendors.nvml import PynvmlNvml
from tests.driver.vendors.nvml_world import NvmlWorld, loader
from tests.native.build import fake_cuda, stub_library
from tooling.check_gpu import __main__ as command

UUID = "GPU-00000000-0000-0000-0000-000000000000"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NvmlWorld]:
    monkeypatch.setenv("MOCK_NVML_FILE", "")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_cuda().parent))
    monkeypatch.setenv("FAKE_CUDA_LIMIT", "1")
    nvml = PynvmlNvml(loader())
    monkeypatch.setattr(command, "Nvidia", lambda: Nvidia(nvml=nvml))
    yield NvmlWorld(tmp_path / "nvml.txt")
    nvml.close()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*arguments: str) -> tuple[int, str, str]:
        code = command.main(["--library", str(stub_library()), *arguments])
        return (code, *capsys.readouterr())

    return run_it


def rows(out: str) -> dict[str, str]:
    """What the table says of each line: `ok` or `NOT`."""
    found = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith(("ok ", "NOT "))]
    return {text.partition("  ")[0]: verdict for verdict, text in found}


def test_a_limit_that_holds_gives_a_table_of_ok(world: NvmlWorld, run: Run) -> None:
    world.card(0, uuid=UUID)
    code, out, _ = run("--memory", "1Gi", "--step", "64Mi")
    assert code == command.HELD
    assert out.startswith("Card 0: NVIDIA A100-SXM4-40GB, GPU-00000000")
    assert set(rows(out).values()) == {"ok"}
    assert "1024 MiB" in out
    assert "CUDA_ERROR_OUT_OF_MEMORY" in out


def test_a_limit_that_does_not_hold_is_shown_line_by_line(
    world: NvmlWorld, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_LIMIT", "0")
    world.card(0, uuid=UUID)
    code, out, _ = run()
    assert code == command.NOT_HELD
    assert rows(out) == {
        "without the share, the program can take more than the limit": "ok",
        "the preload library is in the process": "ok",
        "CUDA tells the program the share's memory": "NOT",
        "the program can take memory up to the limit, no more": "NOT",
        "one step more is refused": "NOT",
    }
    assert "not refused" in out


def test_a_card_that_is_too_full_to_tell_does_not_count_as_held(
    world: NvmlWorld, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_TOTAL_MIB", "512")
    world.card(0, uuid=UUID)
    code, out, _ = run("--memory", "1Gi")
    assert code == command.NOT_HELD
    assert rows(out)["without the share, the program can take more than the limit"] == "NOT"


def test_a_machine_without_a_card_says_so(world: NvmlWorld, run: Run) -> None:
    code, out, err = run()
    assert (code, out) == (command.NOTHING_MEASURED, "")
    assert "no card found" in err


def test_a_card_in_mig_mode_is_no_card_to_measure(world: NvmlWorld, run: Run) -> None:
    world.card(0, uuid=UUID, mig="1")
    code, _, err = run()
    assert code == command.NOTHING_MEASURED
    assert "the mode for them (MIG)" in err


def test_a_card_that_is_not_there_is_named_beside_those_that_are(world: NvmlWorld, run: Run) -> None:
    world.card(0, uuid=UUID)
    code, _, err = run("--card", "GPU-other")
    assert code == command.NOTHING_MEASURED
    assert "GPU-other" in err
    assert UUID in err


def test_a_missing_library_measures_nothing(world: NvmlWorld, run: Run) -> None:
    world.card(0, uuid=UUID)
    code, _, err = run("--library", "/nowhere/libvgpu.so")
    assert code == command.NOTHING_MEASURED
    assert "preload library is missing" in err


def test_a_driver_without_a_card_measures_nothing(
    world: NvmlWorld, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CUDA_CARDS", "0")
    world.card(0, uuid=UUID)
    code, _, err = run()
    assert code == command.NOTHING_MEASURED
    assert "cuInit: CUDA_ERROR_NO_DEVICE" in err


def test_a_card_that_cuda_does_not_see_measures_nothing(world: NvmlWorld, run: Run) -> None:
    world.card(0)
    code, _, err = run()
    assert code == command.NOTHING_MEASURED
    assert "none of 1 cards has the UUID" in err


@pytest.mark.parametrize("amount", ["0", "1500Ki", "-1Gi", "much"])
def test_an_amount_that_is_not_in_whole_mib_is_refused(world: NvmlWorld, run: Run, amount: str) -> None:
    code, _, err = run(f"--memory={amount}")
    assert code == command.NOTHING_MEASURED
    assert "--memory" in err
