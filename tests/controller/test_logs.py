from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from controller.logs import configure_logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail() -> None:
    headers = {"Authorization": "Bearer s3cret"}
    raise RuntimeError(f"{len(headers)} header was sent")


def test_a_traceback_in_the_log_holds_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", form="json")
    try:
        fail()
    except RuntimeError:
        logging.getLogger("aiohttp.server").exception("broken")
    line = json.loads(capsys.readouterr().err)
    assert "1 header was sent" in line["exception"]
    assert "s3cret" not in str(line)


def test_a_probe_is_no_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="info", form="json")
    logging.getLogger("aiohttp.access").info("GET /healthz")
    assert capsys.readouterr().err == ""
