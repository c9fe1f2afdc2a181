import pytest

from .conftest import Outcome


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("optional.of(1).hasValue() && !optional.none().hasValue() && optional.of(null).hasValue()", "true"),
        ("optional.of(1).value() == 1", "true"),
        ("optional.none().value() == 1", "evaluation-error"),
        ("optional.of(1).orValue(1 / 0) == 1", "true"),
        ("optional.none().orValue(2) == 2", "true"),
        ("optional.of(1).or(optional.of(1 / 0)).value() == 1", "true"),
        ("optional.none().or(optional.of(2)).value() == 2", "true"),
        ("optional.none() == optional.none() && optional.of(1) != optional.of(2)", "true"),
        ("optional.of(1) == dyn(1)", "false"),
        ("optional.unwrap([optional.of(1), optional.none()]) == [1]", "true"),
        ("[optional.of(1), optional.none()].unwrapOpt() == [1]", "true"),
        ("[1].unwrapOpt() == [1]", "compile-error"),
        ("dyn([1]).unwrapOpt() == [1]", "evaluation-error"),
    ],
)
def test_optionals_are_asked_for_their_value(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    "value",
    ["0", "0u", "0.0", "''", "b''", "false", "null", "[]", "{}", "duration('0')",
     "timestamp('0001-01-01T00:00:00Z')"],
)  # fmt: skip
def test_what_is_zero_has_no_value(outcome: Outcome, value: str) -> None:
    assert outcome(f"optional.ofNonZeroValue({value}).hasValue()") == "false"


@pytest.mark.parametrize(
    "value",
    ["1", "' '", "[0]", "timestamp(0)", "duration('1ns')", "quantity('0')", "semver('0.0.0')", "ip('::')",
     "optional.none()", "double('NaN')"],
)  # fmt: skip
def test_everything_else_has_one(outcome: Outcome, value: str) -> None:
    assert outcome(f"optional.ofNonZeroValue({value}).hasValue()") == "true"


@pytest.mark.parametrize("call", ["orValue(2) == 3", "or(optional.of(2)) == dyn(3)"])
def test_a_value_that_is_no_optional_passes_up_to_1_36(outcome: Outcome, call: str) -> None:
    expression = f"device.attributes['d'].a.{call}"
    assert (outcome(expression, "1.36"), outcome(expression, "1.37")) == ("true", "evaluation-error")
