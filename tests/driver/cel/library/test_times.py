import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.library.time_text import read_duration, read_timestamp, write_duration, write_timestamp
from driver.cel.library.times import civil, day_number
from driver.cel.values import Duration, Timestamp

from .conftest import Outcome

FIRST, LAST = -62135596800 * 10**9, 253402300799 * 10**9 + 999999999


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1h2m3.5s", 3723_500_000_000),
        ("-1.5h", -5400_000_000_000),
        ("+0", 0),
        ("0", 0),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("1\u00b5s", 1000),
        ("1\u03bcs", 1000),
        ("0.9ns", 0),
        ("0.3333333333333333333h", 1_200_000_000_000),
        ("9223372036854775807ns", (1 << 63) - 1),
        ("-9223372036854775808ns", -(1 << 63)),
        ("9223372036854775808ns", None),
        ("2562047h47m16.854775808s", None),
        ("100000000000000000000s", None),
        ("1", None),
        ("", None),
        ("s", None),
        (".s", None),
        ("1d", None),
        ("1 s", None),
        ("--1s", None),
        ("1S", None),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, nanos: int | None) -> None:
    assert read_duration(text) == (None if nanos is None else Duration(nanos))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2024-02-29T12:34:56.789Z", "2024-02-29T12:34:56.789Z"),
        ("2024-01-01T00:00:00,5Z", "2024-01-01T00:00:00.5Z"),
        ("2024-01-01T0:00:00Z", "2024-01-01T00:00:00Z"),
        ("2024-01-01T00:00:00.1234567899Z", "2024-01-01T00:00:00.123456789Z"),
        ("2024-01-01T00:00:00+23:60", "2024-01-01T00:00:00+24:00"),
        ("2024-01-01T00:00:00-00:30", "2024-01-01T00:00:00-00:30"),
        ("2024-01-01T00:00:00+00:00", "2024-01-01T00:00:00Z"),
        ("2023-02-29T00:00:00Z", None),
        ("2024-01-01t00:00:00z", None),
        ("2024-01-01 00:00:00Z", None),
        ("2024-1-1T00:00:00Z", None),
        ("2024-01-01T24:00:00Z", None),
        ("2024-01-01T23:59:60Z", None),
        ("2024-01-01T00:00:00.Z", None),
        ("2024-01-01T00:00:00", None),
        ("2024-01-01T00:00:00+25:00", None),
        ("2024-01-01", None),
    ],
)
def test_timestamps_are_read_as_go_reads_them(text: str, written: str | None) -> None:
    stamp = read_timestamp(text)
    assert (None if stamp is None else write_timestamp(stamp)) == written


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("timestamp('0000-12-31T23:59:59Z') == timestamp(0)", "compile-error"),
        ("timestamp('0000-12-31T23:00:00-02:00').getFullYear() == 1", "true"),
        ("timestamp('9999-12-31T23:59:59-01:00') == timestamp(0)", "compile-error"),
        ("timestamp(253402300800) == timestamp(0)", "compile-error"),
        ("timestamp(253402300799).getFullYear() == 9999", "true"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s') == timestamp(0)", "evaluation-error"),
        ("timestamp('0001-01-01T00:00:00Z') - duration('1ns') == timestamp(0)", "evaluation-error"),
        (
            "timestamp('9999-12-31T23:59:59Z') - timestamp('0001-01-01T00:00:00Z') == duration('1s')",
            "evaluation-error",
        ),
        ("duration('9223372036854775807ns') + duration('1ns') == duration('0')", "evaluation-error"),
        ("timestamp(0) - duration('-9223372036854775808ns') == timestamp(0)", "evaluation-error"),
    ],
)
def test_times_end_with_the_years_1_and_9999_and_with_64_bits(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        ("UTC", 23),
        ("", 23),
        ("Europe/Berlin", 1),
        ("America/Los_Angeles", 16),
        ("Asia/Kolkata", 5),
        ("+02:00", 1),
        ("-08:00", 15),
        ("2:0", 1),
        ("+05:30", 5),
        ("-00:30", 23),
        ("+99:99", 4),
    ],
)
def test_a_zone_is_a_name_or_an_offset(outcome: Outcome, zone: str, hours: int) -> None:
    assert outcome(f"timestamp('2024-06-15T23:30:00Z').getHours('{zone}') == {hours}") == "true"


@pytest.mark.parametrize("zone", ["Nope/Zone", "../etc/passwd", "x:y", ":30", "1:", "America", "+02:00:00"])
def test_an_unknown_zone_is_an_error(outcome: Outcome, zone: str) -> None:
    assert outcome(f"timestamp(0).getHours('{zone}') == 0") == "evaluation-error"


@pytest.mark.parametrize(
    "expression",
    [
        "timestamp('2024-12-31T00:00:00.123456Z').getFullYear() == 2024",
        "timestamp('2024-12-31T00:00:00Z').getMonth() == 11",
        "timestamp('2024-12-31T00:00:00Z').getDayOfYear() == 365",
        "timestamp('2024-12-31T00:00:00Z').getDayOfMonth() == 30",
        "timestamp('2024-12-31T00:00:00Z').getDate() == 31",
        "timestamp('2024-12-31T00:00:00Z').getDayOfWeek() == 2",
        "timestamp('2024-12-29T00:00:00Z').getDayOfWeek() == 0",
        "timestamp('2024-12-31T01:02:03.456Z').getMinutes() == 2",
        "timestamp('2024-12-31T01:02:03.456Z').getSeconds() == 3",
        "timestamp('2024-12-31T01:02:03.456Z').getMilliseconds() == 456",
        "timestamp('0001-01-01T00:00:00Z').getFullYear('-08:00') == 0",
        "timestamp('9999-12-31T23:59:59Z').getFullYear('Asia/Kolkata') == 10000",
        "duration('3723.456s').getHours() == 1",
        "duration('3723.456s').getMinutes() == 62",
        "duration('3723.456s').getSeconds() == 3723",
        "duration('3723.456s').getMilliseconds() == 3723456",
        "duration('-1.5s').getSeconds() == -1",
        "timestamp('2024-01-01T00:00:00+02:00') == timestamp('2023-12-31T22:00:00Z')",
        "string(timestamp('2024-01-01T00:00:00+02:00') + duration('1h')) == '2024-01-01T01:00:00+02:00'",
    ],
)
def test_parts_of_times(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "true"


@given(st.integers(FIRST, LAST), st.integers(-23, 23), st.integers(0, 59))
def test_a_timestamp_survives_being_written_and_read(nanos: int, hours: int, minutes: int) -> None:
    stamp = Timestamp(nanos, hours * 3600 + (minutes if hours >= 0 else -minutes) * 60)
    local = nanos // 10**9 + stamp.offset
    if FIRST // 10**9 <= local <= LAST // 10**9:
        found = read_timestamp(write_timestamp(stamp))
        assert found == stamp
        assert found is not None
        assert found.offset == stamp.offset


@given(st.integers(-(1 << 52), 1 << 52))
def test_a_duration_survives_being_written_and_read(nanos: int) -> None:
    found = read_duration(write_duration(Duration(nanos)))
    assert found is not None
    assert abs(found.nanos - nanos) <= abs(nanos) // (1 << 52) + 1


@given(st.dates())
def test_the_calendar_is_the_gregorian_one(day: dt.date) -> None:
    number = day.toordinal() - dt.date(1970, 1, 1).toordinal()
    assert day_number(day.year, day.month, day.day) == number
    assert civil(number) == (day.year, day.month, day.day)
