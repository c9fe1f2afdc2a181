"""What an API server silently left out of what it was sent.

Purpose: a field whose feature gate is off, or that an older CRD does not know, is dropped with status 200
(invariant 6). Every write is answered with what was stored; this compares the two.

Limits: only what was sent is looked for; defaults and other people's fields in the answer are none of our
business. Lists are compared item by item, so they must be lists that nobody else writes into.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dropped_fields(sent: Any, stored: Any, *, path: str = "") -> list[str]:
    """Paths of what was sent and is not stored, or stored differently."""
    if isinstance(sent, Mapping):
        if not isinstance(stored, Mapping):
            return [path] if sent else []
        found: list[str] = []
        for key, value in sent.items():
            where = f"{path}.{key}" if path else str(key)
            found += dropped_fields(value, stored.get(key), path=where)
        return found
    if isinstance(sent, list | tuple):
        if not isinstance(stored, list | tuple) or len(sent) != len(stored):
            return [path] if sent or stored else []
        return [
            missing
            for index, (mine, theirs) in enumerate(zip(sent, stored, strict=True))
            for missing in dropped_fields(mine, theirs, path=f"{path}[{index}]")
        ]
    # An empty text or a false that is left out says the same as one that is there.
    return [path] if sent != stored and (sent or stored) else []
