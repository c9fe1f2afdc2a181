"""Options that every part of the suite shares: what is too long for every run, and the sample of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dragoman")
    group.addoption("--long", action="store_true", help="run the tests marked long, all of them")
    group.addoption("--long-sample", type=int, default=0, help="run so many of the tests marked long")
    group.addoption("--long-seed", type=int, default=0, help="seed of the sample")


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out: Iterable[str] = config.stash.get(_LEFT_OUT, [])
    if left_out:
        terminalreporter.section("too long for this run, left out (hack/test --long)")
        for nodeid in sorted(left_out):
            terminalreporter.line(nodeid)
