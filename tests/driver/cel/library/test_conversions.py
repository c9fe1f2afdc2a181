import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.library.go_text import general, plain, quoted, read_float

from .conftest import Outcome


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("int('A100') == 1", "compile-error"),
        ("int(dyn('A100')) == 1", "compile-error"),
        ("int(device.attributes['d'].s) == 1", "evaluation-error"),
        ("timestamp('x') == timestamp(0)", "compile-error"),
        ("duration('1d') == duration('24h')", "compile-error"),
        ("bool('yes')", "compile-error"),
        ("string(b'\\xff') == 'x'", "compile-error"),
        ("[int('1')] == [1]", "true"),
    ],
)
def test_a_constant_is_converted_when_the_expression_is_compiled(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("int('+5') == 5 && int('-5') == -5 && int('007') == 7", "true"),
        ("int(' 5') == 5", "compile-error"),
        ("int('1_0') == 10", "compile-error"),
        ("int('0x10') == 16", "compile-error"),
        ("int('9223372036854775808') == 0", "compile-error"),
        ("int(1.9) == 1 && int(-1.9) == -1", "true"),
        ("int(9223372036854775807.0) == 0", "compile-error"),
        ("int(-9223372036854775808.0) == 0", "compile-error"),
        ("int(double('NaN')) == 0", "compile-error"),
        ("int(18446744073709551615u) == 0", "compile-error"),
        ("int(duration('1s')) == 1000000000", "true"),
        ("int(timestamp('1969-12-31T23:59:59.5Z')) == -1", "true"),
        ("uint('5') == 5u", "true"),
        ("uint('+5') == 5u", "compile-error"),
        ("uint(-1) == 0u", "compile-error"),
        ("uint(-0.5) == 0u", "compile-error"),
        ("uint(18446744073709551616.0) == 0u", "compile-error"),
        ("int(true) == 1", "compile-error"),
        ("int(dyn(device.attributes['d'].b)) == 1", "evaluation-error"),
    ],
)
def test_whole_numbers_are_read_as_go_reads_them(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1e3", 1000.0),
        ("1_0.5", 10.5),
        ("0x1p4", 16.0),
        ("0x_1.8p0", 1.5),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("1e-400", 0.0),
        ("1e400", None),
        ("0x10", None),
        ("1__0", None),
        ("_1", None),
        ("1_", None),
        (" 1", None),
        ("1f", None),
        ("٣", None),
        ("+nan", None),
        ("", None),
    ],
)
def test_doubles_are_read_as_go_reads_them(text: str, number: float | None) -> None:
    assert read_float(text) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (100000.0, "100000"),
        (1e6, "1e+06"),
        (123456.0, "123456"),
        (1234567.0, "1.234567e+06"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1e21, "1e+21"),
        (1.5e-300, "1.5e-300"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_doubles_are_written_as_go_writes_them(number: float, text: str) -> None:
    assert general(number) == text


@given(st.floats(allow_nan=False))
def test_a_double_survives_being_written_and_read(number: float) -> None:
    assert read_float(general(number)) == number
    if math.isfinite(number):
        assert float(plain(number)) == number


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('a"b\\', '"a\\"b\\\\"'),
        ("\n\t\x00\x7f", '"\\n\\t\\x00\\x7f"'),
        ("\u00a0\u2028é😀", '"\\u00a0\\u2028é😀"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)
def test_strings_are_quoted_as_go_quotes_them(text: str, written: str) -> None:
    assert quoted(text) == written


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("string(1.0) == '1' && string(1u) == '1' && string(true) == 'true'", "true"),
        ("string(duration('90m')) == '5400s'", "true"),
        ("string(timestamp('2024-01-01T00:00:00.50+02:00')) == '2024-01-01T00:00:00.5+02:00'", "true"),
        ("string(ip('2001:DB8::0')) == '2001:db8::'", "true"),
        ("string(cidr('10.1.2.3/8')) == '10.1.2.3/8'", "true"),
        ("string(null) == 'null'", "compile-error"),
        ("string(dyn(null)) == 'null'", "compile-error"),
        ("string(dyn(device.attributes['d'].v)) == '1.2.3'", "evaluation-error"),
        ("bytes('é') == b'\\xc3\\xa9'", "true"),
        ("bool('T') && !bool('0')", "true"),
    ],
)
def test_strings_are_made_of_what_has_a_text(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("type(1) == int && type(1u) == uint && type(1.0) == double && type('') == string", "true"),
        ("type(null) == null_type && type([]) == list && type({}) == map && type(int) == type", "true"),
        ("type(duration('1s')) == google.protobuf.Duration", "true"),
        ("type(timestamp(0)) == google.protobuf.Timestamp", "true"),
        ("type(ip('::1')) == net.IP && type(cidr('::/0')) == net.CIDR", "true"),
        ("type(optional.of(1)) == optional_type", "true"),
        ("type(device.attributes['d'].a) == int", "true"),
        ("type(device.attributes['d'].v) == string", "false"),
        ("type(1) == type('a')", "false"),
        ("dyn(type(device)) == map", "true"),
        ("type(quantity('1')) == kubernetes.Quantity", "compile-error"),
        ("type(quantity('1')) == type(quantity('2'))", "true"),
    ],
)
def test_types_are_values(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


def test_a_duration_of_an_int_is_declared_up_to_1_36_and_never_works(outcome: Outcome) -> None:
    expression = "duration(size(device.driver)) == duration('1s')"
    assert outcome(expression, "1.36") == "evaluation-error"
    assert outcome(expression, "1.37") == "compile-error"
