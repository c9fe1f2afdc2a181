import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.errors import EvaluationError
from driver.cel.library.operators import quotient, to_int

from .conftest import Outcome


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("9223372036854775807 + device.attributes['d'].a == 0", "evaluation-error"),
        ("-9223372036854775808 - device.attributes['d'].a == 0", "evaluation-error"),
        ("9223372036854775807 * device.attributes['d'].a == 0", "evaluation-error"),
        ("-9223372036854775808 / -1 == 0", "evaluation-error"),
        ("-9223372036854775808 % -1 == 0", "evaluation-error"),
        ("-(-9223372036854775808) == 0", "evaluation-error"),
        ("18446744073709551615u + 1u == 0u", "evaluation-error"),
        ("0u - 1u == 0u", "evaluation-error"),
        ("18446744073709551615u * 2u == 0u", "evaluation-error"),
        ("1 / 0 == 1", "evaluation-error"),
        ("1 % 0 == 1", "evaluation-error"),
        ("1u / 0u == 1u", "evaluation-error"),
        ("1u % 0u == 1u", "evaluation-error"),
        ("1.0 / 0.0 == double('Infinity')", "true"),
        ("-1.0 / 0.0 == double('-Infinity')", "true"),
        ("0.0 / 0.0 == 0.0", "false"),
    ],
)
def test_whole_numbers_overflow_and_doubles_do_not(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    "expression",
    ["-7 / 2 == -3", "-7 % 2 == -1", "7 / -2 == -3", "7 % -2 == 1", "7u / 2u == 3u", "7u % 2u == 1u"],
)
def test_division_cuts_towards_zero(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "true"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'a' + 'b' == 'ab'", "true"),
        ("b'a' + b'b' == b'ab'", "true"),
        ("[1] + [2] == [1, 2]", "true"),
        ("dyn([1]) + dyn(['a']) == [dyn(1)] + [dyn('a')]", "true"),
        ("1 + 1u == 2", "compile-error"),
        ("dyn(1) + dyn(1u) == 2", "evaluation-error"),
        ("dyn('a') + dyn(b'b') == 'ab'", "evaluation-error"),
        ("[1] + ['a'] == [1]", "compile-error"),
    ],
)
def test_values_of_one_type_add_up(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('-duration("1s") == duration("-1s")', "compile-error"),
        ('-dyn(duration("1s")) == duration("-1s")', "true"),
        ('-dyn(duration("-9223372036854775808ns")) == duration("1s")', "evaluation-error"),
        ("-dyn(true) == 1", "evaluation-error"),
        ("-dyn(1u) == 1", "evaluation-error"),
        ("-dyn(1.5) == -1.5", "true"),
        ("!dyn(1)", "evaluation-error"),
    ],
)
def test_a_duration_is_negated_where_the_type_check_does_not_see_it(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("size('日本語') == 3", "true"),
        ("size(b'\\xc3\\xa9') == 2", "true"),
        ("device.attributes['d'].l.size() == 2", "true"),
        ("size(dyn(1)) == 1", "evaluation-error"),
        ("size(dyn(ip('::1'))) == 16", "evaluation-error"),
        ("1 in dyn([1.0])", "true"),
        ("dyn(1) in dyn('1')", "evaluation-error"),
        ("'s' in device.attributes['d']", "true"),
        ("'none' in device.attributes", "false"),
    ],
)
def test_only_what_has_elements_has_a_size(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1).filter(bool))
def test_a_quotient_times_its_divisor_is_never_larger_than_the_dividend(dividend: int, divisor: int) -> None:
    result = quotient(dividend, divisor)
    assert abs(result * divisor) <= abs(dividend) < abs(result * divisor) + abs(divisor)


@given(st.integers())
def test_an_int_has_64_bits(number: int) -> None:
    if -(1 << 63) <= number < 1 << 63:
        assert to_int(number) == number
    else:
        with pytest.raises(EvaluationError, match="overflow"):
            to_int(number)
