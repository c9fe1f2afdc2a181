"""Regions as HAMi-core writes them, byte by byte, for tests."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from driver.isolation import region as layout

MIB = 1 << 20


def made(
    *,
    memory: Mapping[int, int] | None = None,
    cores: Mapping[int, int] | None = None,
    uuids: Sequence[str] = (),
    processes: Sequence[Mapping[int, tuple[int, int]]] = (),
    version: tuple[int, int] = (1, 2),
    magic: int = layout.MAGIC,
    switch: int = 1,
    recent: int = 2,
    priority: int = 1,
    count: int | None = None,
    last: int = 1_700_000_000,
) -> bytes:
    """A region's file.

    Args:
        memory: Limits in MiB by index.
        cores: Caps in percent by index; 100 for all others.
        uuids: UUIDs by index.
        processes: For each process bytes and percent by index; their numbers are 100, 101, ...
        version: Of the layout.
        magic: The magic number.
        switch: The utilization switch.
        recent: Recent kernel.
        priority: The priority.
        count: Number of processes that the tail says, if another than there are.
        last: When it last launched a kernel, in seconds since 1970.
    """
    content = bytearray(layout.SIZE + 1)
    struct.pack_into("<iII", content, 0, magic, *version)
    for index, uuid in enumerate(uuids):
        start = layout.UUIDS + index * layout.UUID_SIZE
        content[start : start + len(uuid)] = uuid.encode()
    for index in range(layout.MAX_CARDS):
        struct.pack_into("<Q", content, layout.LIMITS + 8 * index, (memory or {}).get(index, 0) * MIB)
        struct.pack_into("<Q", content, layout.SM_LIMITS + 8 * index, (cores or {}).get(index, 100))
    for number, used in enumerate(processes):
        slot = layout.SLOTS + number * layout.SLOT_SIZE
        struct.pack_into("<ii", content, slot, 100 + number, 0)
        for index, (memory_used, compute) in used.items():
            at = slot + layout.SLOT_USED + index * layout.SLOT_USED_SIZE + layout.SLOT_USED_TOTAL
            struct.pack_into("<q", content, at, memory_used)
            at = slot + layout.SLOT_UTIL + index * layout.SLOT_UTIL_SIZE + layout.SLOT_UTIL_SM
            struct.pack_into("<q", content, at, compute)
    tail = (len(processes) if count is None else count, switch, recent, priority, last)
    struct.pack_into("<iiiiQ", content, layout.TAIL, *tail)
    return bytes(content)
