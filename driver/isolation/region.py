"""HAMi-core's shared region: the file in which the processes of a share keep limits and counts.

Purpose: what the library really holds, and how much is really used, stand nowhere else. The agent reads the
head with the limits, 2 KiB, for each process of which it asks whether limits hold; and once in a round, for
what is used, the slots of as many processes as the tail says, 2 KiB each.

Flow: `read_region` -> `Region`; pure but for the Host. `driver.isolation.preload_seen` holds it against the
share; the agent makes metrics of it and (`kubelet_plugin.in_force`) writes two numbers of the tail.

Source of the layout: HAMi-core's versions 1.1 and 1.2, which agree in everything that is read here, on 64-bit
Linux with glibc, little-endian. The tests hold the places of the fields against a C compiler.

Limits: everything in the file is written by the container, so nothing in it is believed beyond what it says
of that container itself: counts are cut to what the layout has room for, texts to what a UUID can be. One
that says that all of its 1024 slots are used costs two megabytes of reading and some 60 ms, as one does in
which they are. A file that is being written may show one process' old count beside another's new one.
"""

from __future__ import annotations

import errno
import re
import struct
from dataclasses import dataclass

from driver.host import Host

MAX_CARDS = 16
MAX_PROCESSES = 1024
MAGIC = 19920718

UUIDS = 64
UUID_SIZE = 96
LIMITS = UUIDS + MAX_CARDS * UUID_SIZE
SM_LIMITS = LIMITS + MAX_CARDS * 8
SLOTS = SM_LIMITS + MAX_CARDS * 8
SLOT_USED = 8
SLOT_USED_SIZE = 64
SLOT_USED_TOTAL = 32
SLOT_MONITOR = SLOT_USED + MAX_CARDS * SLOT_USED_SIZE
SLOT_UTIL = SLOT_MONITOR + MAX_CARDS * 8
SLOT_UTIL_SIZE = 48
SLOT_UTIL_SM = 16
SLOT_STATUS = SLOT_UTIL + MAX_CARDS * SLOT_UTIL_SIZE
SLOT_SIZE = SLOT_STATUS + 32
TAIL = SLOTS + MAX_PROCESSES * SLOT_SIZE
UTILIZATION_SWITCH = TAIL + 4
RECENT_KERNEL = TAIL + 8
PRIORITY = TAIL + 12
LAST_KERNEL = TAIL + 16
SIZE = TAIL + 24 + 32
"""Bytes of the structure; the library makes its file one byte longer."""

_HEAD = struct.Struct("<iIIi")
_TAIL = struct.Struct("<iiiiQ")
_NUMBER = struct.Struct("<i")
_AMOUNTS = struct.Struct(f"<{MAX_CARDS}Q")
_PIDS = struct.Struct("<ii")
_UUID = re.compile(rb"[A-Za-z0-9./_-]{1,95}")
_CHUNK_SLOTS = 64


WAIT = -1
"""The `recent_kernel` that HAMi's monitor writes so that processes wait; the library does below 0."""


class RegionError(Exception):
    """The file holds no region, or one that is not understood; the text says why."""


class RegionNotReadyError(RegionError):
    """The file is there and not yet filled in: a process is about to."""


@dataclass(frozen=True, kw_only=True)
class ProcessUse:
    """What one process uses.

    Attributes:
        pid: Its number in its container's PID namespace.
        used: Bytes by the card's index.
        compute: Percent by the card's index, as the library last sampled it.
    """

    pid: int
    used: tuple[int, ...]
    compute: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Region:
    """What a region said at one moment.

    Attributes:
        version: Major and minor version of its layout.
        uuids: UUIDs of cards by index, "" where there is none, or not known yet.
        memory: Memory limit in bytes by index; 0 for none.
        cores: Cap on compute in percent by index; 0 or 100 for none.
        processes: Those that are alive as far as the region knows.
        utilization_switch: 0 lets a process run without a cap if its environment leaves that to the region.
        recent_kernel: Above 0: something was computed lately. Below: all wait.
        priority: 0 before 1.
        last_kernel: Seconds since 1970 of the last launch.
    """

    version: tuple[int, int]
    uuids: tuple[str, ...]
    memory: tuple[int, ...]
    cores: tuple[int, ...]
    processes: tuple[ProcessUse, ...]
    utilization_switch: int
    recent_kernel: int
    priority: int
    last_kernel: int

    def used(self, index: int) -> int:
        """Bytes that all processes use of a card."""
        return sum(one.used[index] for one in self.processes)

    def compute(self, index: int) -> int:
        """Percent of a card's compute that all processes use; what is above 100 is a sampling error."""
        return min(100, sum(one.compute[index] for one in self.processes))


def read_region(path: str, *, host: Host, slots: bool = True) -> Region:
    """Reads a region.

    Args:
        path: Its file.
        host: The node.
        slots: Whether to read what its processes use; without, there are none in what is returned.

    Raises:
        FileNotFoundError: No process has made it yet.
        RegionNotReadyError: It is being made.
        RegionError: It is none.
        OSError: It cannot be read, or a link or a folder is in its place.
    """
    head = host.read_part(path, length=SLOTS)
    if len(head) < _HEAD.size or not any(head[: _HEAD.size]):
        raise RegionNotReadyError("the file is still empty")
    magic, major, minor, _ = _HEAD.unpack_from(head)
    if magic != MAGIC:
        # The library fills in the rest before the magic number.
        raise (RegionNotReadyError if magic == 0 else RegionError)(f"its magic number is {magic}")
    if (major, minor) not in ((1, 1), (1, 2)):
        raise RegionError(f"its layout has version {major}.{minor}, and 1.1 and 1.2 are known")
    tail = host.read_part(path, offset=TAIL, length=_TAIL.size)
    if len(head) < SLOTS or len(tail) < _TAIL.size:
        raise RegionError("it is too short")
    count, switch, recent, priority, last = _TAIL.unpack(tail)
    return Region(
        version=(major, minor),
        uuids=tuple(_uuid(head, index) for index in range(MAX_CARDS)),
        memory=_AMOUNTS.unpack_from(head, LIMITS),
        cores=_AMOUNTS.unpack_from(head, SM_LIMITS),
        processes=_processes(path, count=min(max(count, 0), MAX_PROCESSES) if slots else 0, host=host),
        utilization_switch=switch,
        recent_kernel=recent,
        priority=priority,
        last_kernel=last,
    )


def write_number(path: str, *, field: int, value: int, host: Host) -> None:
    """Writes one of the tail's 32-bit numbers (`UTILIZATION_SWITCH`, `RECENT_KERNEL`).

    Four aligned bytes in one call, so a process sees the old number or the new one; the library itself treats
    them as one word without a lock.

    Raises:
        ValueError: The field is none of the two.
        OSError: The file is gone, was replaced or is shorter than a region.
    """
    if field not in (UTILIZATION_SWITCH, RECENT_KERNEL):
        raise ValueError(f"no field at {field} is ours to write")
    host.write_part(path, _NUMBER.pack(value), offset=field)


def make_wait(path: str, *, host: Host) -> bool:
    """Makes the processes of a region wait before their next launch, until `let_go`.

    Returns:
        Whether they did not wait already; False also where there is no region that can be written.
    """
    try:
        if _recent_kernel(path, host=host) < 0:
            return False
        write_number(path, field=RECENT_KERNEL, value=WAIT, host=host)
    except OSError:
        return False
    return True


def let_go(path: str, *, host: Host) -> bool:
    """Ends the wait of the processes of a region that somebody made wait (`recent_kernel` below 0).

    Whatever else the file says, or how it is damaged, plays no part: who waits, waits by this number alone.

    Returns:
        Whether they waited; False also where there is no region that can be written.
    """
    try:
        if _recent_kernel(path, host=host) >= 0:
            return False
        write_number(path, field=RECENT_KERNEL, value=0, host=host)
    except OSError:
        return False
    return True


def unreadable(failed: OSError) -> str:
    """Why a region cannot be read, in words."""
    if failed.errno in (errno.ELOOP, errno.EINVAL):
        return "a container has put something else in its place"
    return failed.strerror or "it cannot be read"


def _recent_kernel(path: str, *, host: Host) -> int:
    number = host.read_part(path, offset=RECENT_KERNEL, length=_NUMBER.size)
    return int(_NUMBER.unpack(number)[0]) if len(number) == _NUMBER.size else 0


def _count(slots: bytes, at: int) -> int:
    # What was given back may be taken off before what was taken is added: that is less than nothing.
    return max(0, int.from_bytes(slots[at : at + 8], "little", signed=True))


def _uuid(head: bytes, index: int) -> str:
    start = UUIDS + index * UUID_SIZE
    found = _UUID.fullmatch(head[start : start + UUID_SIZE].partition(b"\0")[0])
    return found[0].decode("ascii") if found else ""


def _processes(path: str, *, count: int, host: Host) -> tuple[ProcessUse, ...]:
    found = []
    for first in range(0, count, _CHUNK_SLOTS):
        wanted = min(_CHUNK_SLOTS, count - first) * SLOT_SIZE
        slots = host.read_part(path, offset=SLOTS + first * SLOT_SIZE, length=wanted)
        for start in range(0, len(slots) - SLOT_SIZE + 1, SLOT_SIZE):
            pid, _ = _PIDS.unpack_from(slots, start)
            # The library sets 0 when a process ends, and clears the slot when the next one comes.
            if pid > 0:
                found.append(_process(slots, start, pid=pid))
    return tuple(found)


def _process(slots: bytes, start: int, *, pid: int) -> ProcessUse:
    totals = (start + SLOT_USED + index * SLOT_USED_SIZE + SLOT_USED_TOTAL for index in range(MAX_CARDS))
    loads = (start + SLOT_UTIL + index * SLOT_UTIL_SIZE + SLOT_UTIL_SM for index in range(MAX_CARDS))
    return ProcessUse(
        pid=pid,
        used=tuple(_count(slots, at) for at in totals),
        compute=tuple(_count(slots, at) for at in loads),
    )
