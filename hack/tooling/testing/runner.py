"""Runs pytest for one part and reads what it reported.

Limits: the figures come from pytest's own JUnit file, not from its text, so that a plug-in's output cannot be
mistaken for a result.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tooling.testing.parts import Part

ROOT = Path(__file__).resolve().parents[3]
NO_TESTS = 5
"""pytest's exit status when nothing was collected; a part without tests has not run."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a part ended."""

    part: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    why_not: str = ""
    status: int = 0

    @property
    def ran(self) -> bool:
        """Whether at least one test of the part was executed."""
        return self.passed + self.failed > 0


def run_part(part: Part, *, arguments: Sequence[str], environment: Mapping[str, str]) -> Outcome:
    """Runs one part; pytest prints as it goes, and closes with the 20 slowest tests."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dragoman-test-") as folder:
        report = Path(folder) / "report.xml"
        argv = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            part.markers,
            "--durations=20",
            "--durations-min=0.05",
            f"--junit-xml={report}",
            *arguments,
        ]
        status = subprocess.run(argv, cwd=ROOT, env=dict(environment), check=False).returncode
        return _outcome(part, status=status, report=report, seconds=time.monotonic() - began)


def _outcome(part: Part, *, status: int, report: Path, seconds: float) -> Outcome:
    if status == NO_TESTS:
        return Outcome(part=part.name, seconds=seconds, why_not="No test was selected.", status=0)
    if not report.exists():
        return Outcome(part=part.name, seconds=seconds, why_not="pytest wrote no report.", status=status or 1)
    # pytest wrote the file a moment ago: it is not foreign input.
    suites = list(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314
    total, failed, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "skipped")
    )
    errors = sum(int(suite.get("errors", "0")) for suite in suites)
    return Outcome(
        part=part.name,
        passed=total - failed - skipped - errors,
        failed=failed + errors,
        skipped=skipped,
        seconds=seconds,
        status=status,
    )
