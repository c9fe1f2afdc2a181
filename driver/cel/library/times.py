"""Times: what can be asked of timestamps and durations, and arithmetic on them.

Purpose: `timestamp(...).getFullYear("Europe/Berlin")`, `duration("90m").getHours()`, `_+_` and `_-_`.

Flow: overloads on `driver.cel.values.Timestamp` and `Duration`; reading and writing them is in
`library.time_text`.

Limits: timestamps lie in the years 1 to 9999 in UTC; in another zone they may show as year 0 or 10000.
The zones are those of the machine, or of the package tzdata where it has none; `Local` is taken for UTC.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import overload
from driver.cel.library.operators import quotient, to_int
from driver.cel.values import INT_MAX, INT_MIN, Duration, Timestamp

SECOND = 10**9
MINUTE, HOUR = 60 * SECOND, 3600 * SECOND
FIRST_SECOND, LAST_SECOND = -62135596800, 253402300799
_DAY = 86400
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_ALWAYS_UTC = frozenset({"", "UTC", "Local"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def in_range(stamp: Timestamp) -> Timestamp:
    """Give a timestamp, or raise EvaluationError where it is not in the years 1 to 9999."""
    if not FIRST_SECOND <= stamp.nanos // SECOND <= LAST_SECOND:
        raise EvaluationError("timestamp overflow")
    return stamp


def civil(days: int) -> tuple[int, int, int]:
    """Give year, month and day of the month of a day counted from 1970."""
    # Counted in eras of 400 years that begin in March, so that leap days come last.
    shifted = days + 719468
    era, day_of_era = divmod(shifted, 146097)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year + 400 * era + (month <= 2), month, day_of_year - (153 * shifted_month + 2) // 5 + 1


def day_number(year: int, month: int, day: int) -> int:
    """Count the days from 1970 to a date."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@functools.lru_cache(maxsize=64)
def _rules(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _zone(name: str) -> ZoneInfo | None:
    if name in _ALWAYS_UTC:
        return None
    rules = _rules(name)
    if rules is None:
        raise EvaluationError(f"unknown time zone {name[:64]}")
    return rules


def _in_zone(_stamp: Timestamp, zone: str) -> int:
    # An unknown zone is looked for on disk each time.
    if zone in _ALWAYS_UTC or ":" in zone:
        return 1
    return 1 + (costs.READ if _rules(zone) is not None else costs.LOOKED_UP)


def _offset(stamp: Timestamp, zone: str) -> int:
    hours, colon, minutes = zone.partition(":")
    if not colon:
        rules = _zone(zone)
        if rules is None:
            return 0
        # Rules at the ends of time are those a day further in.
        moment = min(max(stamp.nanos // SECOND, FIRST_SECOND + 2 * _DAY), LAST_SECOND - 2 * _DAY)
        shift = (_EPOCH + timedelta(seconds=moment)).astimezone(rules).utcoffset()
        return 0 if shift is None else round(shift.total_seconds())
    if not _NUMBER.fullmatch(hours) or not _NUMBER.fullmatch(minutes):
        raise EvaluationError(f"{zone[:64]!r} is no offset from UTC")
    sign = -1 if hours[0] == "-" else 1
    nanos = _wrapped((int(hours) * 60 + sign * int(minutes)) * MINUTE)
    return int(quotient(nanos, SECOND))


def _wrapped(number: int) -> int:
    return (number - INT_MIN) % (1 << 64) + INT_MIN


def _seconds_of_day(seconds: int) -> int:
    return seconds % _DAY


def _year(seconds: int) -> int:
    return civil(seconds // _DAY)[0]


def _day_of_year(seconds: int) -> int:
    days = seconds // _DAY
    return days - day_number(civil(days)[0], 1, 1)


# Each is given the seconds since 1970 on the wall clock of a zone.
_PARTS: dict[str, Callable[[int], int]] = {
    "getFullYear": _year,
    "getMonth": lambda seconds: civil(seconds // _DAY)[1] - 1,
    "getDayOfYear": _day_of_year,
    "getDayOfMonth": lambda seconds: civil(seconds // _DAY)[2] - 1,
    "getDate": lambda seconds: civil(seconds // _DAY)[2],
    "getDayOfWeek": lambda seconds: (seconds // _DAY + 4) % 7,
    "getHours": lambda seconds: _seconds_of_day(seconds) // 3600,
    "getMinutes": lambda seconds: _seconds_of_day(seconds) // 60 % 60,
    "getSeconds": lambda seconds: seconds % 60,
}


def _register_parts() -> None:
    for name, part in _PARTS.items():
        overload(f"{name}(timestamp) -> int", method=True)(
            lambda stamp, part=part: part(stamp.nanos // SECOND)
        )
        overload(f"{name}(timestamp, string) -> int", method=True, cost=_in_zone)(
            lambda stamp, zone, part=part: part(stamp.nanos // SECOND + _offset(stamp, zone))
        )


_register_parts()


@overload("getMilliseconds(timestamp) -> int", method=True)
def _milliseconds(stamp: Timestamp) -> int:
    return stamp.nanos % SECOND // 10**6


@overload("getMilliseconds(timestamp, string) -> int", method=True, cost=_in_zone)
def _milliseconds_in_zone(stamp: Timestamp, zone: str) -> int:
    _offset(stamp, zone)
    return _milliseconds(stamp)


def _in_units(length: Duration, unit: int) -> int:
    # As a double, as there: close to a whole number it may round up.
    whole = quotient(length.nanos, unit)
    return int(float(whole) + (length.nanos - whole * unit) / unit)


@overload("getHours(duration) -> int", method=True)
def _hours(length: Duration) -> int:
    return _in_units(length, HOUR)


@overload("getMinutes(duration) -> int", method=True)
def _minutes(length: Duration) -> int:
    return _in_units(length, MINUTE)


@overload("getSeconds(duration) -> int", method=True)
def _seconds(length: Duration) -> int:
    return _in_units(length, SECOND)


@overload("getMilliseconds(duration) -> int", method=True)
def _duration_milliseconds(length: Duration) -> int:
    return quotient(length.nanos, 10**6)


@overload("_+_(duration, duration) -> duration")
def _sum(left: Duration, right: Duration) -> Duration:
    return Duration(to_int(left.nanos + right.nanos))


@overload("_-_(duration, duration) -> duration")
def _difference(left: Duration, right: Duration) -> Duration:
    return Duration(to_int(left.nanos - right.nanos))


@overload("_+_(timestamp, duration) -> timestamp")
def _later(stamp: Timestamp, length: Duration) -> Timestamp:
    return in_range(Timestamp(stamp.nanos + length.nanos, stamp.offset))


@overload("_+_(duration, timestamp) -> timestamp")
def _later_reversed(length: Duration, stamp: Timestamp) -> Timestamp:
    return _later(stamp, length)


@overload("_-_(timestamp, duration) -> timestamp")
def _earlier(stamp: Timestamp, length: Duration) -> Timestamp:
    return _later(stamp, Duration(to_int(-length.nanos)))


@overload("_-_(timestamp, timestamp) -> duration")
def _between(left: Timestamp, right: Timestamp) -> Duration:
    seconds = left.nanos // SECOND - right.nanos // SECOND
    if not INT_MIN <= seconds * SECOND <= INT_MAX:
        raise EvaluationError("integer overflow")
    return Duration(to_int(left.nanos - right.nanos))
