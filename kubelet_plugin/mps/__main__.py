"""`python -m kubelet_plugin.mps`: the supervisor of a node's MPS daemon.

Exit codes: 0 after SIGTERM; 1 for what cannot be helped here; 2 for wrong settings.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from driver.errors import DragomanError
from kubelet_plugin.logs import configure_logs
from kubelet_plugin.mps.control import Control
from kubelet_plugin.mps.reconcile import Reconciler
from kubelet_plugin.mps.supervisor import Supervisor
from kubelet_plugin.options import LOG_LEVELS

FOLDER_VARIABLE = "DRAGOMAN_MPS_DIR"
PROGRAM_VARIABLE = "DRAGOMAN_MPS_PROGRAM"


def main(arguments: Sequence[str], *, environment: Mapping[str, str]) -> int:
    """Runs the supervisor; the process's exit code."""
    parser = argparse.ArgumentParser(prog="dragoman-mps", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--mps-dir",
        default=environment.get(FOLDER_VARIABLE) or "/run/dragoman-mps",
        help=f"Folder of sockets and of what shares want, on tmpfs. [{FOLDER_VARIABLE}]",
    )
    parser.add_argument(
        "--program",
        default=environment.get(PROGRAM_VARIABLE) or "nvidia-cuda-mps-control",
        help=f"NVIDIA's control daemon. [{PROGRAM_VARIABLE}]",
    )
    parser.add_argument(
        "--log-level", default=environment.get("DRAGOMAN_LOG_LEVEL") or "info", choices=LOG_LEVELS
    )
    given = parser.parse_args(list(arguments))
    configure_logs(given.log_level)
    folder = Path(given.mps_dir)
    if not folder.is_absolute():
        parser.error(f"--mps-dir: {given.mps_dir!r} is not an absolute path")
    # Not found now, it may be there when a share needs it: then the start says what is missing.
    program = shutil.which(given.program) or given.program
    control = Control(program, pipe_dir=folder / "pipe", log_dir=folder / "log")
    try:
        Supervisor(folder, reconciler=Reconciler(folder, control=control)).run()
    except (DragomanError, OSError) as failed:
        print(f"dragoman-mps: {failed}", file=sys.stderr)  # noqa: T201 - the reason why it ends
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], environment=os.environ))
