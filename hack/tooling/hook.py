"""Compiles the program that puts limits on a container's cgroup (`kubelet_plugin/hook/`).

Purpose: `hack/image` puts it into the image, tests run it. Compiled once for each source: the result lies in
the cache, keyed by what went in.

Limits: for the machine's own architecture. Linked statically, which needs libc.a (Debian: libc6-dev).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tooling.cluster.paths import REPOSITORY, cache

SOURCE = REPOSITORY / "kubelet_plugin" / "hook" / "dragoman_hook.c"
NAME = "dragoman-hook"

FLAGS = (
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wconversion",
    "-static",
    "-s",
    "-Wl,--build-id=none",
)
"""The Dockerfile has the same."""


class HookBuildError(Exception):
    """The program cannot be compiled here."""


class NoCompilerError(HookBuildError):
    """This machine has no C compiler."""


def build_hook(source: Path = SOURCE) -> Path:
    """The program, compiled unless it lies in the cache.

    Raises:
        NoCompilerError: There is nothing to compile with.
        HookBuildError: It does not compile; says what the compiler said.
    """
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompilerError("No C compiler found. On Debian and Ubuntu: apt-get install gcc libc6-dev.")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256("\0".join((source.read_text(), version, *FLAGS)).encode()).hexdigest()[:16]
    result = cache() / "hook" / key / NAME
    if result.exists():
        return result
    result.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=result.parent) as scratch:
        fresh = Path(scratch) / NAME
        done = subprocess.run(
            [compiler, *FLAGS, "-o", fresh, source], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise HookBuildError(f"{source.name} does not compile:\n{done.stderr}")
        # Two processes may build at once: the last rename wins, and both are the same.
        fresh.replace(result)
    return result
