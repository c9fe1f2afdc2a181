"""Room on the stack for deep expressions.

Purpose: the reference takes expressions that are 250 levels deep; parsing, checking and evaluating one
level takes several Python frames, more than Python's default limit allows on top of a caller's own.

Flow: `make_room` is called for expressions with many tokens, and raises the interpreter's limit once.

Limits: the parser bounds the depth, so that no expression comes near the raised limit. Calls from Python
to Python take no C stack, and the few that do take a few hundred bytes each.
"""

from __future__ import annotations

import sys

MANY_TOKENS = 120
_FRAMES = 12_000


def make_room() -> None:
    """Let this process nest calls deeply enough for any expression within the limits."""
    if sys.getrecursionlimit() < _FRAMES:
        sys.setrecursionlimit(_FRAMES)
