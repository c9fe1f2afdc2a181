"""Values at run time, and when two of them are equal.

Purpose: CEL keeps apart what Python takes for one (`true` and 1, 1 and 1u), and Kubernetes' own types
bring their own notion of equality; all of it is here.

Flow: a CEL value is None, bool, int, UInt, float, str, bytes, list, dict, or one of the classes below. The
exact class is the type; `kind_of` names it. A map is a dict whose keys are plain strings or `MapKey`s.

Limits: peculiarities of the reference are kept because selectors may rest on them: a version, quantity,
address, URL or format compared with something of another type on its right is an error rather than false;
a quantity that `add` or `sub` made cannot stand on the right of `==`; a list whose elements cannot be
compared counts as equal, unless `+` made it; an integer meets a double as a double.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from driver.cel.errors import EvaluationError, PanicError
from driver.cel.versions import Version
from driver.quantities import Quantity

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
UINT_MAX = (1 << 64) - 1


class UInt(int):
    """An unsigned number: a type of its own in CEL."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time.

    Attributes:
        nanos: Nanoseconds, of 64 bits.
    """

    nanos: int


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment.

    Attributes:
        nanos: Nanoseconds since 1970 in UTC.
        offset: Seconds east of UTC in which it is written; no part of what it is equal to.
    """

    nanos: int
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class TypeValue:
    """A type as a value: what `type(x)` gives.

    Attributes:
        name: Its full name, such as `int` or `google.protobuf.Timestamp`.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address.

    Attributes:
        number: Its bits as one number.
        length: How many bits it has: 32 or 128.
    """

    number: int
    length: int


@dataclass(frozen=True, slots=True)
class Network:
    """An IP address with the length of a prefix.

    Attributes:
        address: As written, bits behind the prefix included.
        bits: Length of the prefix.
    """

    address: Address
    bits: int


@dataclass(frozen=True, slots=True)
class Url:
    """A URL.

    Attributes:
        scheme: In lower case.
        host: With the port.
        hostname: Without the port and without brackets.
        port: Digits, or "".
        escaped_path: The path as it is sent.
        query: What stands behind `?`, as written.
        text: The URL put together again: what decides whether two are equal.
    """

    scheme: str
    host: str
    hostname: str
    port: str
    escaped_path: str
    query: str
    text: str


@dataclass(frozen=True, slots=True)
class Format:
    """A format that strings can be checked against.

    Attributes:
        name: The name that decides whether two are equal.
        problems: Says what is wrong with a string.
        pattern_size: Length of a regular expression for the same, for the cost.
    """

    name: str
    problems: Callable[[str], list[str]] = field(compare=False)
    pattern_size: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class ComputedQuantity(Quantity):
    """What `add` and `sub` give.

    Attributes:
        unscaled: Its digits as one number.
        scale: The power of ten that they count.
        counted: Whether the reference holds it as an int64 with a scale, not as a long decimal.
    """

    unscaled: int = field(default=0, compare=False)
    scale: int = field(default=0, compare=False)
    counted: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class OptionalValue:
    """A value that may be absent: `optional.none()` has no value, which is not the same as null."""

    present: bool
    value: Any = None


NONE = OptionalValue(present=False)


class JoinedList(list[Any]):
    """What `+` makes of two lists: on the left of `==` it does not pass over what cannot be compared."""

    __slots__ = ()


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
    JoinedList: "list",
    dict: "map",
    DomainMap: "map",
    Duration: "duration",
    Timestamp: "timestamp",
    TypeValue: "type",
    Version: "semver",
    Quantity: "quantity",
    ComputedQuantity: "quantity",
    Address: "ip",
    Network: "cidr",
    Url: "url",
    Format: "format",
    OptionalValue: "optional",
}
NUMERIC = frozenset({"int", "uint", "double"})

# The names of types in expressions, where they are not those of the kinds.
_TYPE_NAMES = {
    "duration": "google.protobuf.Duration",
    "timestamp": "google.protobuf.Timestamp",
    "semver": "kubernetes.Semver",
    "quantity": "kubernetes.Quantity",
    "ip": "net.IP",
    "cidr": "net.CIDR",
    "url": "kubernetes.URL",
    "format": "kubernetes.NamedFormat",
    "optional": "optional_type",
    "device": "map",
}


def kind_of(value: object) -> str:
    """Name the type of a value."""
    return KINDS.get(type(value), "device")


def type_value(kind: str) -> TypeValue:
    """Give the type of a kind as a value."""
    return TypeValue(_TYPE_NAMES.get(kind, kind))


def equal(left: Any, right: Any) -> bool:
    """Compare as `==` does.

    Raises:
        EvaluationError: The types cannot be compared.
    """
    if type(left) is str:
        return type(right) is str and left == right
    if right is None:
        return left is None
    kind, other = kind_of(left), kind_of(right)
    if kind == other:
        by_kind = _EQUAL_BY_KIND.get(kind)
        return bool(left == right) if by_kind is None else by_kind(left, right)
    if kind in NUMERIC and other in NUMERIC:
        return equal_numbers(left, right)
    if kind in _STRICT:
        raise no_overload("_==_", left, right)
    return False


def equal_numbers(left: float, right: float) -> bool:
    """Compare numbers of different types: with a double, as doubles."""
    if type(left) is float or type(right) is float:
        return float(left) == float(right)
    return left == right


def _equal_quantities(left: Quantity, right: Quantity) -> bool:
    if type(right) is ComputedQuantity:
        raise no_overload("_==_", left, right)
    return left.nano == right.nano


def _equal_versions(left: Version, right: Version) -> bool:
    return left.order == right.order


def _equal_urls(left: Url, right: Url) -> bool:
    return left.text == right.text


def _equal_lists(left: list[Any], right: list[Any]) -> bool:
    if type(left) is JoinedList:
        return len(left) == len(right) and _all_equal(left, right)
    if len(left) != len(right):
        return False
    if len(left) > _SHORT and len(types := set(map(type, left))) == 1 and types == set(map(type, right)):
        (one,) = types
        if one in _PLAIN:
            return left == right
    return all(map(_not_different, left, right))


_SHORT = 32
# Of these, equal in Python is equal in CEL; not so doubles, since a list holds NaN to be equal to itself.
_PLAIN = (str, int, bool, bytes)


def _all_equal(left: list[Any], right: list[Any]) -> bool:
    problem: EvaluationError | None = None
    for one, other in zip(left, right, strict=True):
        try:
            if not equal(one, other):
                return False
        except EvaluationError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return True


def _equal_maps(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
    return len(left) == len(right) and all(
        (found := _find_stored(right, key)).present and _not_different(value, found.value)
        for key, value in left.items()
    )


def _find_stored(mapping: dict[Any, Any], stored: Any) -> OptionalValue:
    if stored in mapping:
        return OptionalValue(present=True, value=mapping[stored])
    return find_key(mapping, key_value(stored))


def _equal_optionals(left: OptionalValue, right: OptionalValue) -> bool:
    if not left.present or not right.present:
        return left.present == right.present
    # Not even null can be compared with these, within an optional.
    if right.value is None and kind_of(left.value) in _STRICT:
        raise no_overload("_==_", left.value, right.value)
    return equal(left.value, right.value)


# What cannot be compared with a value of another type; everything else is merely different from it.
_STRICT = frozenset({"semver", "quantity", "ip", "cidr", "url", "format"})
_EQUAL_BY_KIND: dict[str, Callable[[Any, Any], bool]] = {
    "semver": _equal_versions,
    "quantity": _equal_quantities,
    "url": _equal_urls,
    "list": _equal_lists,
    "map": _equal_maps,
    "optional": _equal_optionals,
}


def not_equal(left: Any, right: Any) -> bool:
    """Compare as `!=` does: what cannot be compared is different."""
    return not same(left, right)


def same(left: Any, right: Any) -> bool:
    """Compare as searches do: what cannot be compared is different."""
    try:
        return equal(left, right)
    except EvaluationError:
        return False


def holds(elements: list[Any], value: Any) -> bool:
    """Search a list as `in` does: each element stands on the right of the comparison."""
    kind = type(value)
    if kind is str:
        # Nothing but a string equals a string, in Python too.
        return value in elements
    return any(
        element == value if kind is int and type(element) is int else same(value, element)
        for element in elements
    )


def _not_different(left: Any, right: Any) -> bool:
    # The reference looks for "false" only, so elements that cannot be compared pass.
    try:
        return equal(left, right)
    except EvaluationError:
        return True


def compare(left: Any, right: Any) -> int:
    """Order two values: negative, zero or positive.

    Raises:
        EvaluationError: They have no order.
    """
    kind, other = kind_of(left), kind_of(right)
    if kind in NUMERIC and other in NUMERIC:
        if type(left) is float or type(right) is float:
            left, right = float(left), float(right)
            if left != left or right != right:  # noqa: PLR0124 - NaN
                raise EvaluationError("NaN values cannot be ordered")
    elif kind == other and kind in _ORDERED:
        if kind in {"duration", "timestamp"}:
            left, right = left.nanos, right.nanos
    else:
        raise no_overload("compare", left, right)
    return int(left > right) - int(left < right)


_ORDERED = frozenset({"bool", "string", "bytes", "duration", "timestamp"})
COMPARABLE = _ORDERED | NUMERIC


@dataclass(frozen=True, slots=True)
class MapKey:
    """A key of a map that is no string.

    Attributes:
        kind: Its type, which keeps `true`, 1, 1u and 1.0 apart.
        value: The key.
        identity: For what is a key by being itself, not by being equal: a number of its own.
    """

    kind: str
    value: Any = field(compare=False)
    identity: Any = None


_KEYS_BY_VALUE = frozenset(
    {"bool", "int", "uint", "null_type", "duration", "timestamp", "type", "ip", "cidr"}
)
_NO_KEYS = frozenset({"bytes", "semver", "format"})


def make_key(key: Any) -> Any:
    """Make what a map stores a key as.

    Raises:
        EvaluationError: Values of this type cannot be keys.
    """
    kind = kind_of(key)
    if kind == "string":
        return key
    if kind in _NO_KEYS:
        raise PanicError(f"a {kind} cannot be a key")
    if kind in _KEYS_BY_VALUE or (kind == "double" and key == key):  # noqa: PLR0124 - NaN is a key by itself
        return MapKey(kind, key, key)
    # There is one absent optional only.
    return MapKey(kind, key, None if key == NONE else object())


def key_value(stored: Any) -> Any:
    """Give the key that a map stores."""
    return stored.value if type(stored) is MapKey else stored


def make_map(entries: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Build a map from a literal's entries; of two with the same key the later one stays.

    Raises:
        EvaluationError: A key of a type that cannot be one.
    """
    return {make_key(key): value for key, value in entries}


def find_key(mapping: dict[Any, Any], key: Any) -> OptionalValue:
    """Look a key up; absent where there is none. A number finds its equal of another type.

    Raises:
        EvaluationError: A key of a type that cannot be one.
    """
    kind = kind_of(key)
    if kind == "string":
        if key in mapping:
            return OptionalValue(present=True, value=mapping[key])
        if type(mapping) is DomainMap:
            return OptionalValue(present=True, value=_EMPTY_DOMAIN)
        return NONE
    if type(mapping) is DomainMap:
        return OptionalValue(present=True, value=_EMPTY_DOMAIN)
    if not mapping:
        return NONE
    for candidate in _stored_forms(kind, key):
        if candidate in mapping:
            return OptionalValue(present=True, value=mapping[candidate])
    return NONE


def _stored_forms(kind: str, key: Any) -> list[MapKey]:
    forms = [make_key(key)]
    whole: int | None = None
    if kind == "double":
        whole = int(key) if key == key and abs(key) < 1e20 and key == int(key) else None  # noqa: PLR0124
    elif kind in NUMERIC:
        whole = int(key)
    if whole is not None:
        if kind != "int" and INT_MIN <= whole <= INT_MAX:
            forms.append(MapKey("int", whole, whole))
        if kind != "uint" and 0 <= whole <= UINT_MAX:
            forms.append(MapKey("uint", UInt(whole), whole))
    return forms


def no_overload(function: str, *args: Any) -> EvaluationError:
    """Make the error for arguments that a function does not take."""
    kinds = ", ".join(kind_of(arg) for arg in args)
    return EvaluationError(f"no such overload: {function.strip('_').replace('_', ' ')} with ({kinds})")
