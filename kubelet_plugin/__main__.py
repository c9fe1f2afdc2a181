"""`dragoman-kubelet-plugin`, or `python -m kubelet_plugin`.

Exit status: 0 after a stop that was asked for, 2 if the settings or the node do not let the agent start (the
last line on stderr says why), 1 for a bug.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys

from driver.errors import DragomanError
from kubelet_plugin.settings import parse_settings


def main() -> None:
    """Runs the agent."""
    # gRPC's fork handlers cost memory for each channel, and nothing here forks without exec.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # structlog loads rich where it finds it, for tracebacks that nobody here prints: 4 MiB and 75 ms.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    try:
        settings = parse_settings(sys.argv[1:], environment=os.environ)
        # Late, so that --help and a wrong flag answer at once.
        from kubelet_plugin.app import run_agent  # noqa: PLC0415
        from kubelet_plugin.heap import share_one_heap  # noqa: PLC0415
        from kubelet_plugin.logs import configure_logs  # noqa: PLC0415

        share_one_heap()
        configure_logs(settings.log_level)
        asyncio.run(run_agent(settings))
    except DragomanError as refused:
        print(f"dragoman-kubelet-plugin: {refused}", file=sys.stderr)  # noqa: T201 - for a person at a terminal
        sys.exit(2)
    except OSError as failed:
        print(f"dragoman-kubelet-plugin: {failed}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


if __name__ == "__main__":
    main()
