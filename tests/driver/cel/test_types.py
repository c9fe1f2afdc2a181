"""The type check accepts and refuses what the reference's does."""

from __future__ import annotations

import pytest

from driver.cel import InvalidSelectorError, compile_selector
from driver.cel.inference import Bindings, general
from driver.cel.syntax import Call
from driver.cel.types import DYN, INT, NULL, STRING, Type, list_of, optional_of

from .conftest import Outcome


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[] == [1]", "false"),
        ("[] + [1] == [1] && [] == ['a']", "false"),
        ("cel.bind(x, [], x + [1] == [1])", "true"),
        ("[[], [1]].size() == 2", "true"),
        ("{}.size() == 0 && {} == {1: 2}", "false"),
        ("[][0] == 1 || true", "true"),
        ("[1, 'a'].size() == 2", "compile-error"),
        ("[dyn(1), 'a'].size() == 2", "compile-error"),
        ("[dyn(1), dyn('a')].size() == 2", "true"),
        ('"%d %s".format([1, "a"]) == "1 a"', "true"),
        ("{1: 1, 1u: 2}.size() == 1", "compile-error"),
        ("{1: 1, 1: 2}[1] == 2", "true"),
        ('{b"a": 1}.size() == 1', "compile-error"),
        ("[1, 2][dyn(1.0)] == 2", "true"),
        ("[1, 2][1.0] == 2", "compile-error"),
        ("{1: 2}[dyn(null)] == 2", "compile-error"),
        ("(true ? 1 : 'a') == 1", "compile-error"),
        ("(true ? 1 : dyn('a')) == 1", "true"),
        ("optional.none() == optional.of(1)", "false"),
        ("device.capacity['d'].m == null", "false"),
        ("1 == null", "compile-error"),
        ("dyn([1]).reverse().exists(e, uint(e) >= 5u)", "evaluation-error"),
        ("device.attributes['d'].li.sort() == [1, 2]", "true"),
        ("[[1], ['a']].size() == 2", "compile-error"),
    ],
)
def test_type_variables_and_literals_are_checked_as_there(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("type(1) == int && int == int", "true"),
        ("type(device) == map", "true"),
        ("type(type(1)) == type", "true"),
        ("net.IP == type(ip('1.2.3.4'))", "true"),
        ("google.protobuf.Duration == type(duration('1s'))", "true"),
        ("kubernetes.Quantity == type(quantity('1'))", "compile-error"),
        ("dyn(device).size() == 4 && dyn(device)['driver'] == 'd'", "true"),
        ("device['driver'] == 'd'", "compile-error"),
        ("cel.bind(x, int, true)", "compile-error"),
        ("[int].exists(t, t == int)", "compile-error"),
        ("cel.bind(x, dyn(int), x == int)", "true"),
        ("dyn(optional.of(optional.of(true)))", "true"),
        ("dyn(optional.none())", "evaluation-error"),
        ("dyn(optional.of(true)) && true", "evaluation-error"),
        ("has(device.driver) && device.?driver.hasValue()", "true"),
        ("google.protobuf.Int64Value{value: 1} == 1 && google.protobuf.Int64Value{} == 0", "true"),
        ('google.protobuf.Int64Value{value: "a"} == 1', "compile-error"),
        ("google.protobuf.Int64Value{other: 1} == 1", "compile-error"),
        ("google.protobuf.Struct{} == {}", "not-supported"),
    ],
)
def test_names_of_types_and_the_device_are_values(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "int('A100') == 1 || true",
        "true || string(dyn(null)) == ''",
        "true || duration('x') == duration('1s')",
        "true || 'a'.matches('(')",
        "true || 'a'.matches(string('('))",
        "matches('(', 'a')",
    ],
)
def test_what_is_wrong_with_constants_is_found_when_compiling(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "compile-error"


@pytest.mark.parametrize(
    "expression",
    [
        "(dyn([1]) + ['a'])[0].startsWith('a')",
        "device.attributes['d'].?i.orValue('x').size() == 1",
        "dyn(optional.of('a')).optMap(x, x + 1).hasValue()",
        "cel.bind(y, dyn(1.0), y.orValue('a')) < 'b'",
        "[dyn([1]), dyn(['a'])].map(l, l + ['b'])[0].map(s, s.upperAscii()).size() == 2",
    ],
)
def test_a_value_that_is_not_of_the_type_promised_is_an_error(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "evaluation-error"


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("device.drivr == 'd'", "'driver'"),
        ("devise.driver == 'd'", "'device'"),
        ("device.driver.startswith('d')", "'startsWith'"),
        ("[1].length() == 1", "size()"),
        ("[1].map(x) == [1]", "map(x, result)"),
        ("device.driver = 'd'", "=="),
        ("has(device.attributes['d'])", "in map"),
        ("[1, 'a'] == []", "one type"),
        ("nvidia == 1", "quotes"),
        ("'\\d' == 'd'", "raw string"),
    ],
)
def test_an_error_says_what_may_have_been_meant(expression: str, hint: str) -> None:
    with pytest.raises(InvalidSelectorError) as caught:
        compile_selector(expression)
    assert hint in caught.value.remedy
    assert caught.value.column > 0


def test_the_overloads_of_a_call_are_picked_where_types_are_known() -> None:
    checked = compile_selector("device.attributes['d'].i < 5 && 1 < 2").checked
    counts = [len(found) for node, found in checked.overloads.items() if isinstance(node, Call)]
    assert sorted(counts) == [1, 3]


def test_a_variable_takes_the_wider_of_what_it_is_bound_to() -> None:
    bindings = Bindings()
    variable = bindings.fresh()
    assert bindings.assign(INT, variable)
    assert bindings.assign(DYN, variable)
    assert bindings.final(list_of(variable)) == list_of(DYN)


def test_a_failed_assignment_binds_nothing() -> None:
    bindings = Bindings()
    variable = bindings.fresh()
    assert not bindings.assign_all((INT, INT), (variable, STRING))
    assert bindings.resolve(variable) == variable


def test_a_variable_is_never_bound_to_what_contains_it() -> None:
    bindings = Bindings()
    variable = bindings.fresh()
    assert not bindings.assign(list_of(variable), variable)


def test_null_stands_for_what_is_no_type_of_cel_itself() -> None:
    bindings = Bindings()
    assert bindings.assign(NULL, Type("timestamp"))
    assert bindings.assign(NULL, optional_of(INT))
    assert not bindings.assign(NULL, INT)


def test_dyn_is_more_general_than_any_type_at_the_same_place() -> None:
    assert general(list_of(INT), list_of(DYN)) == list_of(DYN)
    assert general(list_of(DYN), list_of(INT)) == list_of(DYN)
