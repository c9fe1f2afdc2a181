"""Quantities: Kubernetes' library for amounts such as `40Gi`.

Purpose: `quantity("40Gi")` and what can be asked of a device's capacity.

Flow: overloads on `driver.quantities.Quantity`.

Limits: an amount written with a fraction of a binary unit is no integer to the reference even where the
number is whole (`1.5Gi`), nor is one of too many digits, because of how it stores them: kept, since
selectors see it. `_counted` says what is stored as an int64 there.
"""

from __future__ import annotations

import math
import re

from driver.cel.errors import EvaluationError
from driver.cel.library.entry import overload
from driver.cel.values import INT_MAX, INT_MIN, ComputedQuantity
from driver.errors import QuantityError
from driver.quantities import Quantity, parse_quantity

_NANO = 10**9
_WRITTEN = re.compile(r"[+-]?(?P<digits>[0-9]*)(?:\.(?P<part>[0-9]*))?(?P<suffix>.*)")
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


@overload("quantity(string) -> quantity")
def _quantity(text: str) -> Quantity:
    try:
        return parse_quantity(text)
    except QuantityError as error:
        raise EvaluationError(error.message) from None


@overload("isQuantity(string) -> bool")
def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except QuantityError:
        return False
    return True


@overload("sign(quantity) -> int")
def _sign(amount: Quantity) -> int:
    return (amount.nano > 0) - (amount.nano < 0)


def _counted(amount: Quantity) -> bool:
    if isinstance(amount, ComputedQuantity):
        return amount.counted
    shape = _WRITTEN.match(amount.text)
    if shape is None:
        return amount.is_integer
    digits, part, suffix = shape["digits"].lstrip("0"), shape["part"] or "", shape["suffix"]
    if suffix.endswith("i"):
        exponent = 10 * ("KMGTPE".index(suffix[0]) + 1)
        return not part and len(digits or "0") + exponent * 3 // 10 + 1 <= 15
    power = int(suffix[1:]) if suffix[:1] in {"e", "E"} and len(suffix) > 1 else _POWERS.get(suffix, 0)
    return power >= len(part) and len(digits or "0") + len(part) <= 18


def _stored_whole(amount: Quantity) -> bool:
    return amount.is_integer and INT_MIN <= amount.nano // _NANO <= INT_MAX and _counted(amount)


@overload("isInteger(quantity) -> bool", method=True)
def _is_integer(amount: Quantity) -> bool:
    return _stored_whole(amount)


@overload("asInteger(quantity) -> int", method=True)
def _as_integer(amount: Quantity) -> int:
    if not _stored_whole(amount):
        raise EvaluationError(f"{amount} cannot be converted to an integer")
    return amount.nano // _NANO


@overload("asApproximateFloat(quantity) -> double", method=True)
def _as_float(amount: Quantity) -> float:
    try:
        return amount.nano / _NANO
    except OverflowError:
        return math.copysign(math.inf, amount.nano)


@overload("compareTo(quantity, quantity) -> int", method=True)
def _compare(left: Quantity, right: Quantity) -> int:
    return (left.nano > right.nano) - (left.nano < right.nano)


@overload("isGreaterThan(quantity, quantity) -> bool", method=True)
def _greater(left: Quantity, right: Quantity) -> bool:
    return left.nano > right.nano


@overload("isLessThan(quantity, quantity) -> bool", method=True)
def _less(left: Quantity, right: Quantity) -> bool:
    return left.nano < right.nano


@overload("add(quantity, quantity) -> quantity", method=True)
def _add(left: Quantity, right: Quantity) -> Quantity:
    return _computed(left.nano + right.nano, left, counted=_counted(left) and _counted(right))


@overload("sub(quantity, quantity) -> quantity", method=True)
def _sub(left: Quantity, right: Quantity) -> Quantity:
    return _computed(left.nano - right.nano, left, counted=_counted(left) and _counted(right))


@overload("add(quantity, int) -> quantity", method=True)
def _add_int(left: Quantity, right: int) -> Quantity:
    return _computed(left.nano + right * _NANO, left, counted=_counted(left))


@overload("sub(quantity, int) -> quantity", method=True)
def _sub_int(left: Quantity, right: int) -> Quantity:
    return _computed(left.nano - right * _NANO, left, counted=_counted(left))


def _computed(nano: int, like: Quantity, *, counted: bool) -> Quantity:
    fits = INT_MIN <= nano // _NANO <= INT_MAX
    return ComputedQuantity(nano, like.form, counted=counted and fits)
