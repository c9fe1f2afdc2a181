"""Node selectors: what `Gt` and `Lt` take for a number is what Kubernetes takes for one."""

from __future__ import annotations

import pytest

from driver.allocation import nodes
from driver.allocation.models import NodeSelection
from driver.allocation.nodes import Node, matches


def fits(label: str | None, operator: str, *values: str) -> bool:
    requirement = {"key": "memory", "operator": operator, "values": list(values)}
    selection = NodeSelection(selector={"nodeSelectorTerms": [{"matchExpressions": [requirement]}]})
    return matches(selection, Node("n", {} if label is None else {"memory": label}))


@pytest.mark.parametrize(
    ("label", "operator", "value"),
    [
        ("11", "Gt", "10"),
        ("9", "Lt", "10"),
        ("0011", "Gt", "10"),
        ("11".rjust(63, "0"), "Gt", "10"),
        ("1", "Gt", "0" * 63),
        ("9223372036854775807", "Gt", "9223372036854775806"),
    ],
)
def test_whole_numbers_are_compared_as_numbers(label: str, operator: str, value: str) -> None:
    assert fits(label, operator, value)
    assert not fits(value, operator, label)
    assert not fits(label, operator, label)


@pytest.mark.parametrize(
    "odd",
    [
        "1_000",
        " 1000",
        "1000 ",
        "+1000",
        "1e3",
        "0x10",
        "",
        "\u0661\u0660",
        "9223372036854775808",
        "9" * 20,
        "9" * 63,
        "0" * 64,
        "9" * 5000,
    ],
)
def test_what_go_takes_for_no_number_of_64_bits_matches_nothing_on_either_side(odd: str) -> None:
    assert not fits(odd, "Gt", "0")
    assert not fits(odd, "Lt", "9223372036854775807")
    assert not fits("9", "Gt", odd)
    assert not fits("9", "Lt", odd)


@pytest.mark.parametrize("operator", ["Gt", "Lt"])
def test_a_comparison_has_exactly_one_value_and_needs_the_label(operator: str) -> None:
    assert not fits("5", operator)
    assert not fits("5", operator, "1", "9")
    assert not fits("5", operator, "9", "1")
    assert not fits(None, operator, "1")


def test_a_number_that_many_nodes_are_compared_with_is_read_once() -> None:
    nodes._whole.cache_clear()
    for label in range(100):
        fits(str(label), "Gt", "9" * 60)
    assert nodes._whole.cache_info().misses == 101
