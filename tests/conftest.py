"""What every part of the suite shares: the sample of what is too long for every run, and the watch over
reasons.

`--check-reasons` (the whole unit part) fails the run when a documented reason was never raised by it. That
part runs in several processes (pytest-xdist): each tells what it saw, and the first one judges all of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from driver.allocation import Refusal
from driver.allocation.why_not import Ground
from driver.errors import DragomanError
from tests.cluster.support.figures import FIGURE

REASONS = Path(__file__).parents[1] / "docs" / "reasons.md"

# How long an example takes is no property of what is tested: a busy or cold machine takes longer, once.
# A failure tells how it is had again (`--hypothesis-seed`, or the line that is printed).
settings.register_profile(
    "dragoman", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dragoman")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dragoman")
    group.addoption("--long", action="store_true", help="run the tests marked long, all of them")
    group.addoption("--long-sample", type=int, default=0, help="run so many of the tests marked long")
    group.addoption("--long-seed", type=int, default=0, help="seed of the sample")
    group.addoption(
        "--check-reasons", action="store_true", help="fail when a documented reason was never raised"
    )


_RAISED: set[str] = set()
_GATHERING: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    # Without a loop that was ever set, pytest-asyncio makes one to save and to restore and never closes it;
    # whether the garbage collector says so, in some test or at the very end, is chance.
    asyncio.set_event_loop(None)
    if not config.getoption("--check-reasons"):
        return
    original = DragomanError.__init__

    def noted(self: DragomanError, *arguments: Any, **named: Any) -> None:
        _RAISED.add(type(self).reason)
        original(self, *arguments, **named)

    DragomanError.__init__ = noted  # type: ignore[method-assign]
    # Reasons against cards and nodes, and some against a decision, are values and never raised.
    for kind in (Refusal, Ground):
        _note_made(kind)


def _note_made(kind: type[Any]) -> None:
    original = kind.__init__

    def noted(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        _RAISED.add(self.reason)

    kind.__init__ = noted


def _never_raised() -> list[str]:
    documented = set(re.findall(r"</a>`(\w+)`", REASONS.read_text(encoding="utf-8")))
    return sorted(documented - _gathering() - _RAISED)


def _gathering() -> set[str]:
    """Kinds that only gather others under them, which are never raised themselves."""
    # The process that only hands out tests has not loaded them all, and is told.
    return _GATHERING | {kind.reason for kind in _kinds(DragomanError) if kind.__subclasses__()}


def _kinds(kind: type[DragomanError]) -> list[type[DragomanError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in _kinds(sub))]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    told: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["raised"] = sorted(_RAISED)
        told["gathering"] = sorted(_gathering())
        told["left_out"] = session.config.stash.get(_LEFT_OUT, [])
        return
    if session.config.getoption("--check-reasons") and exitstatus == 0 and _never_raised():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes over what a process of the run saw; the hook of pytest-xdist."""
    told: dict[str, Any] = getattr(node, "workeroutput", {})
    _RAISED.update(told.get("raised", ()))
    _GATHERING.update(told.get("gathering", ()))
    node.config.stash[_LEFT_OUT] = told.get("left_out", [])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    found = call.excinfo
    # A fresh machine may have no C compiler; CI has to have one.
    if found is not None and found.typename == "NoCompilerError" and not os.environ.get("CI"):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.reportinfo()[1] or 0, f"Skipped: {found.value}")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    count = min(config.getoption("--long-sample"), len(long))
    chosen = random.Random(config.getoption("--long-seed")).sample(
        sorted(long, key=lambda item: item.nodeid), count
    )
    left_out = [item for item in long if item not in chosen]
    items[:] = [item for item in items if item not in left_out]
    config.stash[_LEFT_OUT] = [item.nodeid for item in left_out]
    config.hook.pytest_deselected(items=left_out)


_LEFT_OUT = pytest.StashKey["list[str]"]()


def _print_figures(reporter: pytest.TerminalReporter) -> None:
    reports = [
        one
        for found in reporter.stats.values()
        for one in found
        if isinstance(one, pytest.TestReport) and one.when == "call"
    ]
    told = [
        (one.nodeid, sentence) for one in reports for name, sentence in one.user_properties if name == FIGURE
    ]
    if told:
        reporter.section("figures of this run")
        for nodeid, sentence in told:
            reporter.line(f"{nodeid.rpartition('::')[2]}: {sentence}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--check-reasons") and _never_raised():
        terminalreporter.section("reasons of docs/reasons.md that no test raised")
        terminalreporter.line(", ".join(_never_raised()))
    _print_figures(terminalreporter)
    left_out: list[str] = config.stash.get(_LEFT_OUT, [])
    if left_out:
        terminalreporter.section("too long for this run, left out (hack/test --long)")
        for nodeid in sorted(left_out):
            terminalreporter.line(nodeid)
