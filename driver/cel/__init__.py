"""CEL for device selectors, with the meaning Kubernetes gives it.

Purpose: the only evaluator of selectors in the tree.

Flow: `compile_selector(text)` once; `selector.evaluate(DeviceView.build(device, driver=...))` for each
device.

Limits: those of the reference: 10 KiB, 250 levels of nesting, a million units of cost for an evaluation. Of
messages only the wrappers of basic types exist (`SelectorNotSupportedError` otherwise).
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
