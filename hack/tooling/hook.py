"""Compiles the programs that put limits on a container's cgroup (`kubelet_plugin/hook/`).

Purpose: `hack/image` puts them into the image, tests run them. Compiled once for each source: the result lies
in the cache, keyed by what went in.

Limits: for the machine's own architecture. To link statically needs libc.a (Debian: libc6-dev).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tooling.cluster.paths import REPOSITORY, cache

FOLDER = REPOSITORY / "kubelet_plugin" / "hook"
NAME = "dragoman-hook"
NVML_NAME = "dragoman-hook-nvml"

_COMMON = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-s", "-Wl,--build-id=none")

FLAGS = (*_COMMON, "-static")
"""The Dockerfile has the same."""

NVML_FLAGS = (*_COMMON, "-nostartfiles", "-Wl,-z,lazy")
STUB_FLAGS = ("-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1")


class HookBuildError(Exception):
    """A program cannot be compiled here."""


class NoCompilerError(HookBuildError):
    """This machine has no C compiler."""


def build_hook(folder: Path = FOLDER) -> Path:
    """The program for the controller dmem, compiled unless it lies in the cache.

    Raises:
        NoCompilerError: There is nothing to compile with.
        HookBuildError: It does not compile; says what the compiler said.
    """
    return _build(folder, name=NAME, commands=[[*FLAGS, "-o", NAME, str(folder / "dragoman_hook.c")]])


def build_nvml_hook(folder: Path = FOLDER) -> Path:
    """The program for NVIDIA's own accounting; raises what `build_hook` does."""
    stub = [*STUB_FLAGS, "-o", "libnvidia-ml.so.1", str(folder / "libnvidia_ml_stub.c")]
    program = [*NVML_FLAGS, "-o", NVML_NAME, str(folder / "dragoman_hook_nvml.c"), "libnvidia-ml.so.1"]
    return _build(folder, name=NVML_NAME, commands=[stub, program])


def _build(folder: Path, *, name: str, commands: list[list[str]]) -> Path:
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompilerError("No C compiler found. On Debian and Ubuntu: apt-get install gcc libc6-dev.")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    sources = [path.read_text() for path in sorted(folder.glob("*.[ch]"))]
    words = [word.replace(str(folder), "") for command in commands for word in command]
    key = hashlib.sha256("\0".join((version, *words, *sources)).encode()).hexdigest()[:16]
    result = cache() / "hook" / key / name
    if result.exists():
        return result
    result.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=result.parent) as scratch:
        for command in commands:
            done = subprocess.run(
                [compiler, *command], cwd=scratch, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise HookBuildError(f"{name} does not compile:\n{done.stderr}")
        # Two processes may build at once: the last rename wins, and both are the same.
        (Path(scratch) / name).replace(result)
    return result
