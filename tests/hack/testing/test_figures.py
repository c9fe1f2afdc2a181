"""Figures that a cluster test tells of its run, under the options that `hack/test` gives to pytest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tooling.testing.parts import Part
from tooling.testing.runner import ROOT, run_part

_TELLS = """
from tests.cluster.conftest import tell


def test_something(tell):
    tell("it took 7 s")
"""


def test_a_figure_that_a_test_tells_stands_at_the_end_of_the_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_tells.py").write_text(_TELLS, encoding="utf-8")
    outcome = run_part(
        Part(name="figures", markers=""),
        arguments=[
            str(tmp_path),
            "-c",
            str(ROOT / "pyproject.toml"),
            *("-p", "tests.conftest"),
            *("-p", "no:cacheprovider"),
        ],
        environment={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'hack'}"},
    )
    assert (outcome.passed, outcome.failed, outcome.status) == (1, 0, 0)
    assert "test_something: it took 7 s" in capfd.readouterr().out
