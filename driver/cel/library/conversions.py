"""Conversions: `int("3")`, `string(1.5)`, `duration("1h")`, `type(x)`.

Purpose: the functions that are named like types.

Flow: overloads; those with a constant argument are evaluated when the expression is compiled (`folds`), so
that `int("A100")` does not compile.

Limits: only what the type check allows for some static type converts; anything else raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import Release, overload
from driver.cel.library.go_text import general, read_float
from driver.cel.library.operators import to_int, to_uint
from driver.cel.library.time_text import read_duration, read_timestamp, write_duration, write_timestamp
from driver.cel.library.times import SECOND, in_range
from driver.cel.values import (
    INT_MIN,
    UINT_MAX,
    Duration,
    Timestamp,
    TypeValue,
    UInt,
    kind_of,
    type_value,
)

_NEWER: Release = (1, 37)
_INT = re.compile(r"[+-]?[0-9]+")
_UINT = re.compile(r"[0-9]+")
# Python refuses to read numbers much longer than this; no number of 64 bits is.
_LONGEST = 1000
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def _failed(text: str, kind: str) -> EvaluationError:
    return EvaluationError(f"{text[:64]!r} cannot be converted to {kind}")


def _same(value: Any) -> Any:
    return value


def _register_identities() -> None:
    for kind in ("bool", "bytes", "double", "duration", "int", "string", "timestamp", "uint"):
        overload(f"{kind}({kind}) -> {kind}", folds=True)(_same)
    overload("dyn(A) -> dyn", folds=True)(_same)


_register_identities()


@overload("bool(string) -> bool", folds=True)
def _bool(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise _failed(text, "a bool")
    return text in _TRUE


@overload("bytes(string) -> bytes", cost=costs.first, folds=True)
def _bytes(text: str) -> bytes:
    return text.encode()


@overload("double(int) -> double", folds=True)
@overload("double(uint) -> double", folds=True)
def _double(number: int) -> float:
    return float(number)


@overload("double(string) -> double", cost=costs.read, folds=True)
def _double_read(text: str) -> float:
    number = read_float(text)
    if number is None:
        raise _failed(text, "a double")
    return number


@overload("int(double) -> int", folds=True)
def _int_cut(number: float) -> int:
    if not INT_MIN < number < -float(INT_MIN):
        raise EvaluationError("integer overflow")
    return int(number)


@overload("int(uint) -> int", folds=True)
def _int(number: int) -> int:
    return to_int(int(number))


@overload("int(duration) -> int", folds=True)
def _int_nanos(length: Duration) -> int:
    return length.nanos


@overload("int(timestamp) -> int", folds=True)
def _int_seconds(stamp: Timestamp) -> int:
    return stamp.nanos // SECOND


@overload("int(string) -> int", cost=costs.read, folds=True)
def _int_read(text: str) -> int:
    if len(text) > _LONGEST or not _INT.fullmatch(text):
        raise _failed(text, "an int")
    return to_int(int(text))


@overload("uint(double) -> uint", folds=True)
def _uint_cut(number: float) -> UInt:
    if not 0 <= number < UINT_MAX + 1:
        raise EvaluationError("unsigned integer overflow")
    return UInt(number)


@overload("uint(int) -> uint", folds=True)
def _uint(number: int) -> UInt:
    return to_uint(number)


@overload("uint(string) -> uint", cost=costs.read, folds=True)
def _uint_read(text: str) -> UInt:
    if len(text) > _LONGEST or not _UINT.fullmatch(text):
        raise _failed(text, "a uint")
    return to_uint(int(text))


@overload("string(bool) -> string", folds=True)
def _string_bool(value: bool) -> str:  # noqa: FBT001 - CEL passes it by position
    return "true" if value else "false"


@overload("string(bytes) -> string", cost=costs.first, folds=True)
def _string_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise EvaluationError("bytes that are not UTF-8 cannot be converted to a string") from None


@overload("string(double) -> string", folds=True)
def _string_double(number: float) -> str:
    return general(number)


@overload("string(duration) -> string", folds=True)
def _string_duration(length: Duration) -> str:
    return write_duration(length)


@overload("string(int) -> string", folds=True)
@overload("string(uint) -> string", folds=True)
def _string_int(number: int) -> str:
    return str(int(number))


@overload("string(timestamp) -> string", cost=lambda _: costs.WRITTEN, folds=True)
def _string_timestamp(stamp: Timestamp) -> str:
    return write_timestamp(stamp)


@overload("duration(int) -> duration", folds=True, until=_NEWER)
def _duration_int(_number: int) -> Duration:
    # Declared there without being implemented.
    raise EvaluationError("an int cannot be converted to a duration")


@overload("duration(string) -> duration", cost=costs.read, folds=True)
def _duration(text: str) -> Duration:
    length = read_duration(text)
    if length is None:
        raise _failed(text, "a duration")
    return length


@overload("timestamp(int) -> timestamp", folds=True)
def _timestamp(seconds: int) -> Timestamp:
    return in_range(Timestamp(seconds * SECOND))


@overload("timestamp(string) -> timestamp", cost=costs.read, folds=True)
def _timestamp_read(text: str) -> Timestamp:
    stamp = read_timestamp(text)
    if stamp is None:
        raise _failed(text, "a timestamp")
    return in_range(stamp)


@overload("type(A) -> type(A)", folds=True)
def _type(value: Any) -> TypeValue:
    return type_value(kind_of(value))


def to_text(value: Any) -> str | None:
    """Convert as `string()` does; None for what it does not take."""
    convert = _TO_TEXT.get(kind_of(value))
    return None if convert is None else convert(value)


_TO_TEXT: dict[str, Callable[[Any], str]] = {
    "bool": _string_bool,
    "bytes": _string_bytes,
    "double": _string_double,
    "duration": _string_duration,
    "int": _string_int,
    "uint": _string_int,
    "string": _same,
    "timestamp": _string_timestamp,
}
