"""Which process a number means: numbers are used again, number and time of the start together are not.

Source: proc_pid_stat(5). The program's name, which whoever runs it chooses, may hold blanks and brackets;
what counts stands behind the last bracket.
"""

from __future__ import annotations

MAX_STAT_BYTES = 4096

_START_TIME_FIELD = 19
"""Field 22 of /proc/PID/stat, counted from behind the program's name."""


def started_in(stat: str) -> str:
    """When the process started, in the kernel's ticks, from the text of its `stat`; "" if it is dead."""
    fields = stat.rpartition(")")[2].split()
    if len(fields) <= _START_TIME_FIELD or fields[0] in ("Z", "X"):
        return ""
    return fields[_START_TIME_FIELD]
