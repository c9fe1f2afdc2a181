"""The Go program over Kubernetes' own code: built once, then asked.

Flow: `build` puts `hack/go/reference` of a release into the cache outside the tree, in a folder named by the
hash of its sources and locks; `ask` feeds it lines and reads one answer for each.

Limits: where Go is missing, `ReferenceMissingError` says what to install.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tooling.cluster.paths import GO_MODULES, cache
from tooling.cluster.progress import Report
from tooling.replay.errors import ReferenceMissingError, ReplayError

RELEASES = ("1.36", "1.37")
SOURCES = GO_MODULES / "reference"

_FLAGS = ("-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags=-s -w")
_FOR = {"1.36": (), "1.37": ("-modfile=go-1.37.mod", "-tags=kubernetes137")}


@dataclass(frozen=True, slots=True)
class Reference:
    """The program of one release."""

    program: Path

    def ask(self, *arguments: str, lines: Iterable[Any] = ()) -> list[Any]:
        """Its answers to JSON lines, in order.

        Raises:
            ReplayError: It ended with an error.
        """
        with tempfile.TemporaryFile() as questions:
            for line in lines:
                questions.write(json.dumps(line).encode() + b"\n")
            questions.seek(0)
            done = subprocess.run(
                [self.program, *arguments],
                stdin=questions,
                capture_output=True,
                check=False,
                env={**os.environ, "GOMAXPROCS": "1"},
            )
        if done.returncode:
            raise ReplayError(f"the reference failed: {done.stderr.decode(errors='replace').strip()}")
        return list(_answers(done.stdout))


def _answers(output: bytes) -> Iterator[Any]:
    for line in output.splitlines():
        yield json.loads(line)


def build(release: str, *, report: Report) -> Reference:
    """The program of a release, built when it is missing.

    Raises:
        ReferenceMissingError: There is no Go.
        ReplayError: It could not be built.
    """
    program = cache() / "bin" / f"reference-{release}-{_key()}" / "reference"
    if program.is_file():
        return Reference(program)
    if shutil.which("go") is None:
        raise ReferenceMissingError(
            "new cases are answered by Kubernetes' own code, which has to be built, and there is no Go "
            "compiler on the PATH. Install Go 1.26 or later (https://go.dev/dl)."
        )
    program.parent.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent.parent / ".reference.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            report(f"Building the reference of Kubernetes {release}, once (about a minute on 2 cores)")
            _build(release, program)
    return Reference(program)


def _key() -> str:
    total = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        total.update(f"{path.name}\n".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def _build(release: str, program: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=program.parent.parent) as scratch:
        made = Path(scratch) / "bin" / program.name
        done = subprocess.run(
            ["go", "build", *_FLAGS, *_FOR[release], "-o", made, "."],
            cwd=SOURCES,
            env={**os.environ, "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = "\n  ".join(done.stderr.splitlines()[-12:])
            raise ReplayError(
                f"the reference of {release} could not be built; the last that Go said was:\n  {last}\n"
                "Look for a missing network (GOPROXY), an old Go or a full disk; then run the command again."
            )
        made.parent.rename(program.parent)
