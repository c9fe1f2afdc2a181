"""Programs beside Python that some tests need: a C compiler and strace.

Flow: where root and Debian's packages are there, what is missing is installed once, before the first part;
elsewhere the tests that need it say that they did not run, and why.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tooling.testing.parts import Machine

PACKAGES: tuple[tuple[str, str], ...] = (
    ("gcc", "gcc"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("strace", "strace"),
)
"""A program or file that tells whether it is there, and the Debian package that brings it."""


def missing(has: Callable[[str], bool]) -> list[str]:
    """Names of the packages that are needed and missing."""
    return [package for sign, package in PACKAGES if not has(sign)]


def install_missing(machine: Machine) -> None:
    """Installs what is missing, if this machine allows it; a failure is told and leaves its tests not run."""
    packages = missing(_has)
    if not packages or not (machine.root and machine.debian):
        return
    print(f"==> installing {', '.join(packages)} (Debian's packages)", flush=True)
    for argv in (
        ["apt-get", "-o", "Acquire::Retries=3", "update", "-qq"],
        ["apt-get", "-o", "Acquire::Retries=3", "install", "-qq", "-y", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"    {' '.join(argv)} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            return


def _has(sign: str) -> bool:
    return Path(sign).exists() if sign.startswith("/") else shutil.which(sign) is not None
