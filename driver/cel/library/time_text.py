"""Reading and writing timestamps and durations, as Go does.

Purpose: `timestamp("2024-05-01T12:00:00.5+02:00")`, `duration("1h30m")` and the way back.

Flow: plain functions that give None for what is no time; `conversions` makes them errors.

Limits: nanoseconds; digits beyond them are cut off.
"""

from __future__ import annotations

import re

from driver.cel.library.go_text import plain
from driver.cel.library.times import SECOND, civil, day_number
from driver.cel.values import INT_MAX, INT_MIN, Duration, Timestamp

# Go takes a comma for the point, an hour of one digit, and offsets of up to 24:60.
_STAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_LONGEST = 1 << 12
_PART = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?([^0-9.]+)")
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def read_timestamp(text: str) -> Timestamp | None:
    """Read a timestamp of RFC 3339; None where it is none. Its range is not checked."""
    shape = _STAMP.fullmatch(text) if len(text) <= _LONGEST else None
    if shape is None:
        return None
    year, month, day, hour, minute, second = (int(shape[place]) for place in range(1, 7))
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _MONTHS[month - 1] + leap:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    offset = 0
    if shape[8] is not None:
        hours, minutes = int(shape[9]), int(shape[10])
        if hours > 24 or minutes > 60:
            return None
        offset = (hours * 60 + minutes) * 60 * (-1 if shape[8] == "-" else 1)
    nanos = int((shape[7] or "")[:9].ljust(9, "0"))
    seconds = day_number(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    return Timestamp(seconds * SECOND + nanos, offset)


def write_timestamp(stamp: Timestamp) -> str:
    """Write a timestamp in the offset in which it was written."""
    seconds, nanos = divmod(stamp.nanos, SECOND)
    days, rest = divmod(seconds + stamp.offset, 86400)
    year, month, day = civil(days)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    zone = "Z"
    if stamp.offset:
        minutes = abs(stamp.offset) // 60
        zone = f"{'-' if stamp.offset < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{year:04d}-{month:02d}-{day:02d}T{clock}{fraction}{zone}"


def read_duration(text: str) -> Duration | None:
    """Read a duration such as `1h2m3.5s`; None where it is none."""
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in {"-", "+"} else text
    if rest == "0":
        return Duration(0)
    if not rest or len(text) > _LONGEST:
        return None
    total, place = 0, 0
    while place < len(rest):
        part = _PART.match(rest, place)
        unit = _UNITS.get(part[4]) if part is not None else None
        if part is None or unit is None or not (part[1] or part[3]):
            return None
        # A part that does not fit is an error even where the sum would.
        whole = int(part[1] or "0")
        if whole > -INT_MIN or whole * unit > -INT_MIN:
            return None
        total += whole * unit + _fraction(part[3] or "", unit)
        if total > -INT_MIN:
            return None
        place = part.end()
    if negative:
        return Duration(-total)
    return Duration(total) if total <= INT_MAX else None


def _fraction(digits: str, unit: int) -> int:
    # Digits that an int64 cannot hold are cut off; the rest is computed with doubles, as there.
    number, scale = 0, 1.0
    for digit in digits:
        if number > INT_MAX // 10 or (extended := number * 10 + int(digit)) > -INT_MIN:
            break
        number = extended
        scale *= 10
    return int(float(number) * (float(unit) / scale)) if number else 0


def write_duration(length: Duration) -> str:
    """Write a duration as seconds."""
    magnitude = abs(length.nanos)
    seconds = float(magnitude // SECOND) + (magnitude % SECOND) / SECOND
    return f"{plain(-seconds if length.nanos < 0 else seconds)}s"
