from __future__ import annotations

import pytest

from tooling.testing import tools
from tooling.testing.parts import Machine


def test_nothing_is_missing_where_everything_is_there() -> None:
    assert tools.missing(lambda _: True) == []


def test_what_is_missing_is_named_by_its_package() -> None:
    assert tools.missing(lambda sign: sign != "strace") == ["strace"]


def test_nothing_is_installed_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_has", lambda _: False)
    monkeypatch.setattr(tools.subprocess, "run", lambda *_, **__: pytest.fail("a command was run"))
    tools.install_missing(Machine(root=False, go=True, debian=True, linux=True))
