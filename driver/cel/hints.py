"""What somebody may have meant.

Purpose: the remedy of an error: the nearest name, or the usual mistake.

Flow: the checker asks when something is wrong; nothing here is computed for expressions that are right.

Limits: at most one suggestion.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_USUAL = {
    "length": "Use size().",
    "len": "Use size().",
    "count": "Use size(), after filter() where only some count.",
    "any": "Use exists(x, ...).",
    "some": "Use exists(x, ...).",
    "every": "Use all(x, ...).",
    "isEmpty": "Compare size() with 0.",
    "lower": "Use lowerAscii().",
    "toLowerCase": "Use lowerAscii().",
    "upper": "Use upperAscii().",
    "toUpperCase": "Use upperAscii().",
    "match": "Use matches().",
    "in": 'Write "x in list".',
    "and": "Write &&.",
    "or": "Write ||, or a.or(b) for optionals.",
    "not": "Write !.",
}
_MACROS = {
    "all": "all(x, condition) or all(key, value, condition)",
    "exists": "exists(x, condition) or exists(key, value, condition)",
    "exists_one": "exists_one(x, condition)",
    "existsOne": "exists_one(x, condition) or existsOne(key, value, condition)",
    "map": "map(x, result) or map(x, condition, result)",
    "filter": "filter(x, condition)",
    "transformList": "transformList(index, value, result)",
    "transformMap": "transformMap(key, value, result)",
    "transformMapEntry": "transformMapEntry(key, value, {key: value})",
    "sortBy": "sortBy(x, key)",
    "optMap": "optMap(x, result)",
    "optFlatMap": "optFlatMap(x, result)",
    "has": "has(a.b)",
    "bind": "cel.bind(name, value, expression)",
}


def function_hint(name: str, *, method: bool, known: Iterable[tuple[str, bool]]) -> str:
    """Suggest a function for a name that does not exist."""
    if name in _MACROS:
        return f"Write {_MACROS[name]}."
    if name in _USUAL:
        return _USUAL[name]
    names = list(known)
    if (name, not method) in names:
        return f"Write {name}(x)." if method else f"Write x.{name}()."
    return nearest(name, (one for one, _ in names if one[0].isalpha()))


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest of some names, nothing where none is near."""
    found = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=0.7)
    return f"Did you mean {found[0]!r}?" if found else ""
