"""Each release has its own language, and feature gates change it."""

from __future__ import annotations

import pytest

from driver.cel.environments import environment

from .conftest import Outcome

LISTS = 'device.attributes["d"].li.exists(x, x == 1)'
INCLUDES = 'device.attributes["d"].li.includes(1)'


@pytest.mark.parametrize(
    ("release", "expected"),
    [("1.34", "compile-error"), ("1.35", "compile-error"), ("1.36", "true"), ("1.37", "true")],
)
def test_attributes_are_lists_from_1_36_on(outcome: Outcome, release: str, expected: str) -> None:
    assert outcome(LISTS, release=release) == expected
    assert outcome(INCLUDES, release=release) == expected


def test_without_the_gate_nobody_goes_through_an_attribute_in_1_36(outcome: Outcome) -> None:
    assert outcome(LISTS, release="1.36", list_attributes=False) == "compile-error"
    assert outcome(INCLUDES, release="1.36", list_attributes=False) == "true"


def test_for_stored_expressions_1_37_has_lists_whatever_the_gate_says(outcome: Outcome) -> None:
    assert outcome(LISTS, release="1.37", list_attributes=False) == "true"
    assert outcome(LISTS, release="1.37", list_attributes=False, stored=False) == "compile-error"


@pytest.mark.parametrize("release", ["1.34", "1.35", "1.36"])
def test_without_the_gate_a_result_must_be_bool_or_an_attribute(outcome: Outcome, release: str) -> None:
    assert outcome('device.attributes["d"].b', release=release, list_attributes=False) == "true"
    assert outcome("dyn(true)", release=release, list_attributes=False) == "compile-error"


@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_with_the_gate_a_result_may_be_unknown(outcome: Outcome, release: str) -> None:
    assert outcome("dyn(true)", release=release) == "true"
    assert outcome("dyn(1)", release=release) == "evaluation-error"


def test_new_expressions_have_the_functions_of_the_release_before() -> None:
    new = environment("1.36", stored=False)
    assert not new.overloads("includes", method=True)
    assert environment("1.36").overloads("includes", method=True)
    assert new.overloads("startsWith", method=True)


def test_new_expressions_have_includes_only_with_the_gate() -> None:
    without = environment("1.37", stored=False, list_attributes=False)
    assert not without.overloads("includes", method=True)
    assert environment("1.37", stored=False).overloads("includes", method=True)
