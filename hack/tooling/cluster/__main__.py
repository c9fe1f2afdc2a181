"""Runs the command line: ``python3 -m tooling.cluster``."""

import sys

from tooling.cluster.cli import main

sys.exit(main())
