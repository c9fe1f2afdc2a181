"""How much memory a process holds and how much processor time it took, as the kernel counts it.

RSS counts pages that are shared with other processes (libraries); USS counts only what would be free if the
process ended. Source: /proc/PID/smaps_rollup.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of one process in MiB."""

    rss_mib: float
    uss_mib: float


def memory_of(pid: int) -> Memory:
    """The memory of a process now.

    Raises:
        OSError: There is no such process, or it is another user's.
    """
    return parse_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))


def parse_rollup(text: str) -> Memory:
    """Reads smaps_rollup.

    Raises:
        KeyError: A line that has to be there is missing.
    """
    kib = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in text.splitlines()[1:])
        if rest.strip().endswith("kB")
    }
    return Memory(rss_mib=kib["Rss"] / 1024, uss_mib=(kib["Private_Clean"] + kib["Private_Dirty"]) / 1024)


def processor_s(pid: int) -> float:
    """Processor time that a process took so far, in seconds; a clock tick (10 ms) fine.

    Raises:
        OSError: There is no such process.
    """
    return parse_stat(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"))


def parse_stat(text: str) -> float:
    """Reads /proc/PID/stat: user and system time, in seconds."""
    # The program's name may hold anything, also spaces and parentheses.
    after = text.rpartition(")")[2].split()
    return (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The most memory that a process ever had resident, in MiB.

    Raises:
        OSError: There is no such process.
    """
    return parse_peak(Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))


def parse_peak(text: str) -> float:
    """Reads VmHWM of /proc/PID/status, in MiB.

    Raises:
        KeyError: The line is missing.
    """
    lines = dict(line.partition(":")[::2] for line in text.splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024
