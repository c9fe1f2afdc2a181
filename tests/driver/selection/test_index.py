"""The index: what it evaluates and what it does not, what it forgets, and what it refuses to spend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from driver.cel import DeviceView, compile_selector
from driver.selection import Index, Selection
from driver.selection.part import Meter, Outcome, Part
from tests.driver.selection.agreement import evaluated

DRIVER = "gpu.example.com"
A = f'device.attributes["{DRIVER}"]'
C = f'device.capacity["{DRIVER}"]'


def device(memory: str = "", **attributes: Any) -> DeviceView:
    kinds = {str: "string", int: "int", bool: "bool"}
    content: dict[str, Any] = {
        "attributes": {
            name: value if isinstance(value, dict) else {kinds[type(value)]: value}
            for name, value in attributes.items()
        }
    }
    if memory:
        content["capacity"] = {"memory": {"value": memory}}
    return DeviceView.build(content, driver=DRIVER)


def select(index: Index, text: str) -> Selection:
    return index.select(compile_selector(text))


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[DeviceView]:
    """The devices that anything was evaluated on."""
    views: list[DeviceView] = []
    outcomes = Part.outcomes

    def noticed(part: Part, samples: Iterable[DeviceView], meter: Meter) -> Iterator[Outcome]:
        samples = list(samples)
        views.extend(samples)
        return outcomes(part, samples, meter)

    monkeypatch.setattr(Part, "outcomes", noticed)
    return views


@pytest.mark.parametrize(
    ("text", "true", "raises"),
    [
        ('device.driver == "gpu.example.com"', 0b1111, 0),
        (f'{A}.model == "b"', 0b0010, 0b1000),
        (f'"b" != {A}.model', 0b0101, 0b1000),
        (f'{A}.model in ["b", "c"]', 0b0110, 0b1000),
        (f"has({A}.model)", 0b0111, 0),
        (f'"model" in {A}', 0b0111, 0),
        (f'"{DRIVER}" in device.attributes', 0b1111, 0),
        ('"none.example.com" in device.attributes', 0, 0),
        (f"{A}.ready", 0b0101, 0),
        (f"{A}.count", 0, 0b1111),
        (f"!({A}.count > 1)", 0b0011, 0),
        (f'{A}.model.startsWith("b") || {A}.model.matches("^c$")', 0b0110, 0b1000),
        (f'{C}.memory.compareTo(quantity("2Gi")) >= 0', 0b1110, 0),
        (f'{C}.memory.isLessThan(quantity("2Gi")) && {A}.model == "x"', 0, 0),
        (f'{A}.?model.orValue("d") == "d"', 0b1000, 0),
        (f'{A}.ready ? {A}.count == 0 : {A}.model == "b"', 0b0011, 0b1000),
        (f'cel.bind(a, {A}, a.model == "b" || a.count == 3)', 0b1010, 0),
    ],
)
def test_what_selectors_usually_ask_is_answered_without_a_device(
    text: str, true: int, raises: int, tried: list[DeviceView]
) -> None:
    index = Index()
    models = ("a", "b", "c", None)
    index.add(
        [
            device(memory=f"{number + 1}Gi", count=number, ready=number % 2 == 0)
            if model is None
            else device(memory=f"{number + 1}Gi", model=model, count=number, ready=number % 2 == 0)
            for number, model in enumerate(models)
        ]
    )
    if "orValue" in text:
        # The outcome for devices without the value is the evaluator's: one evaluation for all of them.
        assert select(index, text) == Selection(true, raises)
        assert len(tried) == 1
    else:
        assert select(index, text) == Selection(true, raises)
        assert tried == []


def test_a_value_of_another_class_is_tried_once_for_all_of_its_class(tried: list[DeviceView]) -> None:
    index = Index()
    index.add([device(x="a"), *(device(x=number) for number in range(50))])
    assert select(index, f'{A}.x.startsWith("a")') == Selection(1, (1 << 51) - 2)
    assert len(tried) == 1


def test_whatever_reads_one_column_is_evaluated_once_for_each_value(tried: list[DeviceView]) -> None:
    index = Index()
    slots = index.add([device(x=number % 3) for number in range(60)])
    text = f"{A}.x * {A}.x == 4"
    assert select(index, text).true == sum(1 << number for number in range(2, 60, 3))
    assert len(tried) == 3
    index.add([device(x=2), device(x=-2)])
    assert select(index, text).true >> 60 == 0b11
    assert len(tried) == 4, "only the new value is tried after a change"
    index.remove(slots)
    assert select(index, text).true == 0b11 << 60
    assert len(tried) == 4


def test_a_part_that_several_selectors_share_is_evaluated_once(tried: list[DeviceView]) -> None:
    index = Index()
    index.add([device(x=number, model="a") for number in range(4)])
    assert select(index, f'{A}.x % 2 == 0 && {A}.model == "a"').true == 0b0101
    assert select(index, f'{A}.model != "b" && {A}.x % 2 == 0').true == 0b0101
    assert len(tried) == 4
    # The same text means something else where its variable does.
    assert select(
        index, f"cel.bind(device, {{'attributes': {{'{DRIVER}': {{'x': 2}}}}}}, {A}.x % 2 == 0)"
    ).true
    assert select(index, f'{A}.x % 2u == 0u || {A}.model == "a"').true == 0b1111


def test_whatever_reads_several_columns_is_evaluated_once_for_each_combination(
    tried: list[DeviceView],
) -> None:
    index = Index()
    index.add([device(x=number % 2, y=number % 4) for number in range(40)])
    assert select(index, f"{A}.x == {A}.y").true.bit_count() == 20
    assert len(tried) == 4


def test_what_may_read_anything_is_evaluated_where_nothing_else_has_decided(tried: list[DeviceView]) -> None:
    index = Index()
    views = [device(model="b" if number == 3 else "a", x=number) for number in range(10)]
    index.add(views)
    text = f'{A}.exists(name, name == "x") && {A}.model == "b"'
    assert select(index, text) == Selection(0b1000, 0)
    assert tried == [views[3]]


def test_an_error_is_absorbed_where_the_reference_absorbs_it() -> None:
    index = Index()
    index.add([device(model="a"), device(model="b", x=1), device(x="one")])
    assert select(index, f'{A}.x == 1 || {A}.model == "a"') == Selection(0b011, 0b100)
    assert select(index, f'{A}.x + 0 == 1 && {A}.model == "b"') == Selection(0b010, 0b100)
    assert select(index, f'{A}.model == "a" ? {A}.x == 1 : true') == Selection(0b010, 0b101)


def test_what_ends_an_evaluation_is_absorbed_by_nothing_but_only_where_it_is_reached() -> None:
    index = Index()
    devices = {
        number: device(
            v={"version": "1.2.3"} if number % 2 else "a", x=number, model="b" if number > 1 else "a"
        )
        for number in range(4)
    }
    index.add(list(devices.values()))
    for text in (
        f'{A}.v in ["a"] || {A}.model == "b"',
        f'{A}.model == "b" || {A}.v in ["a"]',
        f'({A}.v in ["a"] || {A}.exists(k, k == "none")) || {A}.model == "b"',
        f'({A}.v in ["a"] ? {A}.x : {A}.x) + 0 == 0 && {A}.model == "b" && 1 == 2',
        f'false && {A}.v in ["a"]',
        f'{A}.v in ["a"] && false',
    ):
        selector = compile_selector(text)
        assert index.select(selector) == evaluated(selector, devices), text


def test_every_selector_raises_on_a_device_that_cannot_be_read() -> None:
    index = Index()
    index.add([device(x=1), device(v={"version": "1.x"})])
    assert select(index, "true") == Selection(0b01, 0b10)
    assert select(index, f"has({A}.v)") == Selection(0, 0b10)


def test_an_answer_that_was_given_stays_what_it_was() -> None:
    index = Index()
    slots = index.add([device(x=1), device(x=2)])
    before = select(index, f"{A}.x == 1")
    index.remove(slots)
    index.add([device(x=2), device(x=1)])
    assert before == Selection(0b01, 0)
    assert select(index, f"{A}.x == 1") == Selection(0b10, 0)


def test_numbers_are_adjacent_and_used_again() -> None:
    index = Index()
    first = index.add([device(x=number) for number in range(3)])
    second = index.add([device(x=7)])
    index.remove(first)
    assert index.live == second.bits
    third = index.add([device(x=8), device(x=9)])
    assert list(third.numbers) == [0, 1]
    assert index.view(1).attributes[DRIVER]["x"] == 9
    with pytest.raises(KeyError):
        index.view(2)


def test_devices_that_are_not_there_cannot_be_removed() -> None:
    index = Index()
    slots = index.add([device(x=1)])
    index.remove(slots)
    with pytest.raises(KeyError):
        index.remove(slots)


def test_an_index_that_was_emptied_holds_no_column_and_no_name() -> None:
    index = Index()
    slots = [index.add([device(x=number, memory="1Gi") for number in range(20)]) for _ in range(3)]
    for text in (f"{A}.x == 1", f"{A}.x * 1 == 1", f'{C}.memory == quantity("1Gi")', f"has({A}.x)"):
        select(index, text)
    assert index._devices._columns
    for one in slots:
        index.remove(one)
    assert index._devices._columns == {}
    assert index._devices._names == {}
    assert index._devices._views == []
    assert select(index, f"{A}.x == 1") == Selection(0, 0)


def test_a_name_that_no_device_has_makes_no_column() -> None:
    index = Index()
    index.add([device(x=1)])
    assert select(index, " || ".join(f"has({A}.n{number})" for number in range(200))) == Selection(0, 0)
    assert index._devices._columns == {}


def test_only_so_many_columns_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.selection.devices.MAX_COLUMNS", 3)
    index = Index()
    names: dict[str, Any] = {f"n{number}": number for number in range(9)}
    index.add([device(**names)])
    for number in range(9):
        assert select(index, f"{A}.n{number} == {number}").true == 1
    assert list(index._devices._columns) == [("attributes", DRIVER, f"n{number}") for number in (6, 7, 8)]


@pytest.mark.parametrize("changed", [1, 40])
def test_an_answer_that_cost_much_is_mended_where_devices_changed(
    changed: int, monkeypatch: pytest.MonkeyPatch, tried: list[DeviceView]
) -> None:
    monkeypatch.setattr("driver.selection.kept.MUCH", 10)
    index = Index()
    slots = [index.add([device(x=number)]) for number in range(50)]
    text = f"{A}.exists(name, {A}[name] == 7)"
    assert select(index, text) == Selection(1 << 7, 0)
    assert len(tried) == 50
    # The last ones go for good, so that their numbers do, too.
    for one in slots[-changed:]:
        index.remove(one)
    index.remove(slots[7])
    index.add([device(y=7)])
    index.add([device(y="7")])
    assert select(index, text).true.bit_count() == 1
    assert len(tried) <= (52 if changed == 1 else 63)


def test_a_selector_that_costs_too_much_in_all_raises_everywhere_and_is_not_tried_again(
    tried: list[DeviceView],
) -> None:
    index = Index(units=2_000)
    index.add([device(x=number) for number in range(50)])
    text = f"{A}.all(a, {A}.all(b, {A}.all(c, [1, 2, 3].all(d, a == b && b == c))))"
    assert select(index, text) == Selection(0, (1 << 50) - 1)
    count = len(tried)
    index.add([device(x=50)])
    assert select(index, text) == Selection(0, (1 << 51) - 1)
    assert len(tried) == count
    assert select(index, text).exhausted
    assert select(index, f"{A}.x == 3") == Selection(1 << 3, 0), "others go on"
    assert not select(index, f"{A}.x == 3").exhausted


def test_parts_that_cost_too_much_together_raise_as_the_whole_does() -> None:
    numbers = f"[{', '.join(map(str, range(10)))}]"
    loop = f"{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, {numbers}.all(d, a + b + c + d < {A}.x))))"
    devices = {0: device(x=100), 1: device(x=3), 2: device(y=1)}
    index = Index()
    index.add(list(devices.values()))
    for count in (1, 12):
        selector = compile_selector(" && ".join([loop] * count))
        assert index.select(selector) == evaluated(selector, devices)


@pytest.mark.parametrize(
    ("text", "true", "raises"),
    [
        (f"dyn({A}.?ready)", 0b001, 0b100),
        (f"true ? dyn({A}.?ready) : dyn(true)", 0b001, 0b100),
        (f"dyn({A}.?ready) && true", 0b000, 0b111),
        (f'{A}.?kind.orValue("x") == "never" || dyn({A}.?ready)', 0b000, 0b111),
    ],
)
def test_what_an_optional_holds_counts_only_as_the_result_of_the_whole(
    text: str, true: int, raises: int
) -> None:
    index = Index()
    views = [device(ready=True), device(ready=False), device()]
    index.add(views)
    assert select(index, text) == Selection(true=true, raises=raises)
    assert select(index, text) == evaluated(compile_selector(text), dict(enumerate(views)))


REPEATED = "(a?){100}" * 20
MADE_UP = " + ".join(["'(a?){100}'"] * 20)


@pytest.mark.parametrize(
    "text",
    [
        f"{A}.name.matches('{REPEATED}')",
        f"{A}.name.find('{REPEATED}') == ''",
        f"{A}.name.matches({MADE_UP})",
    ],
)
def test_large_regular_expressions_are_counted_by_what_they_take(text: str) -> None:
    index = Index(units=500_000)
    index.add([device(name=f"a{number}") for number in range(300)])
    assert select(index, text).exhausted


def test_small_regular_expressions_are_free() -> None:
    index = Index(units=1_000)
    index.add([device(name=f"a{number}") for number in range(300)])
    found = select(index, f"{A}.name.matches('^a1[0-9]$')")
    assert not found.exhausted
    assert found.true.bit_count() == 10
