"""`dragoman-controller`: reads the settings and runs the controller."""

from __future__ import annotations

import asyncio
import os
import sys

from controller.logs import configure_logs
from controller.running import run
from controller.settings import parse_settings
from driver.errors import DragomanError


def main() -> None:
    """Entry point of the process; exits with 2 for bad settings, 1 for a failure."""
    try:
        settings = parse_settings(sys.argv[1:], os.environ)
    except DragomanError as invalid:
        sys.exit(_refused(invalid))
    configure_logs(level=settings.log_level, form=settings.log_format)
    try:
        asyncio.run(run(settings))
    except DragomanError as invalid:
        sys.exit(_refused(invalid))


def _refused(invalid: DragomanError) -> int:
    print(f"dragoman-controller: {invalid}", file=sys.stderr)  # noqa: T201 - logging may not be set up yet
    return 2


if __name__ == "__main__":
    main()
