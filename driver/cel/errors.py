"""What can go wrong with a selector.

Purpose: three refusals that people see, each with the place in the expression, and two exceptions that
stay inside the evaluator.

Flow: tokens, parser and checker raise `InvalidSelectorError` or `SelectorNotSupportedError` directly.
Running closures raise `EvaluationError`, which `&&` and `||` may absorb, or `BudgetError`, which nothing
absorbs; `Selector.evaluate` turns both into `SelectorRaisedError`.

Limits: positions count characters from the start of the expression; people get them as columns from 1.
"""

from __future__ import annotations

from driver.errors import SelectorError


class PositionedSelectorError(SelectorError):
    """A selector error that knows its place.

    Attributes:
        column: Column in its line, from 1; 0 where no place applies.
        line: Line, from 1.
    """

    def __init__(
        self,
        message: str,
        *,
        source: str = "",
        position: int | None = None,
        field: str = "",
        remedy: str = "",
    ) -> None:
        self.line, self.column = 1, 0
        if position is not None:
            before = source[:position]
            self.line = before.count("\n") + 1
            self.column = position - (before.rfind("\n") + 1) + 1
            place = (
                f"column {self.column}" if "\n" not in source else f"line {self.line}, column {self.column}"
            )
            message = f"{message} (at {place})"
        super().__init__(message, field=field, remedy=remedy)


class InvalidSelectorError(PositionedSelectorError):
    """The expression does not compile: no Kubernetes would accept it."""

    reason = "InvalidSelector"


class SelectorNotSupportedError(PositionedSelectorError):
    """The expression makes a message, or its regular expressions are very large together."""

    reason = "SelectorNotSupported"


class SelectorRaisedError(PositionedSelectorError):
    """The expression compiled, but evaluating it on a device failed."""

    reason = "SelectorRaised"


class EvaluationError(Exception):
    """A CEL error value: what `&&` and `||` may absorb.

    Attributes:
        message: What went wrong.
        position: Where in the expression, or None as long as nobody has said so.
    """

    def __init__(self, message: str, *, position: int | None = None) -> None:
        self.message = message
        self.position = position
        super().__init__(message)


class BudgetError(Exception):
    """The evaluation was given up, nearly always because it costs too much; no operator absorbs this."""


class PanicError(BudgetError):
    """The reference panics here: on a key that Go cannot hash, or on an error where it reckons costs."""
