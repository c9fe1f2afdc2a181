from collections.abc import Callable

import pytest

from driver.cel import compile_selector
from driver.cel.device import DeviceView
from driver.cel.errors import InvalidSelectorError, SelectorRaisedError

DEVICE = {
    "attributes": {
        "a": {"int": 3},
        "s": {"string": "text"},
        "b": {"bool": True},
        "v": {"version": "1.2.3"},
        "l": {"strings": ["x", "y"]},
        "li": {"ints": [1, 2, 3]},
    },
    "capacity": {"m": {"value": "4Gi"}, "h": {"value": "1.5Gi"}},
}

Outcome = Callable[..., str]


@pytest.fixture
def outcome() -> Outcome:
    """Say what becomes of an expression: true, false, or which kind of error."""
    device = DeviceView.build(DEVICE, driver="d")

    def find(expression: str, release: str = "1.36") -> str:
        try:
            selector = compile_selector(expression, release=release)
        except InvalidSelectorError:
            return "compile-error"
        try:
            return str(selector.evaluate(device)).lower()
        except SelectorRaisedError:
            return "evaluation-error"

    return find
