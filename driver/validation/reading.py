"""Reads parts of an object that may be anything.

Purpose: whoever validates asks for a mapping or a list and gets one, or an error with the field's path.

Flow: `mapping`, `entries` and `text` each read one field of a holder.

Limits: an absent field and null are an empty mapping, list or text, as for the API server.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from driver.errors import shown
from driver.validation.errors import ObjectTooLargeError, ObjectUnreadableError

_NEAR = 0.8
_PART = 3


def path(field: str, name: str) -> str:
    """The path of a part of a field."""
    return f"{field}.{name}" if field else name


def mapping(holder: Mapping[str, Any], name: str, *, field: str) -> Mapping[str, Any]:
    """An object.

    Raises:
        ObjectUnreadableError: It is something else.
    """
    found = holder.get(name)
    if found is None:
        return {}
    return as_mapping(found, field=path(field, name))


def as_mapping(found: Any, *, field: str) -> Mapping[str, Any]:
    """The same of a value.

    Raises:
        ObjectUnreadableError: It is something else.
    """
    if not isinstance(found, Mapping):
        raise ObjectUnreadableError(f"{shown(found)} is no object.", field=field)
    return found


def entries(holder: Mapping[str, Any], name: str, *, field: str, most: int) -> Sequence[Any]:
    """A list.

    Raises:
        ObjectUnreadableError: It is something else.
        ObjectTooLargeError: It has more than `most` entries.
    """
    found = holder.get(name)
    if found is None:
        return ()
    where = path(field, name)
    if not isinstance(found, list | tuple):
        raise ObjectUnreadableError(f"{shown(found)} is no list.", field=where)
    if len(found) > most:
        raise ObjectTooLargeError(
            f"{len(found)} entries are more than the {most} that the API allows.",
            field=where,
            remedy="Write fewer, or divide the object.",
        )
    return found


def text(holder: Mapping[str, Any], name: str, *, field: str) -> str:
    """A text.

    Raises:
        ObjectUnreadableError: It is something else.
    """
    found = holder.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ObjectUnreadableError(f"{shown(found)} is no text.", field=path(field, name))
    return found


def names(holder: Mapping[str, Any], name: str, *, field: str, most: int) -> Sequence[str]:
    """A list of texts.

    Raises:
        ObjectUnreadableError: It is something else.
        ObjectTooLargeError: It has more than `most` entries.
    """
    found = entries(holder, name, field=field, most=most)
    for place, one in enumerate(found):
        if not isinstance(one, str):
            raise ObjectUnreadableError(f"{shown(one)} is no text.", field=f"{path(field, name)}[{place}]")
    return found


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """A sentence that suggests the nearest of some names, or one that it is a part of; "" where none is."""
    name, names = name[:128], sorted(set(known))
    found = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    if not (found and difflib.SequenceMatcher(None, name, found[0]).ratio() >= _NEAR) and len(name) >= _PART:
        found = [one for one in names if name.casefold() in one.casefold()] or found
    return f"Did you mean {found[0]}?" if found else ""
