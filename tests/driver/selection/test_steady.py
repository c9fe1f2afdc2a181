"""What may be put off: only what cannot end an evaluation."""

from __future__ import annotations

import pytest

from driver.cel.parser import parse
from driver.selection.reads import ROOT
from driver.selection.steady import is_steady

A = 'device.attributes["d"]'


@pytest.mark.parametrize(
    "text",
    [
        f"{A}.x + 1 == {A}.y",
        f"{A}.tags.exists(t, t == {A}.x)",
        "device.attributes.exists(d, device.attributes[d].exists(k, device.attributes[d][k] == 1))",
        "device.attributes.exists(d, v, v.exists(k, w, w == 1))",
        "device.attributes[device.driver].x == 1",
        "[1, 2, 3].all(n, n > 0)",
        "size(device.capacity) > 1",
    ],
)
def test_a_part_of_bounded_steps_may_be_put_off(text: str) -> None:
    assert is_steady(parse(text), ROOT)


@pytest.mark.parametrize(
    "text",
    [
        f'{A}.x in ["a"]',
        f"{{{A}.x: 1}}.size() == 1",
        f"[1, 2][{A}.x] == 1",
        f"{A}.tags.sort() == []",
        f"{A}.tags.transformMap(k, v, v).size() == 1",
        f"{A}.tags.map(t, t).exists(t, t == 1)",
        "device.attributes.exists(d, v, [1].exists(d, device.attributes[d].x == 1))",
        "lists.range(1000000).all(n, n > 0)",
        f'{A}.x.replace("a", "aaaa") == ""',
        f"cel.bind(v, {A}.x + {A}.x, v + v == 1)",
        f"{A}.tags.exists(a, {A}.tags.exists(b, {A}.tags.exists(c, a == b && b == c)))",
        f"{A}.x.all(n, n.all(m, m == 1))",
    ],
)
def test_a_part_that_could_end_an_evaluation_stays_where_it_is(text: str) -> None:
    assert not is_steady(parse(text), ROOT)
