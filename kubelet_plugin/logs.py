"""How the agent logs: one JSON object a line, on stderr, with one `op` on each line of one flow.

Flow: modules log through structlog with constant messages and values as keys; `operation` opens a flow (a
call of the kubelet, a look for cards, a write) and binds its `op` to all lines below it; lines of libraries
that log through the standard library arrive in the same format.

Limits: secrets are never passed to a logger; nothing filters them out here.
"""

from __future__ import annotations

import json
import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(level: str) -> None:
    """Sets up logging for the process; `level` is one of `kubelet_plugin.settings.LOG_LEVELS`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("msg"),
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(max(_LEVELS[level], logging.INFO))


@contextmanager
def operation(name: str, **values: Any) -> Iterator[str]:
    """Opens a flow: all lines logged below carry its `op` (eight hex digits), its name and the values."""
    op = secrets.token_hex(4)
    with structlog.contextvars.bound_contextvars(op=op, flow=name, **values):
        yield op


# Made once: json.dumps makes one for each line when it has options.
_ENCODER = json.JSONEncoder(default=str, separators=(",", ":"))


def _to_json(event: Any, **_options: Any) -> bytes:
    return _ENCODER.encode(event).encode()


class _Forward(logging.Handler):
    """Hands lines of the standard library's loggers to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        level = "error" if record.levelno >= logging.ERROR else logging.getLevelName(record.levelno).lower()
        write = getattr(logger, level, logger.info)
        write(record.getMessage(), logger=record.name, exc_info=record.exc_info)
