"""One heap for all threads.

glibc gives each new thread a heap of its own, up to eight for each core, and what was once touched of one
stays resident. Of the idle agent's dozen threads, most of them gRPC's, that was 1 MiB (measured). Most of
what Python makes does not go that way, so hardly anybody waits for the one that is left.

Limits: glibc's; other C libraries have no such call, and are left alone. Heaps that are there already stay,
so this comes before threads are made.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8
"""Of malloc.h. The variable MALLOC_ARENA_MAX says the same, and is read before a program can set it."""


def share_one_heap() -> bool:
    """Has all threads that are made from here on use the heap that the first one has.

    Returns:
        Whether the C library did so.
    """
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))
    return False
