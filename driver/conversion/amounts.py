"""Amounts of extended resources as whole numbers in the unit of their name.

Limits: extended resources are whole numbers. The API server writes 4000 as `4k` and keeps `16Gi`, so a
decimal suffix is no mistake and a binary one is, but for less than 1Mi: nobody means so few bytes, and to
HAMi `4Ki` are 4096 of the unit. What is finer than one is a mistake too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from driver.conversion.errors import LegacyAmountError
from driver.errors import QuantityError, spelled
from driver.quantities import MIB, Form, Quantity, format_bytes, parse_quantity

MAX_CARDS = 32
"""Devices that one claim can be given (API limit)."""
MAX_MEMORY_MIB = 1 << 32
"""More than any card has, and little enough that sums stay far from the ends of the API's integers."""
_FRACTION = re.compile(r"[0-9.](m|u|n)$")
_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What one of a resource is.

    Attributes:
        what: In a sentence: `MiB`, `percent`, `cards`.
        size_bytes: Bytes of one, for memory; 0 otherwise.
        most: The most that makes sense.
    """

    what: str
    size_bytes: int = 0
    most: int


def whole_number(value: object, *, unit: Unit, field: str) -> int:
    """Reads an amount.

    Args:
        value: The quantity, as JSON holds it.
        unit: What one of it is.
        field: Path of the amount, for errors.

    Raises:
        LegacyAmountError: It is no whole number from 0 to `unit.most`.
    """
    quantity = parsed(value, unit=unit, field=field)
    if quantity.form is Form.BINARY and quantity.nano and not _of_units(quantity, unit):
        raise LegacyAmountError(
            f"{_shown(value)} is not a number of {unit.what}.", field=field, remedy=_instead(quantity, unit)
        )
    if not quantity.is_integer or _FRACTION.search(str(value)):
        raise LegacyAmountError(
            f"{_shown(value)} is not a whole number of {unit.what}.",
            field=field,
            remedy=f"Write a whole number; one is {_one(unit)}.",
        )
    number = quantity.rounded_up
    if number < 0:
        raise LegacyAmountError(
            f"{_shown(value)} is below 0.", field=field, remedy=f"Write a whole number of {unit.what}."
        )
    if number > unit.most:
        raise LegacyAmountError(
            f"{_shown(value)} is more than the {unit.most} {unit.what} that there can be.",
            field=field,
            remedy=_of_bytes(quantity, unit) or f"Write at most {unit.most}; one is {_one(unit)}.",
        )
    return number


def _of_units(quantity: Quantity, unit: Unit) -> bool:
    """Whether an amount with a binary suffix can be no amount of bytes, so that it is a number: `4Ki` MiB."""
    return bool(unit.size_bytes) and 0 < quantity.rounded_up < MIB


def parsed(value: object, *, unit: Unit, field: str) -> Quantity:
    """Reads a quantity of any kind.

    Raises:
        LegacyAmountError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise LegacyAmountError(
            f"{_shown(value)} is not an amount.", field=field, remedy=f"Write a whole number of {unit.what}."
        )
    try:
        return parse_quantity(str(value).strip())
    except QuantityError as error:
        raise LegacyAmountError(
            f"{error.message[:1].upper()}{error.message[1:]}.",
            field=field,
            remedy=f"Write a whole number of {unit.what}.",
        ) from None


def _instead(quantity: Quantity, unit: Unit) -> str:
    if not unit.size_bytes:
        return f"Write a whole number without a suffix; one is {_one(unit)}."
    number = -(-quantity.rounded_up // unit.size_bytes)
    if not 0 < number <= unit.most:
        return f"Write a whole number without a suffix; one is {_one(unit)}."
    return f'One is {_one(unit)}: for {quantity.text} write "{number}".'


def _of_bytes(quantity: Quantity, unit: Unit) -> str:
    """What to write where somebody gave bytes (`17179869184`, which the API server keeps; `16384M`)."""
    number = -(-quantity.rounded_up // unit.size_bytes) if unit.size_bytes else 0
    if not 0 < number <= unit.most:
        return ""
    return f'One is {_one(unit)}: if these are bytes, write "{number}".'


def _one(unit: Unit) -> str:
    if unit.size_bytes:
        return format_bytes(unit.size_bytes)
    return {"percent": "1 percent of a card", "cards": "1 card"}.get(unit.what, f"1 of {unit.most} of a card")


def memory_unit(size_bytes: int) -> Unit:
    """The unit of a resource of memory."""
    what = "MiB" if size_bytes == MIB else f"units of {format_bytes(size_bytes)}"
    return Unit(what=what, size_bytes=size_bytes, most=MAX_MEMORY_MIB // (size_bytes // MIB))


CARDS = Unit(what="cards", most=MAX_CARDS)
PERCENT = Unit(what="percent", most=100)


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return spelled(value)
    text = str(value)
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")
