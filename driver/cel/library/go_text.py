"""How Go writes and reads numbers and strings.

Purpose: conversions and `format` give the very text that the reference gives.

Flow: plain functions on Python's float and str.

Limits: whether a character is printable depends on the Unicode version; Python's may be another one than
Go's.
"""

from __future__ import annotations

import re
from decimal import Decimal

# An underscore may stand between two digits.
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_HEX = "[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
_DECIMAL = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?")
_HEXADECIMAL = re.compile(rf"[+-]?0[xX](?:_?{_HEX}(?:\.(?:{_HEX})?)?|\.{_HEX})[pP][+-]?{_DIGITS}")
_INFINITE = re.compile(r"([+-]?)inf(?:inity)?", re.IGNORECASE)
_LONGEST = 1 << 16
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def read_float(text: str) -> float | None:
    """Read a number as `strconv.ParseFloat` does; None where that is an error."""
    if len(text) > _LONGEST:
        return None
    if (shape := _INFINITE.fullmatch(text)) is not None:
        return float(f"{shape[1]}inf")
    if text.lower() == "nan":
        return float("nan")
    if _DECIMAL.fullmatch(text) is not None:
        number = float(text)
    elif _HEXADECIMAL.fullmatch(text) is not None:
        try:
            number = float.fromhex(text.replace("_", ""))
        except (OverflowError, ValueError):
            return None
    else:
        return None
    return None if abs(number) == float("inf") else number


def general(number: float) -> str:
    """Write a number as `%g` does."""
    if number != number:  # noqa: PLR0124 - NaN
        return "NaN"
    if abs(number) == float("inf"):
        return "+Inf" if number > 0 else "-Inf"
    sign, digits, point = _shortest(number)
    if -4 <= point - 1 < 6:
        return sign + _plain(digits, point)
    exponent = point - 1
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def plain(number: float) -> str:
    """Write a finite number without an exponent, with as few digits as name it."""
    sign, digits, point = _shortest(number)
    return sign + _plain(digits, point)


def _shortest(number: float) -> tuple[str, str, int]:
    sign, places, exponent = Decimal(repr(number)).as_tuple()
    digits = "".join(map(str, places)).lstrip("0")
    stripped = digits.rstrip("0")
    point = len(digits) + int(exponent)
    return "-" if sign else "", stripped or "0", point if stripped else 1


def _plain(digits: str, point: int) -> str:
    if point <= 0:
        return f"0.{'0' * -point}{digits}"
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"


def quoted(text: str) -> str:
    """Write a string as `%q` does."""
    parts = []
    for character in text:
        code = ord(character)
        if character in '"\\':
            parts.append(f"\\{character}")
        elif character.isprintable():
            parts.append(character)
        elif character in _ESCAPES:
            parts.append(_ESCAPES[character])
        elif code < 0x20 or code == 0x7F:
            parts.append(f"\\x{code:02x}")
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f'"{"".join(parts)}"'
