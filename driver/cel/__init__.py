"""CEL for device selectors, with the meaning Kubernetes gives it.

Purpose: the only evaluator of selectors in the tree.

Flow: `compile_selector(text)` once; `selector.evaluate(DeviceView.build(device, driver=...))` for each
device.

Limits: comprehensions, conversions, and most of the string, list, network and time functions are not
supported yet; they are refused with `SelectorNotSupportedError` and the column, never guessed. At most 10
KiB, 100 levels of nesting and a bounded cost.
"""

from driver.cel.device import DeviceView
from driver.cel.errors import InvalidSelectorError, SelectorNotSupportedError, SelectorRaisedError
from driver.cel.selector import Selector, compile_selector

__all__ = [
    "DeviceView",
    "InvalidSelectorError",
    "Selector",
    "SelectorNotSupportedError",
    "SelectorRaisedError",
    "compile_selector",
]
