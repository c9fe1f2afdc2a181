"""Columns: what is one value and what is not, and what values cost."""

from __future__ import annotations

from typing import Any

import pytest

from driver.cel import DeviceView
from driver.selection.bitmaps import Bitmap
from driver.selection.column import ABSENT, Column, reader_of
from driver.selection.values import key_of

DRIVER = "gpu.example.com"
PATH = ("attributes", DRIVER, "x")


def device(value: Any = None, **capacity: str) -> DeviceView:
    attributes = {} if value is None else {"x": value}
    return DeviceView.build(
        {"attributes": attributes, "capacity": {name: {"value": text} for name, text in capacity.items()}},
        driver=DRIVER,
    )


def keys(column: Column) -> set[tuple[str, str]]:
    return {(kind.__name__, repr(key)) for kind, group in column.groups.items() for key in group.postings}


def test_python_takes_true_for_one_and_the_column_does_not() -> None:
    column = Column(PATH, enumerate([device({"bool": True}), device({"int": 1}), device({"string": "1"})]))
    assert keys(column) == {("bool", "True"), ("int", "1"), ("str", "'1'")}
    assert [column.groups[kind].bits(key=1) for kind in (bool, int, str)] == [0b1, 0b10, 0]


def test_lists_differ_by_the_types_of_their_elements() -> None:
    assert key_of([1]) != key_of([True])
    assert key_of([1, 2]) == key_of([1, 2])
    assert key_of([1, 2]) != key_of([2, 1])


def test_amounts_of_one_number_differ_by_how_they_were_written() -> None:
    views = [device(memory=text) for text in ("1.5Gi", "1536Mi", "1.5Gi")]
    column = Column(("capacity", DRIVER, "memory"), enumerate(views))
    assert sorted(group.bits(key) for group in column.groups.values() for key in group.postings) == [2, 5]


def test_versions_differ_by_what_comparing_them_ignores() -> None:
    column = Column(PATH, enumerate([device({"version": "1.2.3+a"}), device({"version": "1.2.3+b"})]))
    assert column.distinct == 2


def test_a_value_of_an_unknown_class_stands_for_itself() -> None:
    one, other = object(), object()
    assert key_of(one) == key_of(one)
    assert key_of(one) != key_of(other)


def test_a_value_of_one_device_is_held_as_its_number_and_a_common_one_as_a_bitmap() -> None:
    values = [{"string": "common"}] * 200 + [{"string": f"serial-{number}"} for number in range(200)]
    column = Column(PATH, enumerate(map(device, values)))
    postings = column.groups[str].postings
    assert postings["serial-7"] == 207
    assert isinstance(postings["common"], Bitmap)
    assert column.present == (1 << 400) - 1


@pytest.mark.parametrize("built", [True, False])
def test_a_column_that_was_filled_and_emptied_holds_nothing(built: bool) -> None:
    views = [device({"string": f"v{number % 3}"}) for number in range(300)]
    column = Column(PATH, enumerate(views) if built else ())
    if not built:
        for number, view in enumerate(views):
            column.add(number, view, capacity=300)
    assert column.groups[str].bits("v1") == sum(1 << number for number in range(1, 300, 3))
    for number, view in enumerate(views):
        column.remove(number, view, capacity=300)
        expected = sum(1 << other for other in range(number + 1, 300) if other % 3 == 1)
        assert (column.groups[str].bits("v1") if column.groups else 0) == expected
    assert (column.groups, column.distinct, column.present) == ({}, 0, 0)


def test_a_missing_domain_is_not_made_up() -> None:
    view = device({"int": 1})
    assert reader_of(("attributes", "none.example.com"))(view) is ABSENT
    assert reader_of(("attributes", "none.example.com", "x"))(view) is ABSENT
    assert reader_of(("capacity", DRIVER))(view) is ABSENT
    assert reader_of(("attributes", DRIVER))(view) is True
    assert list(view.attributes) == [DRIVER]


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        reader_of(("name", "a", "b", "c"))
