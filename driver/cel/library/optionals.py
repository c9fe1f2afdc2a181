"""Optional values: `device.attributes["d"].?model.orValue("")`.

Purpose: reading what may be absent without `has()`.

Flow: overloads on `OptionalValue`; `or` and `orValue` take their argument lazily, since its error must
not show where the value is present.

Limits: `optMap` and `ofNonZeroValue` are not supported yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driver.cel.errors import EvaluationError
from driver.cel.library.entry import overload
from driver.cel.values import NONE, OptionalValue, no_overload


@overload("optional.of(A) -> optional(A)")
def _of(value: Any) -> OptionalValue:
    return OptionalValue(present=True, value=value)


@overload("optional.none() -> optional(A)")
def _none() -> OptionalValue:
    return NONE


@overload("hasValue(optional(A)) -> bool", method=True)
def _has_value(value: OptionalValue) -> bool:
    return value.present


@overload("value(optional(A)) -> A", method=True)
def _value(value: OptionalValue) -> Any:
    if not value.present:
        raise EvaluationError("optional.none() has no value")
    return value.value


@overload("orValue(optional(A), A) -> A", method=True, lazy=True)
def _or_value(value: Any, other: Callable[[], Any]) -> Any:
    if type(value) is not OptionalValue:
        raise no_overload("orValue", value)
    return value.value if value.present else other()


@overload("or(optional(A), optional(A)) -> optional(A)", method=True, lazy=True)
def _or(value: Any, other: Callable[[], Any]) -> Any:
    if type(value) is not OptionalValue:
        raise no_overload("or", value)
    if value.present:
        return value
    alternative = other()
    if type(alternative) is not OptionalValue:
        raise no_overload("or", value, alternative)
    return alternative
