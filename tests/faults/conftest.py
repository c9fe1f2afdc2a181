from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def rng(pytestconfig: pytest.Config) -> random.Random:
    """Chance, by the seed of the run."""
    return random.Random(pytestconfig.getoption("--long-seed"))


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints what was tried, also when the test passes."""

    def say(sentence: str) -> None:
        with capsys.disabled():
            print(f"\n  {sentence}")  # noqa: T201 - the figures belong into the run's log

    return say


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of starts would bury what a failure says."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()
