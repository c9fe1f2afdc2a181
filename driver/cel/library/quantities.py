"""Quantities: Kubernetes' library for amounts such as `40Gi`.

Purpose: `quantity("40Gi")` and what can be asked of a device's capacity.

Flow: overloads on `driver.quantities.Quantity`. The reference holds an amount as an int64 with a scale
(counted) or, where that does not do, as a long decimal; selectors see the difference, since only a counted
amount can be an integer. `_stored` finds the form that a text gets there.

Limits: so `1.5Gi` is no integer, nor is `1.0`, nor a number of too many digits. Exponents beyond those of
`parse_quantity` are refused. In releases up to 1.36 the reference's `add` and `sub` also change a long
decimal that they are called on; that is not copied.
"""

from __future__ import annotations

import math
import re

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import overload
from driver.cel.values import INT_MAX, INT_MIN, ComputedQuantity
from driver.errors import QuantityError
from driver.quantities import Form, Quantity, parse_quantity

_NANO = 10**9
_DIGITS_OF_INT64 = 18
_WRITTEN = re.compile(r"[+-]?(?P<digits>[0-9]*)(?:\.(?P<part>[0-9]*))?(?P<suffix>.*)")
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


@overload("quantity(string) -> quantity", cost=costs.first)
def _quantity(text: str) -> Quantity:
    try:
        return parse_quantity(text)
    except QuantityError as error:
        raise EvaluationError(error.message) from None


@overload("isQuantity(string) -> bool", cost=costs.first)
def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except QuantityError:
        return False
    return True


@overload("sign(quantity) -> int")
def _sign(amount: Quantity) -> int:
    return (amount.nano > 0) - (amount.nano < 0)


def _stored(amount: Quantity) -> ComputedQuantity:
    if isinstance(amount, ComputedQuantity):
        return amount
    shape = _WRITTEN.match(amount.text or amount.canonical())
    if shape is None:
        return _decimal(amount)
    # The zeros before the point are not counted as digits; behind it they are.
    digits, part, suffix = shape["digits"].lstrip("0") or "0", shape["part"] or "", shape["suffix"]
    if not suffix and not part and digits == "0":
        return ComputedQuantity(0, amount.form)
    if suffix.endswith("i"):
        exponent = 10 * ("KMGTPE".index(suffix[0]) + 1)
        spare = 15 - len(digits) - exponent * 3 // 10 - 1
        if part or spare < 0:
            return _decimal(amount)
        scale = 0
    else:
        power = int(suffix[1:]) if suffix[:1] in {"e", "E"} and len(suffix) > 1 else _POWERS.get(suffix, 0)
        scale = power - len(part)
        if len(digits) + len(part) > _DIGITS_OF_INT64 or scale < -9:
            return _decimal(amount)
    unscaled = int(digits + part) << (exponent if suffix.endswith("i") else 0)
    return ComputedQuantity(
        amount.nano, amount.form, unscaled=unscaled if amount.nano >= 0 else -unscaled, scale=scale
    )


def _decimal(amount: Quantity) -> ComputedQuantity:
    # Rounded to nanos there too, but for the largest binary amount, which stands for all larger ones.
    if amount.form is Form.BINARY and amount.nano == INT_MAX * _NANO:
        return ComputedQuantity(amount.nano, amount.form, unscaled=INT_MAX, counted=False)
    return ComputedQuantity(amount.nano, amount.form, unscaled=amount.nano, scale=-9, counted=False)


def _as_int(amount: Quantity) -> int | None:
    stored = _stored(amount)
    if not stored.counted or stored.scale < 0:
        return None
    if stored.unscaled and stored.scale > 19:
        return None
    number = stored.unscaled * 10**stored.scale if stored.unscaled else 0
    return number if INT_MIN <= number <= INT_MAX else None


@overload("isInteger(quantity) -> bool", method=True)
def _is_integer(amount: Quantity) -> bool:
    return _as_int(amount) is not None


@overload("asInteger(quantity) -> int", method=True)
def _as_integer(amount: Quantity) -> int:
    number = _as_int(amount)
    if number is None:
        raise EvaluationError(f"{amount} cannot be converted to an integer")
    return number


@overload("asApproximateFloat(quantity) -> double", method=True)
def _as_float(amount: Quantity) -> float:
    stored = _stored(amount)
    try:
        base = float(stored.unscaled)
    except OverflowError:
        base = math.copysign(math.inf, stored.unscaled)
    return base * _power_of_ten(stored.scale) if stored.scale else base


def _power_of_ten(exponent: int) -> float:
    # As Go computes it: two table entries combined, so that the last digit is the same.
    if exponent < -323:
        return 0.0
    if exponent > 308:
        return math.inf
    high, low = divmod(abs(exponent), 32)
    if exponent < 0:
        return float(f"1e-{32 * high}") / float(f"1e{low}")
    return float(f"1e{32 * high}") * float(f"1e{low}")


@overload("compareTo(quantity, quantity) -> int", method=True)
def _compare(left: Quantity, right: Quantity) -> int:
    return (left.nano > right.nano) - (left.nano < right.nano)


@overload("isGreaterThan(quantity, quantity) -> bool", method=True)
def _greater(left: Quantity, right: Quantity) -> bool:
    return left.nano > right.nano


@overload("isLessThan(quantity, quantity) -> bool", method=True)
def _less(left: Quantity, right: Quantity) -> bool:
    return left.nano < right.nano


def _added(left: Quantity, right: Quantity | int) -> int:
    number = right if isinstance(right, int) else right.nano
    return 1 + (left.nano.bit_length() + number.bit_length()) // 256


@overload("add(quantity, quantity) -> quantity", method=True, cost=_added)
def _add(left: Quantity, right: Quantity) -> Quantity:
    return _sum(_stored(left), _stored(right), 1)


@overload("sub(quantity, quantity) -> quantity", method=True, cost=_added)
def _sub(left: Quantity, right: Quantity) -> Quantity:
    return _sum(_stored(left), _stored(right), -1)


@overload("add(quantity, int) -> quantity", method=True, cost=_added)
def _add_int(left: Quantity, right: int) -> Quantity:
    return _sum(_stored(left), _from_int(right), 1)


@overload("sub(quantity, int) -> quantity", method=True, cost=_added)
def _sub_int(left: Quantity, right: int) -> Quantity:
    return _sum(_stored(left), _from_int(right), -1)


def _from_int(number: int) -> ComputedQuantity:
    return ComputedQuantity(number * _NANO, Form.EXPONENT, unscaled=number)


def _sum(left: ComputedQuantity, right: ComputedQuantity, sign: int) -> ComputedQuantity:
    form = left.form if left.nano else right.form
    if left.counted and right.counted:
        counted = _counted_sum(left, right, sign)
        if counted is not None:
            unscaled, scale = counted
            return ComputedQuantity(unscaled * 10 ** (scale + 9), form, unscaled=unscaled, scale=scale)
    nano = left.nano + sign * right.nano
    # Amounts are no finer than a nano, and a decimal sum takes the finer scale of the two.
    scale = min(left.scale, right.scale)
    unscaled = nano // _NANO // 10**scale if scale > 0 else nano * 10**-scale // _NANO
    return ComputedQuantity(nano, form, unscaled=unscaled, scale=scale, counted=False)


def _counted_sum(left: ComputedQuantity, right: ComputedQuantity, sign: int) -> tuple[int, int] | None:
    # The smallest int64 has no negative; there it stays what it is.
    added = INT_MIN if right.unscaled == INT_MIN else sign * right.unscaled
    if not added:
        return left.unscaled, left.scale
    if not left.unscaled:
        return added, right.scale
    scale = min(left.scale, right.scale)
    parts = (left.unscaled * 10 ** (left.scale - scale), added * 10 ** (right.scale - scale))
    total = sum(parts)
    if all(INT_MIN <= number <= INT_MAX for number in (*parts, total)):
        return total, scale
    return None
