"""What an API server silently left out of what it was sent.

Purpose: a field whose feature gate is off, or that an older CRD does not know, is dropped with status 200 or
201 and no warning (seen on 1.34.4). The only remedy is to compare what was sent with what was answered.

Limits: only what was sent is looked for; defaults and other people's fields in the answer are none of our
business. Lists are compared item by item, so they must be lists that nobody else writes into. What Go leaves
out as empty (`false`, 0, empty texts, lists and objects) may be missing without being lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def lost_fields(sent: Any, stored: Any, *, path: str = "") -> list[str]:
    """Paths of what was sent and is not stored; of a lost subtree only its root is named.

    For objects whose values the API server may write otherwise (quantities).
    """
    return list(_differences(sent, stored, path=path, exact=False))


def differing_fields(sent: Any, stored: Any, *, path: str = "") -> list[str]:
    """Paths of what was sent and is not stored, or stored differently."""
    return list(_differences(sent, stored, path=path, exact=True))


def _differences(sent: Any, stored: Any, *, path: str, exact: bool) -> Iterator[str]:
    if isinstance(sent, Mapping):
        if isinstance(stored, Mapping):
            yield from _in_mapping(sent, stored, path=path, exact=exact)
        elif sent:
            yield path
    elif _is_list(sent):
        yield from _in_list(sent, stored if _is_list(stored) else (), path=path, exact=exact)
    elif exact and sent != stored and (sent or stored):
        yield path


def _in_mapping(
    sent: Mapping[str, Any], stored: Mapping[str, Any], *, path: str, exact: bool
) -> Iterator[str]:
    for key, value in sent.items():
        below = f"{path}.{key}" if path else str(key)
        if key in stored:
            yield from _differences(value, stored[key], path=below, exact=exact)
        elif value:
            yield below


def _in_list(sent: Sequence[Any], stored: Sequence[Any], *, path: str, exact: bool) -> Iterator[str]:
    if exact and len(stored) != len(sent):
        yield path
        return
    for index, value in enumerate(sent):
        below = f"{path}[{index}]"
        if index < len(stored):
            yield from _differences(value, stored[index], path=below, exact=exact)
        elif value:
            yield below


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
