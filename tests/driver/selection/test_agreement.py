"""The index says what evaluating on each device says, whatever the selector and however devices change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from driver.cel import DeviceView
from driver.selection import Index, Slots
from tests.driver.selection.agreement import compiled, evaluated
from tests.driver.selection.generators import devices, selectors

_additions = st.lists(st.lists(devices(), max_size=6), min_size=1, max_size=3)
_steps = st.lists(
    st.one_of(
        st.lists(devices(), max_size=4),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=6,
)
_in_parts = settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class _World:
    """An index, and what is in it."""

    def __init__(self) -> None:
        self.index = Index()
        self.devices: dict[int, DeviceView] = {}
        self.slots: list[Slots] = []

    def add(self, views: Sequence[DeviceView]) -> None:
        slots = self.index.add(views)
        for number, view in zip(slots.numbers, views, strict=True):
            assert number not in self.devices
            self.devices[number] = view
        self.slots.append(slots)

    def remove(self, which: int) -> None:
        if not self.slots:
            return
        slots = self.slots.pop(which % len(self.slots))
        self.index.remove(slots)
        for number in slots.numbers:
            del self.devices[number]

    def check(self, texts: Sequence[str]) -> None:
        assert self.index.live == sum(1 << number for number in self.devices)
        for text in texts:
            selector = compiled(text)
            if selector is not None:
                assert self.index.select(selector) == evaluated(selector, self.devices), text


def _agrees(additions: Any, texts: Sequence[str], steps: Any) -> None:
    assume(any(compiled(text) is not None for text in texts))
    world = _World()
    for views in additions:
        world.add(views)
    world.check(texts)
    for step in steps:
        if isinstance(step, int):
            world.remove(step)
        else:
            world.add(step)
        world.check(texts)


@_in_parts
@given(_additions, st.lists(selectors(), min_size=1, max_size=3), _steps)
def test_the_index_agrees_with_the_evaluator_after_each_change(
    additions: Any, texts: list[str], steps: Any
) -> None:
    _agrees(additions, texts, steps)


@_in_parts
@given(_additions, st.lists(selectors(), min_size=1, max_size=2), _steps)
def test_the_index_agrees_with_the_evaluator_beyond_its_limits(
    additions: Any, texts: list[str], steps: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("driver.selection.leaves.MAX_OUTCOMES", 1)
        patch.setattr("driver.selection.leaves.MAX_COMBINATIONS", 2)
        patch.setattr("driver.selection.leaves.MAX_SPLITS", 6)
        patch.setattr("driver.selection.devices.MAX_COLUMNS", 1)
        patch.setattr("driver.selection.plan.MAX_ANSWERS", 1)
        patch.setattr("driver.selection.index.MAX_KEPT", 2)
        patch.setattr("driver.selection.column.SPARSE_AT_LEAST", 1)
        patch.setattr("driver.selection.kept.MUCH", 0)
        _agrees(additions, texts, steps)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(_in_parts, max_examples=2_000)
@given(_additions, st.lists(selectors(), min_size=1, max_size=4), _steps)
def test_the_index_agrees_with_the_evaluator_in_thousands_of_cases(
    additions: Any, texts: list[str], steps: Any
) -> None:
    _agrees(additions, texts, steps)
