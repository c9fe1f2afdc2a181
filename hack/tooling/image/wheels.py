"""The dependencies of both processes, from the locked sets, for the base's Python.

Flow: `Wheels` starts at once, in a thread beside the base, for both wait for the network. pip (the one
that also set up this tree's virtual environment, so that it reaches the same index) downloads wheels for
the image's Python and platform, checks their hashes and unpacks them; bytecode is compiled; one rename
puts the folder into the cache under a hash of the locked sets.
Limits: wheels only, nothing is compiled from source.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tooling.cluster.paths import REPOSITORY, cache
from tooling.cluster.progress import Report, step
from tooling.image.bytecode import compile_tree
from tooling.image.errors import ImageError

AT = "/opt/dragoman/lib"
SETS = ("plugin", "controller")

_NEWEST_GLIBC = 36  # of Debian 12
_OLDEST_GLIBC = 5
_NEVER_RUN = ("bin", "grpc_tools")


class Wheels:
    """The dependencies' folder, made beside the base and finished once the base's Python is there."""

    def __init__(self, *, report: Report) -> None:
        self._report = report
        self._files = [REPOSITORY / "requirements" / f"{name}.txt" for name in SETS]
        total = hashlib.sha256(Path(__file__).read_bytes())
        for file in self._files:
            total.update(file.read_bytes())
        self._key = total.hexdigest()[:16]
        self._store = cache() / "images"
        self._scratch = Path(tempfile.mkdtemp(prefix=".lib-", dir=self._store))
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._installing: Future[None] | None = None

    def start(self, base_name: str) -> None:
        """Begins to install, unless the cache holds the folder for this base."""
        self._target = self._store / f"lib-{self._key}-{base_name}"
        if not self._target.is_dir():
            self._installing = self._pool.submit(self._install_all)

    def finish(self, base: Path) -> Path:
        """The folder that becomes `/opt/dragoman/lib`."""
        if self._installing is None:
            return self._target
        self._installing.result()
        folder = self._scratch / "lib"
        with step("bytecode of the dependencies", report=self._report):
            compile_tree(folder, base=base, at=AT)
        folder.rename(self._target)
        return self._target

    def close(self) -> None:
        """Removes what is left of an unfinished folder."""
        self._pool.shutdown(wait=True)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _install_all(self) -> None:
        folder = self._scratch / "lib"
        with step(f"dependencies from requirements/{{{','.join(SETS)}}}.txt", report=self._report):
            for file in self._files:
                _install(file, folder)
            for name in _NEVER_RUN:
                shutil.rmtree(folder / name, ignore_errors=True)


def _install(requirements: Path, folder: Path) -> None:
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1)]
    platforms = [f"--platform={tag}" for tag in [*tags, f"manylinux2014_{machine}"]]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]
    what = [
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--python-version=3.11",
        "--implementation=cp",
    ]
    # Both sets hold common packages in equal versions: the second may write the same files again.
    done = subprocess.run(
        [*command, *what, *platforms, "--upgrade", f"--target={folder}", "-r", str(requirements)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = "\n  ".join(done.stderr.strip().splitlines()[-8:])
        raise ImageError(
            f"The locked set requirements/{requirements.name} could not be installed:\n  {last}\n",
            remedy="A package index has to be reachable by pip.",
        )
