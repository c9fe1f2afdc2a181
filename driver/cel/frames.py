"""What one evaluation works on.

Purpose: the device, the variables, and what may still be spent.

Flow: each evaluation makes a `Frame`; closures are functions of it. A variable has a slot of its own, so
that a value which is evaluated late sees the variables that it should see.

Limits: costs are those of the reference, but charged in blocks: where a branch begins, or a step of a loop.
So the limit may be noticed somewhat earlier or later, with the same outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driver.cel.budget import MAX_COST
from driver.cel.device import DeviceView
from driver.cel.errors import BudgetError, EvaluationError

Closure = Callable[["Frame"], Any]
ABSORBED = 3
"""Units for an error that an operator absorbs: errors take longer than they cost in the reference."""
UNSET = object()
"""What the slot of a variable holds whose value nobody has asked for yet."""


class Frame:
    """One evaluation.

    Attributes:
        device: What is evaluated on.
        left: Units that may still be spent; below zero the evaluation has failed.
        slots: Values of variables.
        patterns: Regular expressions that were made up and have been charged for.
    """

    __slots__ = ("device", "left", "patterns", "slots")

    def __init__(self, device: DeviceView, slots: int = 0, spent: int = 0) -> None:
        self.device = device
        self.left = MAX_COST - spent
        self.slots: list[Any] = [UNSET] * slots
        self.patterns: tuple[str, ...] = ()

    def charge(self, units: int) -> None:
        """Spend units.

        Raises:
            BudgetError: Nothing is left.
        """
        self.left -= units
        if self.left < 0:
            raise exhausted()


class Failed:
    """The error of a variable's value: raised at each use, since `&&` may absorb one of them."""

    __slots__ = ("error",)

    def __init__(self, error: EvaluationError) -> None:
        self.error = error


def exhausted() -> BudgetError:
    """Make the error for an evaluation that costs too much."""
    return BudgetError("the expression costs too much to evaluate")


def placed(error: EvaluationError, position: int) -> EvaluationError:
    """Give an error the position of the first call that it passes."""
    if error.position is None:
        error.position = position
    return error
