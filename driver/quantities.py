"""Amounts as Kubernetes writes them: `4Gi`, `1.5Gi`, `12e6`, `500m`.

Purpose: the one place where the text of a quantity becomes a number. The language is that of the API
server's `resource.ParseQuantity`, corner cases included (`1E` is an exa, `12Ei` no exponent, `.` and a bare
suffix are zero, anything finer than a nano is rounded away from zero, binary amounts end at 2^63-1), because
a second opinion about an amount would be an over-commit sooner or later.

Flow: `parse_quantity` gives a `Quantity`, which holds a whole number of nanos: exact, and as cheap to compare
as an int. `rounded_up` is what allocation counts with; `canonical` is the text the API server would store.

Limits: at most 1,000 characters and exponents up to 1,000 either way, so that no text of somebody hostile
costs noticeable time. Signs and sizes are not judged here: "positive" or "whole MiB" or `MAX_AMOUNT` is asked
for where an amount is requested, with the words that fit there.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from fractions import Fraction

from driver.errors import QuantityError

MIB = 1 << 20
# Half of int64: no sum of two amounts, and no rounding to a step, can leave the range of the API's integers.
MAX_AMOUNT = 1 << 62

_NANO_PLACES = 9
_NANO = 10**9
_MAX_BINARY = (1 << 63) - 1
_MAX_CHARACTERS = 1000
_MAX_EXPONENT = 1000

_SHAPE = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?(?P<suffix>[eEinumkKMGTP]*[+-]?[0-9]*)",
)
_EXPONENT = re.compile(r"[eE](?P<power>[+-]?[0-9]+)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
# Without any digit these are zero; the larger ones, and what is finer than a nano, are refused.
_ALONE = frozenset({"Ki", "Mi", "Gi", "Ti"})
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIX = {power // 10: suffix for suffix, power in _BINARY.items()} | {0: ""}

_REMEDY = "Write a number with an optional suffix, such as 4Gi, 1536Mi, 30 or 500m."


class Form(enum.Enum):
    """The family of suffixes in which an amount was written and will be written again."""

    BINARY = "BinarySI"
    DECIMAL = "DecimalSI"
    EXPONENT = "DecimalExponent"


@dataclass(frozen=True, order=True, slots=True)
class Quantity:
    """An exact amount. Two quantities are equal if their numbers are, however they were written.

    Attributes:
        nano: The amount in units of 10^-9.
        form: The family of suffixes `canonical` uses.
        text: What was written.
    """

    nano: int
    form: Form = field(default=Form.DECIMAL, compare=False)
    text: str = field(default="", compare=False)

    @classmethod
    def whole(cls, amount: int, *, form: Form = Form.BINARY) -> Quantity:
        """Make the quantity of a whole number, as it would be written in `form`."""
        nano = amount * _NANO
        return cls(nano, form, _canonical(nano, form))

    @property
    def exact(self) -> Fraction:
        """The amount as a fraction."""
        return Fraction(self.nano, _NANO)

    @property
    def is_integer(self) -> bool:
        """Whether the amount has no fractional part."""
        return self.nano % _NANO == 0

    @property
    def rounded_up(self) -> int:
        """The amount as a whole number, fractions rounded away from zero, as Kubernetes' `Value()` does."""
        magnitude = -(-abs(self.nano) // _NANO)
        return magnitude if self.nano >= 0 else -magnitude

    def canonical(self) -> str:
        """Write the amount as the API server would store it."""
        return _canonical(self.nano, self.form)

    def __str__(self) -> str:
        return self.text or self.canonical()


def parse_quantity(text: str, *, field: str = "") -> Quantity:
    """Read a quantity.

    Args:
        text: What somebody wrote.
        field: Path of the field it stands in, for the error.

    Raises:
        QuantityError: The text is not a quantity, or is longer or larger than we compute with.
    """
    if not text:
        raise QuantityError("an amount is missing", field=field, remedy=_REMEDY)
    if len(text) > _MAX_CHARACTERS:
        raise QuantityError(
            f"an amount of {len(text)} characters is too long",
            field=field,
            remedy="Use at most 1000 characters.",
        )
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise QuantityError(f"{_shown(text)} is not a quantity", field=field, remedy=_REMEDY)
    suffix = shape["suffix"]
    whole, part = shape["whole"], shape["part"] or ""
    digits = int(whole + part or "0")
    alone = not whole and not part and suffix not in _ALONE
    if suffix in _BINARY:
        form = Form.BINARY
        nano = _ceil_div(digits * _NANO << _BINARY[suffix], 10 ** len(part))
        nano = min(nano, _MAX_BINARY * _NANO)
        if 0 < nano < _NANO:
            form = Form.DECIMAL
    else:
        form, power = _decimal_power(suffix, text=text, field=field)
        alone = alone and power < -_NANO_PLACES
        shift = 9 + power - len(part)
        nano = digits * 10**shift if shift >= 0 else _ceil_div(digits, 10**-shift)
    if alone:
        raise QuantityError(f"{_shown(text)} has no number", field=field, remedy=_REMEDY)
    return Quantity(-nano if shape["sign"] == "-" else nano, form, text)


def format_bytes(amount: int) -> str:
    """Write a number of bytes in the canonical binary form: `4Gi`, `1536Mi`."""
    return _canonical(amount * _NANO, Form.BINARY)


def format_count(amount: int) -> str:
    """Write a plain number in the canonical decimal form: `30`, `100`."""
    return _canonical(amount * _NANO, Form.DECIMAL)


def _decimal_power(suffix: str, *, text: str, field: str) -> tuple[Form, int]:
    power = _DECIMAL.get(suffix)
    if power is not None:
        return Form.DECIMAL, power
    exponent = _EXPONENT.fullmatch(suffix)
    if exponent is None:
        raise QuantityError(f"{_shown(text)} has the unknown suffix {suffix!r}", field=field, remedy=_REMEDY)
    power = int(exponent["power"])
    if abs(power) > _MAX_EXPONENT:
        raise QuantityError(
            f"{_shown(text)} has an exponent beyond {_MAX_EXPONENT}",
            field=field,
            remedy="Use an amount that a machine can have.",
        )
    return Form.EXPONENT, power


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _canonical(nano: int, form: Form) -> str:
    if nano == 0:
        return "0"
    if form is Form.BINARY and (abs(nano) < 1024 * _NANO or nano % _NANO):
        # Kubernetes shows what binary suffixes cannot hold exactly, and what needs none, in decimal.
        form = Form.DECIMAL
    if form is Form.BINARY:
        # The suffixes end at exbi; a larger number keeps its factors rather than lose its suffix.
        number, power = _factor_out(nano // _NANO, 1024, limit=6)
        return f"{number}{_BINARY_SUFFIX[power]}"
    number, times = _factor_out(nano, 1000, limit=None)
    power = 3 * times - 9
    if form is Form.DECIMAL and power in _DECIMAL_SUFFIX:
        return f"{number}{_DECIMAL_SUFFIX[power]}"
    return f"{number}e{power}" if power else str(number)


def _factor_out(number: int, base: int, *, limit: int | None) -> tuple[int, int]:
    times = 0
    while number % base == 0 and (limit is None or times < limit):
        number //= base
        times += 1
    return number, times


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
