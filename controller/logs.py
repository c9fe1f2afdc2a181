"""How the controller logs: one JSON object a line on stderr, or readable lines for a terminal.

Flow: our modules log through structlog with constant messages and values as keys; `key` and `queue` are
on each line of one handling. Lines of kopf and aiohttp come through the standard library and get the same
form.

Limits: secrets are never passed to a logger; nothing filters them out here. Tracebacks come as text, without
the values of local variables: a request's headers are among them.
"""

from __future__ import annotations

import logging
import sys

import structlog

FORMATS = ("json", "text")
LEVELS = ("debug", "info", "warning", "error")


def configure_logs(*, level: str, form: str) -> None:
    """Sets up logging for the process.

    Args:
        level: One of `LEVELS`.
        form: One of `FORMATS`.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    last: list[structlog.typing.Processor]
    if form == "json":
        last = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("msg"),
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # kopf tells every step of its watching at "info"; what matters to an administrator comes as a warning.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, root.level))
    # Each probe and each scrape would be a line.
    logging.getLogger("aiohttp.access").setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )
