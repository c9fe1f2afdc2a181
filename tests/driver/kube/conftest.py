"""Logs of code under test are captured: pretty tracebacks cost seconds, and nobody reads them."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    with capture_logs():
        yield
