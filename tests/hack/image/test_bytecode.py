from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tooling.image.bytecode import interpreter
from tooling.image.errors import ImageError


def test_the_bases_python_runs_through_the_bases_own_loader(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.11").touch()
    loader, option, libraries, python = interpreter(tmp_path)
    assert loader.startswith(f"{tmp_path}/lib")
    assert option == "--library-path"
    assert all(path.startswith(str(tmp_path)) for path in libraries.split(":"))
    assert python == f"{tmp_path}/usr/bin/python3.11"


def test_a_machine_of_another_kind_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ImageError, match="riscv64"):
        interpreter(tmp_path)
