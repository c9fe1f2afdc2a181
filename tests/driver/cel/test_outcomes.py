"""What compiling gave is kept within bounds."""

from __future__ import annotations

import pytest

from driver.cel import InvalidSelectorError, compile_selector
from driver.cel.outcomes import Outcomes


def test_a_selector_is_compiled_once_for_each_environment() -> None:
    assert compile_selector("1 == 1") is compile_selector("1 == 1")
    assert compile_selector("1 == 1", release="1.34") is not compile_selector("1 == 1", release="1.36")


def test_an_error_is_kept_and_raised_anew_without_growing() -> None:
    for _ in range(3):
        with pytest.raises(InvalidSelectorError) as caught:
            compile_selector("nope == 1")
        assert len(caught.traceback) <= 3


def test_the_least_recently_used_outcome_goes_first() -> None:
    outcomes: Outcomes[str] = Outcomes(entries=2)
    for text in ("a", "b", "a", "c"):
        outcomes.get(text, None, lambda: "made")
    assert outcomes.get("a", None, lambda: "anew") == "made"
    assert outcomes.get("b", None, lambda: "anew") == "anew"


def test_texts_bound_what_is_kept() -> None:
    outcomes: Outcomes[str] = Outcomes(characters=100)
    for number in range(50):
        outcomes.get(f"{number:010}", None, lambda: "made")
    assert len(outcomes) == 10
    outcomes.get("x" * 101, None, lambda: "made")
    assert len(outcomes) == 0
