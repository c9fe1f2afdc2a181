from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.build import fake_cuda, probe, stub_library
from tooling.preload_library import LibraryError, copy, inspect, main


def test_a_library_with_the_contract_is_accepted_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(stub_library()), "--max-glibc", "2.99"]) == 0
    found = inspect(stub_library().read_bytes(), max_glibc="2.99")
    out = capsys.readouterr().out
    assert found.processor in out
    assert found.glibc.startswith("2.")
    assert f"version {found.sha256[:16]}" in out


def test_it_is_copied_to_where_the_image_takes_it_from(tmp_path: Path) -> None:
    target = tmp_path / "out" / "libvgpu.so"
    arguments = [str(stub_library()), "--max-glibc", "2.99", "--output", str(target)]
    assert main(arguments) == 0
    assert target.read_bytes() == stub_library().read_bytes()
    assert target.stat().st_mode & 0o777 == 0o755
    assert main(arguments) == 0


def test_another_library_is_never_written_over(tmp_path: Path) -> None:
    target = tmp_path / "libvgpu.so"
    target.write_bytes(b"one that runs")
    with pytest.raises(LibraryError, match="never written over"):
        copy(b"another", target)
    assert target.read_bytes() == b"one that runs"


def test_a_library_that_asks_for_a_newer_glibc_than_images_have_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(stub_library()), "--max-glibc", "2.2"]) == 1
    assert "the container runs without its limit" in " ".join(capsys.readouterr().err.split())


def test_versions_of_glibc_are_compared_as_numbers() -> None:
    content = stub_library().read_bytes() + b"GLIBC_2.9\0GLIBC_2.99\0"
    assert inspect(content, max_glibc="2.100").glibc == "2.99"


def test_a_library_that_does_not_know_the_contract_is_refused() -> None:
    with pytest.raises(LibraryError, match="does not know CUDA_DEVICE_SM_LIMIT"):
        inspect(fake_cuda().read_bytes(), max_glibc="2.99")


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\nexit 0\n" * 9])
def test_what_is_no_library_is_refused(content: bytes) -> None:
    with pytest.raises(LibraryError, match="no shared library"):
        inspect(content, max_glibc="2.28")


def test_a_library_for_another_processor_is_refused() -> None:
    content = bytearray(stub_library().read_bytes())
    content[18:20] = (40).to_bytes(2, "little")
    with pytest.raises(LibraryError, match="not for a processor that is supported"):
        inspect(bytes(content), max_glibc="2.99")


def test_a_program_is_no_library() -> None:
    content = bytearray(probe().read_bytes())
    content[16:18] = (2).to_bytes(2, "little")
    with pytest.raises(LibraryError, match="no shared library"):
        inspect(bytes(content), max_glibc="2.99")


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere/libvgpu.so"]) == 1
    assert "/nowhere/libvgpu.so" in capsys.readouterr().err


def test_a_version_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["x", "--max-glibc", "new"])
    assert "not a version of glibc" in capsys.readouterr().err
