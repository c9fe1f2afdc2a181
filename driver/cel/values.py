"""Values at run time, and when two of them are equal.

Purpose: CEL keeps apart what Python takes for one (`true` and 1, 1 and 1u), and Kubernetes' own types
bring their own notion of equality; all of it is here.

Flow: a CEL value is None, bool, int, UInt, float, str, bytes, list, dict, Version, Quantity or
OptionalValue. The exact class is the type; `kind_of` names it.

Limits: two peculiarities of the reference are kept because selectors may rest on them: a version or
quantity compared with something else on its right is an error rather than false, and a quantity that
`add` or `sub` made cannot stand on the right of `==`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.versions import Version
from driver.quantities import Quantity

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
UINT_MAX = (1 << 64) - 1


class UInt(int):
    """An unsigned number: a type of its own in CEL."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ComputedQuantity(Quantity):
    """What `add` and `sub` give.

    Attributes:
        counted: Whether the reference holds it as an int64 without fraction digits.
    """

    counted: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class OptionalValue:
    """A value that may be absent: `optional.none()` has no value, which is not the same as null."""

    present: bool
    value: Any = None


NONE = OptionalValue(present=False)


class DomainMap(dict[str, dict[str, Any]]):
    """`device.attributes` and `device.capacity`: a domain that the device lacks reads as an empty map.

    `in` and `size()` still tell the truth.
    """

    __slots__ = ()


_EMPTY_DOMAIN: dict[str, Any] = {}

KINDS: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    DomainMap: "map",
    Version: "semver",
    Quantity: "quantity",
    ComputedQuantity: "quantity",
    OptionalValue: "optional",
}
NUMERIC = frozenset({"int", "uint", "double"})


def kind_of(value: object) -> str:
    """Name the type of a value."""
    return KINDS.get(type(value), "device")


def equal(left: Any, right: Any) -> bool:
    """Compare as `==` does.

    Raises:
        EvaluationError: The types cannot be compared.
    """
    kind, other = kind_of(left), kind_of(right)
    if right is None:
        return left is None
    if kind in {"semver", "quantity"}:
        if other != kind or type(right) is ComputedQuantity:
            raise no_overload("_==_", left, right)
        return bool(left.order == right.order if kind == "semver" else left.nano == right.nano)
    if kind in NUMERIC and other in NUMERIC:
        return bool(left == right)
    if kind != other:
        return False
    by_kind = _EQUAL_CONTAINERS.get(kind)
    return bool(left == right) if by_kind is None else by_kind(left, right)


def _equal_lists(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(map(_not_different, left, right))


def _equal_maps(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
    return len(left) == len(right) and all(
        (found := find_key(right, key.value)).present and _not_different(value, found.value)
        for key, value in _items(left)
    )


def _equal_optionals(left: OptionalValue, right: OptionalValue) -> bool:
    return left.present == right.present and (not left.present or equal(left.value, right.value))


_EQUAL_CONTAINERS: dict[str, Callable[[Any, Any], bool]] = {
    "list": _equal_lists,
    "map": _equal_maps,
    "optional": _equal_optionals,
}


def not_equal(left: Any, right: Any) -> bool:
    """Compare as `!=` does: what cannot be compared is different."""
    try:
        return not equal(left, right)
    except EvaluationError:
        return True


def _not_different(left: Any, right: Any) -> bool:
    # The reference looks for "false" only, so elements that cannot be compared pass.
    try:
        return equal(left, right)
    except EvaluationError:
        return True


@dataclass(frozen=True, slots=True)
class MapKey:
    """A key in a map literal: keeps `true` apart from 1, while 1, 1u and 1.0 are one key."""

    boolean: bool
    value: Any


def make_map(entries: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Build a map from a literal's entries.

    Raises:
        EvaluationError: A key of another type, or one that occurs twice.
    """
    result: dict[Any, Any] = {}
    for key, value in entries:
        kind = kind_of(key)
        if kind not in {"bool", "int", "uint", "string"}:
            raise EvaluationError(f"a {kind} cannot be a key")
        stored = key if kind == "string" else MapKey(kind == "bool", key)
        if stored in result:
            raise EvaluationError(f"the key {key!r} occurs twice")
        result[stored] = value
    return result


def find_key(mapping: dict[Any, Any], key: Any) -> OptionalValue:
    """Look a key up; absent where there is none."""
    kind = kind_of(key)
    if kind == "string":
        if key in mapping:
            return OptionalValue(present=True, value=mapping[key])
        if type(mapping) is DomainMap:
            return OptionalValue(present=True, value=_EMPTY_DOMAIN)
        return NONE
    if kind in NUMERIC or kind == "bool":
        if key != key or (kind == "double" and not float(key).is_integer()):  # noqa: PLR0124 - NaN
            return NONE
        stored = MapKey(kind == "bool", key)
        if stored in mapping:
            return OptionalValue(present=True, value=mapping[stored])
    return NONE


def _items(mapping: dict[Any, Any]) -> list[tuple[MapKey, Any]]:
    return [
        (key if type(key) is MapKey else MapKey(boolean=False, value=key), value)
        for key, value in mapping.items()
    ]


def no_overload(function: str, *args: Any) -> EvaluationError:
    """Make the error for arguments that a function does not take."""
    kinds = ", ".join(kind_of(arg) for arg in args)
    return EvaluationError(f"no such overload: {function.strip('_').replace('_', ' ')} with ({kinds})")
