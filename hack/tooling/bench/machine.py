"""The line that says where a figure comes from: machine, versions, and how busy it was.

Limits: reads /proc and /sys of Linux; what is missing there is left out of the line.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a figure comes from.

    Attributes:
        cores: Cores that this process may use.
        processor: The processor's name, "" if unknown.
        memory_gib: Memory of the machine.
        kernel: Release of the kernel.
        python: Version of Python.
        storage: Type of the file system that holds state and CDI specs.
        versions: Further versions, name to version.
    """

    cores: int
    processor: str
    memory_gib: float
    kernel: str
    python: str
    storage: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """The machine in one line."""
        processor = f" ({self.processor})" if self.processor else ""
        known = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.cores} cores{processor}, {self.memory_gib:.0f} GiB, Linux {self.kernel}, "
            f"state on {self.storage}, Python {self.python}{', ' if known else ''}{known}"
        )

    def document(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def this_machine(folder: Path, *, versions: Mapping[str, str]) -> Machine:
    """This machine; `folder` is where the measured programs keep their state."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=processor_of(_text("/proc/cpuinfo")),
        memory_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        kernel=platform.release(),
        python=platform.python_version(),
        storage=storage_of(folder, mounts=_text("/proc/mounts")),
        versions={"grpcio": metadata.version("grpcio"), **versions},
    )


def load() -> float:
    """The load average over the last minute."""
    return os.getloadavg()[0]


def commit(root: Path) -> str:
    """The commit of the tree that is measured; with a plus where files differ from it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


def processor_of(cpuinfo: str) -> str:
    """The processor's name in /proc/cpuinfo."""
    names = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(names, "")


def storage_of(folder: Path, *, mounts: str) -> str:
    """The type of the file system that holds a folder, by /proc/mounts; "?" if none does."""
    best, kind = -1, "?"
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        # The last mount on a point covers those before it.
        if folder.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), found
    return kind


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
