"""Which values are one and the same to every selector.

Purpose: a column groups devices by value; two values may share a group only if no expression can tell them
apart.

Flow: values are grouped by class first (Python takes `True`, 1 and 1.0 for one, CEL does not), then by the
key that `key_of` gives.

Limits: a class that is not known here is never grouped: each such value stands for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from driver.cel.versions import Version
from driver.quantities import Quantity


def key_of(value: Any) -> Hashable:
    """Give what makes a value the same as another one of its class."""
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return value  # type: ignore[no-any-return]  # one of three hashable classes
    make = _KEYS.get(kind)
    return id(value) if make is None else make(value)


def _of_list(value: list[Any]) -> Hashable:
    return tuple((type(element), key_of(element)) for element in value)


# How an amount was written can be seen: `isInteger()` of 1.5Gi is false, of 1536Mi true. What was not written
# but computed says in its canonical text which family of suffixes it belongs to.
_KEYS: dict[type, Callable[[Any], Hashable]] = {
    Quantity: lambda value: (value.nano, value.text or value.canonical()),
    Version: lambda value: (value.order, value.text),
    list: _of_list,
}
