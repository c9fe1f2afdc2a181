"""An evaluation costs what it costs in Kubernetes."""

from __future__ import annotations

import pytest

from driver.cel import DeviceView, SelectorRaisedError, compile_selector
from driver.cel.budget import MAX_COST
from driver.cel.compiler import compile_tree

A = 'device.attributes["d"]'


def cost(expression: str, device: DeviceView) -> int:
    program = compile_tree(compile_selector(expression, release="1.37").checked)
    frame = program.frame(device)
    program.run(frame)
    return MAX_COST - frame.left


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("true", 0),
        ('device.driver == "d"', 3),
        ('device.attributes["d"].s == "abc"', 5),
        ('has(device.attributes["d"].s)', 3),
        ('device.attributes["d"].?s.orValue("x") == "abc"', 5),
        ('device.attributes["d"].?nope.orValue("x") == "x"', 4),
        ('device.attributes["d"].i in [1, 2, 3]', 4),
        ('1 in device.attributes["d"].li', 5),
        ('device.attributes["d"].i > 2 && device.attributes["d"].b', 9),
        ('device.attributes["d"].i > 5 && device.attributes["d"].b', 5),
        ('device.attributes["d"].b ? device.attributes["d"].i == 3 : false', 9),
        ("[1, 2, 3].all(x, x > 0)", 16),
        ("[1, 2, 3].exists(x, x == 2)", 16),
        ("[1, 2, 3].exists_one(x, x == 2)", 10),
        ("[1, 2].map(x, x * 2) == [2, 4]", 30),
        ("[1, 2, 3].filter(x, x > 1).size() == 2", 35),
        ("[1, 2].map(x, x > 1, x) == [2]", 19),
        ("[3, 1, 2].sortBy(x, -x) == [3, 2, 1]", 75),
        ('{"a": 1}.transformMap(k, v, v + 1) == {"a": 2}', 7),
        ('cel.bind(x, device.attributes["d"].i, x + x > 5)', 8),
        ("optional.of(2).optMap(x, x + 1).value() == 3", 9),
        ('device.capacity["d"].m.compareTo(quantity("4Gi")) == 0', 7),
        ('device.attributes["d"].s.matches("^a.*c$")', 6),
        ('device.attributes["d"].s.startsWith("ab")', 5),
        ("lists.range(100).size() == 100", 113),
        ('[device.driver, "x"].join(",") == "d,x"', 14),
        ("{device.driver: 1}.size() == 1", 34),
        ("[[1], [2]][0][0] == 1", 4),
        ('device.attributes["d"].v.isGreaterThan(semver("1.0.0"))', 6),
        ('dyn(device.attributes["d"].s) + "x" == "abcx"', 7),
    ],
)
def test_an_evaluation_costs_as_much_as_in_the_reference(
    card: DeviceView, expression: str, expected: int
) -> None:
    assert cost(expression, card) == expected


def test_an_evaluation_of_more_than_a_million_units_is_given_up(card: DeviceView) -> None:
    # Three units for each element beside those of the list.
    assert compile_selector("lists.range(240000).all(x, true)").evaluate(card)
    with pytest.raises(SelectorRaisedError, match="costs too much"):
        compile_selector("lists.range(260000).all(x, true)").evaluate(card)


def test_what_costs_too_much_is_no_error_that_an_operator_absorbs(card: DeviceView) -> None:
    with pytest.raises(SelectorRaisedError, match="costs too much"):
        compile_selector("true || false ? lists.range(260000).all(x, true) || true : true").evaluate(card)


def test_a_pattern_that_is_made_up_is_charged_for_once_in_an_evaluation(card: DeviceView) -> None:
    once = cost("'abc'.matches(device.driver + 'x')", card)
    twice = cost("'abc'.matches(device.driver + 'x') || 'abc'.matches(device.driver + 'x')", card)
    assert twice < 2 * once


def test_functions_that_take_long_cost_more_once_a_tenth_is_spent(card: DeviceView) -> None:
    few = cost("lists.range(1000).all(x, quantity(string(x)).isInteger())", card)
    many = cost("lists.range(40000).all(x, quantity(string(x)).isInteger())", card)
    assert many > 45 * few
