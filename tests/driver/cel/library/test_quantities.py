import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.library.quantities import _add, _stored, _sub
from driver.quantities import parse_quantity

from .conftest import Outcome

SUFFIXES = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-3"])
AMOUNTS = st.builds(
    lambda sign, whole, part, suffix: f"{sign}{whole}{part}{suffix}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**12),
    st.one_of(st.just(""), st.integers(0, 999).map(lambda part: f".{part}")),
    SUFFIXES,
)


@pytest.mark.parametrize(
    "expression",
    [
        "quantity('4Gi') == device.capacity['d'].m && device.capacity['d'].m.isGreaterThan(quantity('4G'))",
        "quantity('1k').compareTo(quantity('1000')) == 0 && quantity('1').compareTo(quantity('2')) == -1",
        "quantity('1').isLessThan(quantity('1Ki')) && !quantity('1').isLessThan(quantity('1'))",
        "sign(quantity('-1')) == -1 && sign(quantity('0.0')) == 0 && sign(quantity('1n')) == 1",
        "quantity('1').add(quantity('2')).compareTo(quantity('3')) == 0",
        "quantity('1Gi').sub(1).asInteger() == 1073741823 && quantity('1').add(-2).asInteger() == -1",
        "isQuantity('1E') && isQuantity('5.') && isQuantity('.5') && isQuantity('+5') && isQuantity('Ki')",
        "!isQuantity('200K') && !isQuantity('') && !isQuantity('1 ') && !isQuantity('Ei')",
        "quantity('1.1').asApproximateFloat() == 1.1 && quantity('1n').asApproximateFloat() == 1e-9",
    ],
)
def test_quantities_are_compared_and_added(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "true"


@pytest.mark.parametrize(
    "text",
    ["1", "1k", "1Gi", "0", "-5", "1e3", "1E", "0k", "999999999999999999", "9Ti", "1.Gi", "00001", "99Ti"],
)
def test_counted_amounts_are_integers(outcome: Outcome, text: str) -> None:
    assert outcome(f"quantity('{text}').isInteger()") == "true"
    assert outcome(f"quantity('{text}').asInteger() == quantity('{text}').add(0).asInteger()") == "true"


@pytest.mark.parametrize(
    "text",
    ["1.5Gi", "1.0", "0.0", "500m", "1.5", "1000000000000000000", "12Ei", "8191Ti", "1e19", "1n", "2500m"],
)
def test_amounts_with_a_fraction_or_too_many_digits_are_no_integers(outcome: Outcome, text: str) -> None:
    assert outcome(f"quantity('{text}').isInteger()") == "false"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("quantity('1.5Gi').asInteger() == 1610612736", "evaluation-error"),
        ("quantity('1500m').add(quantity('500m')).isInteger()", "false"),
        ("quantity('1500m').add(quantity('500m')) == quantity('2')", "true"),
        ("quantity('0').add(quantity('1.0')).isInteger()", "false"),
        ("quantity('1E').sub(-9223372036854775808).sub(quantity('1.0')) == quantity('0')", "false"),
        ("sign(quantity('1E').sub(-9223372036854775808)) == -1", "true"),
        ("quantity('9223372036854775807').add(1).isInteger()", "false"),
        ("quantity('x') == quantity('x')", "evaluation-error"),
        ("quantity('1').sign() == 1", "compile-error"),
        ("device.attributes['d'].a.isGreaterThan(quantity('1'))", "evaluation-error"),
    ],
)
def test_the_form_in_which_an_amount_is_stored_shows(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@given(AMOUNTS, AMOUNTS)
def test_adding_and_subtracting_again_changes_nothing(left: str, right: str) -> None:
    first, second = parse_quantity(left), parse_quantity(right)
    assert _sub(_add(first, second), second).nano == first.nano


@given(AMOUNTS)
def test_the_stored_form_has_the_same_value(text: str) -> None:
    stored = _stored(parse_quantity(text))
    assert stored.unscaled * 10 ** (stored.scale + 9) == stored.nano or stored.scale < -9
