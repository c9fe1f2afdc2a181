from __future__ import annotations

from collections.abc import Callable

import pytest

from driver.cel import (
    DeviceView,
    InvalidSelectorError,
    SelectorNotSupportedError,
    SelectorRaisedError,
    compile_selector,
)

CARD = {
    "allowMultipleAllocations": True,
    "attributes": {
        "i": {"int": 3},
        "s": {"string": "abc"},
        "b": {"bool": True},
        "v": {"version": "1.2.3"},
        "li": {"ints": [1, 2]},
        "ls": {"strings": ["a", "b"]},
    },
    "capacity": {"m": {"value": "4Gi"}},
}

Outcome = Callable[..., str]


@pytest.fixture
def card() -> DeviceView:
    return DeviceView.build(CARD, driver="d")


@pytest.fixture
def outcome(card: DeviceView) -> Outcome:
    """Say what becomes of an expression: true, false, or which kind of error."""

    def find(
        expression: str, *, release: str = "1.37", list_attributes: bool = True, stored: bool = True
    ) -> str:
        try:
            selector = compile_selector(
                expression, release=release, list_attributes=list_attributes, stored=stored
            )
            return str(selector.evaluate(card)).lower()
        except InvalidSelectorError:
            return "compile-error"
        except SelectorRaisedError:
            return "evaluation-error"
        except SelectorNotSupportedError:
            return "not-supported"

    return find
