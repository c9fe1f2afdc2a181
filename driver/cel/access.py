"""Closures that look into maps, lists and optionals.

Purpose: `a.b`, `a.?b`, `a[b]`, `a[?b]` and `has(a.b)`, with the reference's meaning for what has no fields:
an error, but merely absent where one asks for an optional or with `has()`.

Flow: the compiler passes closures of the parts; the shape that nearly all selectors have,
`device.attributes["domain"].name`, gets a closure of its own.

Limits: an absent optional stays absent through a chain of accesses.
"""

from __future__ import annotations

from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.frames import Closure, Frame
from driver.cel.syntax import Ident, Index, Literal, Node, Select
from driver.cel.values import INT_MAX, INT_MIN, NONE, OptionalValue, find_key, kind_of

_DEVICE_FIELDS: dict[str, Closure] = {
    "driver": lambda frame: frame.device.driver,
    "attributes": lambda frame: frame.device.attributes,
    "capacity": lambda frame: frame.device.capacity,
    "allowMultipleAllocations": lambda frame: frame.device.allow_multiple_allocations,
}
_KEYS = frozenset({"string", "int", "uint", "double", "bool"})
_EMPTY: dict[str, Any] = {}


def whole_device(frame: Frame) -> Any:
    """Give the device as a value: a map of its fields."""
    return {name: read(frame) for name, read in _DEVICE_FIELDS.items()}


def device_field(node: Select) -> Closure:
    """Read a field of the device."""
    read = _DEVICE_FIELDS[node.field]
    if node.test:
        return lambda _frame: True
    return (lambda frame: OptionalValue(present=True, value=read(frame))) if node.optional else read


def device_path(node: Select | Index) -> tuple[Ident, str, str, str] | None:
    """Take `device.attributes["domain"].name` apart: device, field, domain, name.

    None for any other shape. That the first name is the device's is left to be checked.
    """
    if node.optional or (isinstance(node, Select) and node.test):
        return None
    name = node.field if isinstance(node, Select) else _text(node.key)
    domain = node.operand
    if name is None or not isinstance(domain, (Index, Select)) or domain.optional:
        return None
    domain_name = _text(domain.key) if isinstance(domain, Index) else domain.field
    maps = domain.operand
    if domain_name is None or not isinstance(maps, Select) or maps.optional or maps.test:
        return None
    if not isinstance(maps.operand, Ident) or maps.field not in {"attributes", "capacity"}:
        return None
    return maps.operand, maps.field, domain_name, name


def _text(node: Node) -> str | None:
    return node.value if isinstance(node, Literal) and isinstance(node.value, str) else None


def read_path(field: str, domain: str, name: str, position: int) -> Closure:
    """Read an attribute or capacity."""
    if field == "attributes":

        def attribute(frame: Frame) -> Any:
            try:
                return frame.device.attributes[domain][name]
            except KeyError:
                raise _absent(name, position) from None

        return attribute

    def capacity(frame: Frame) -> Any:
        try:
            return frame.device.capacity[domain][name]
        except KeyError:
            raise _absent(name, position) from None

    return capacity


def element(holder: Closure, key: Closure, position: int, *, optional: bool) -> Closure:
    """Look a key or index up."""

    def get(frame: Frame) -> Any:
        container = holder(frame)
        chained = type(container) is OptionalValue
        if chained:
            if not container.present:
                # What would be looked up in it is not worked out, so it cannot raise.
                frame.left += 1
                return NONE
            container = container.value
        wanted = key(frame)
        if type(container) is dict and type(wanted) is str and not (optional or chained):
            try:
                return container[wanted]
            except KeyError:
                raise _absent(wanted, position) from None
        found = _find(container, wanted, position)
        if optional or chained:
            if found is None or not found.present:
                # What is absent costs nothing.
                frame.left += 1
                return NONE
            return found
        if found is None or not found.present:
            raise _absent(wanted, position)
        return found.value

    return get


def has(holder: Closure, field: str, position: int) -> Closure:
    """Say whether a field is present."""

    def present(frame: Frame) -> bool:
        container = holder(frame)
        if type(container) is OptionalValue:
            if not container.present:
                return False
            container = container.value
        found = _find(container, field, position)
        return found is not None and found.present

    return present


def _find(container: Any, key: Any, position: int) -> OptionalValue | None:
    """Look a key up; None where a value has no elements at all."""
    kind, key_kind = kind_of(container), kind_of(key)
    if key_kind not in _KEYS:
        raise EvaluationError(f"nothing can be indexed with a {key_kind}", position=position)
    if kind == "map":
        return find_key(container, key)
    if kind != "list":
        return None
    if key_kind in {"string", "bool"}:
        raise EvaluationError(f"a list cannot be indexed with a {key_kind}", position=position)
    if not INT_MIN <= key <= INT_MAX or key != int(key):
        raise EvaluationError(f"a list cannot be indexed with {key}", position=position)
    if 0 <= key < len(container):
        return OptionalValue(present=True, value=container[int(key)])
    return NONE


def _absent(key: object, position: int) -> EvaluationError:
    return EvaluationError(f"no such key: {key}", position=position)
