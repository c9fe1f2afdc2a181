"""The program `kubectl-dragoman`, which kubectl finds as `kubectl dragoman`.

Flow: `main` starts the command line and hands over, when a command asks for it, what it has to know of the
controller's other parts.

Limits: imports as little as possible; `controller.kubectl_rules` is loaded by the commands that need it.
"""

from __future__ import annotations

import sys
from importlib import import_module

from controller.cli.main import run


def main() -> None:
    """Runs the command line; exit status 0 and 1 are answers, 2 means that there is none."""
    sys.exit(run(sys.argv[1:], rules=lambda: import_module("controller.kubectl_rules").rules()))


if __name__ == "__main__":
    main()
