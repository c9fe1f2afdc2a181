"""What one evaluation may cost.

Purpose: an expression of somebody hostile ends after a bounded number of steps.

Flow: each evaluation gets a fresh `Budget`; functions whose work grows with their arguments charge it
before they work.

Limits: units are coarser than those of the API server's cost estimate; its limit is the same million.
"""

from __future__ import annotations

from driver.cel.errors import BudgetError

MAX_SOURCE_BYTES = 10 * 1024
MAX_DEPTH = 100
MAX_COST = 1_000_000


class Budget:
    """A counter that runs out."""

    __slots__ = ("left",)

    def __init__(self, limit: int = MAX_COST) -> None:
        self.left = limit

    def charge(self, units: int) -> None:
        """Spend units.

        Raises:
            BudgetError: Nothing is left.
        """
        self.left -= units
        if self.left < 0:
            raise BudgetError("the expression costs too much to evaluate")
