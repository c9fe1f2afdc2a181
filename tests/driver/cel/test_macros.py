"""Comprehensions, bindings and optional elements mean what they mean in Kubernetes."""

from __future__ import annotations

import pytest

from .conftest import Outcome


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[1, 2].all(x, x > 0)", "true"),
        ("[1, 2].all(x, x > 1)", "false"),
        ("[].all(x, false)", "true"),
        ("[1, 2].exists(x, x == 2)", "true"),
        ("[].exists(x, true)", "false"),
        ("[1, 2, 2].exists_one(x, x == 2)", "false"),
        ("[1, 2].exists_one(x, x == 2)", "true"),
        ("[1, 2, 3].filter(x, x != 2) == [1, 3]", "true"),
        ("[1, 2].map(x, x * 2) == [2, 4]", "true"),
        ("[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]", "true"),
        ('{"a": 1, "b": 2}.all(k, k in ["a", "b"])', "true"),
        ('{"a": 1}.map(k, k) == ["a"]', "true"),
        ("[3, 1, 2].sortBy(x, -x) == [3, 2, 1]", "true"),
        ('["bb", "a"].sortBy(x, x.size()) == ["a", "bb"]', "true"),
    ],
)
def test_a_macro_with_one_variable_goes_through_elements_or_keys(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[5, 6].all(i, x, x == i + 5)", "true"),
        ('{"a": 1}.exists(k, v, k == "a" && v == 1)', "true"),
        ("[5, 6].existsOne(i, x, x == 6 && i == 1)", "true"),
        ("[5, 6].exists_one(i, x, x > 4)", "false"),
        ("[5, 6].transformList(i, x, x - i) == [5, 5]", "true"),
        ("[5, 6].transformList(i, x, i > 0, x) == [6]", "true"),
        ('{"a": 1}.transformMap(k, v, v + 1) == {"a": 2}', "true"),
        ("[7].transformMap(i, x, x) == {0: 7}", "true"),
        ('{"a": 1, "b": 2}.transformMap(k, v, v > 1, v) == {"b": 2}', "true"),
        ('{"a": "x"}.transformMapEntry(k, v, {v: k}) == {"x": "a"}', "true"),
        ('["x", "x"].transformMapEntry(i, v, {v: i}).size() == 1', "evaluation-error"),
        ("[1].transformMapEntry(i, v, i)", "compile-error"),
        ("[1].all(x, x, true)", "compile-error"),
        ("[1].existsOne(x, true)", "compile-error"),
    ],
)
def test_a_macro_with_two_variables_sees_index_or_key_and_value(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[0, 1].all(x, 1 / x == 2)", "false"),
        ("[0, 1].all(x, 1 / x == 1)", "evaluation-error"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("[0, 1].exists(x, 1 / x == 2)", "evaluation-error"),
        ("[1, 0].exists_one(x, 1 / x == 1)", "evaluation-error"),
        ("[0, 1].filter(x, 1 / x == 1) == [1]", "evaluation-error"),
        ("[dyn(1), dyn(true)].exists(x, x)", "true"),
        ("[dyn(1), dyn(false)].exists(x, x)", "evaluation-error"),
        ('device.attributes["d"].s.all(x, true)', "evaluation-error"),
        ('device.attributes["d"].nope.all(x, true) || true', "true"),
    ],
)
def test_all_and_exists_absorb_errors_where_another_element_decides(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cel.bind(x, 1 / 0, true)", "true"),
        ("cel.bind(x, 1 / 0, x == 1 || true)", "true"),
        ("cel.bind(x, 1 / 0, x == 1 || x == 2)", "evaluation-error"),
        ("cel.bind(x, 1, cel.bind(x, x + 1, x == 2))", "true"),
        ("[1, 2].map(y, cel.bind(x, y * 2, x + x)) == [4, 8]", "true"),
        ("cel.bind(x, [1], [2].all(y, cel.bind(z, x, z == [1])))", "true"),
        ("cel.bind(1, 1, true)", "compile-error"),
        ("cel.bind(x, 1, y)", "compile-error"),
        ("cel.bind(x, [], x + [1] == [1] && x + ['a'] == ['a'])", "compile-error"),
    ],
)
def test_a_binding_is_lazy_and_holds_in_its_body_only(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('[{"driver": "x"}].exists(device, device.driver == "x")', "true"),
        ('[1].exists(device, .device.driver == "d")', "true"),
        ("cel.bind(device, 1, device == 1) && device.driver == 'd'", "true"),
        ("[1].all(x, [2].all(x, x == 2) && x == 1)", "true"),
        ("[1].all(__result__, true)", "compile-error"),
        ("[1].all(x.y, true)", "compile-error"),
    ],
)
def test_a_variable_hides_what_is_outside(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


def test_before_1_37_a_variable_hides_the_device_behind_a_dot_too(outcome: Outcome) -> None:
    assert outcome('[1].exists(device, .device.driver == "d")', release="1.36") == "compile-error"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("optional.of(2).optMap(x, x + 1).value() == 3", "true"),
        ("optional.none().optMap(x, 1 / 0).hasValue()", "false"),
        ("optional.of(2).optFlatMap(x, optional.of(x)).value() == 2", "true"),
        ("optional.of(2).optFlatMap(x, x)", "compile-error"),
        ("[?optional.of(1), ?optional.none(), 2] == [1, 2]", "true"),
        ('{?"a": optional.none(), ?"b": optional.of(1)} == {"b": 1}', "true"),
        ("[?1]", "compile-error"),
        ("[?dyn(1)].size() == 0", "compile-error"),
        ("dyn(5).?foo.hasValue()", "false"),
        ("dyn([1]).?foo.hasValue()", "evaluation-error"),
        ('device.attributes["d"].?nope.?more.hasValue()', "false"),
        ('device.attributes["d"][?"li"][?1].value() == 2', "true"),
        ('has(device.attributes["d"].?nope)', "compile-error"),
    ],
)
def test_optionals_may_be_mapped_and_be_elements(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "([1 / 0].distinct().size() == 1) || true",
        "([1, 2].sortBy(x, 1 / 0).size() == 1) || true",
        "([1].flatten(1 / 0).size() == 1) || true",
        'device.attributes["d"].v in ["a", "b"] || true',
    ],
)
def test_where_the_reference_panics_nothing_absorbs_the_error(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "evaluation-error"
