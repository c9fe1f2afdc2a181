"""What the index must say: what evaluating the selector on each device says."""

from __future__ import annotations

from collections.abc import Mapping

from driver.cel import DeviceView, InvalidSelectorError, Selector, SelectorRaisedError, compile_selector
from driver.cel.deep import make_room
from driver.selection import Selection

# Hypothesis wants the recursion limit to be the same before and after a test.
make_room()


def compiled(text: str) -> Selector | None:
    """A selector, None where the text is none."""
    try:
        return compile_selector(text)
    except InvalidSelectorError:
        return None


def evaluated(selector: Selector, devices: Mapping[int, DeviceView]) -> Selection:
    """The plain evaluator's answer."""
    true = raises = 0
    for number, view in devices.items():
        try:
            if selector.evaluate(view):
                true |= 1 << number
        except SelectorRaisedError:
            raises |= 1 << number
    return Selection(true, raises)
