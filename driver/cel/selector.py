"""A compiled selector.

Purpose: what the rest of the tree uses of CEL: compile once, evaluate on many devices.

Flow: tokens -> tree -> types -> closures; outcomes of compiling, errors too, are kept by text and
release.

Limits: a result that is not a bool is an error, as in the scheduler.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driver.cel.budget import Budget
from driver.cel.checker import Checked, check
from driver.cel.compiler import Closure, Frame, compile_tree
from driver.cel.device import DeviceView
from driver.cel.environments import DEFAULT_RELEASE, environment
from driver.cel.errors import (
    BudgetError,
    EvaluationError,
    PositionedSelectorError,
    SelectorNotSupportedError,
    SelectorRaisedError,
)
from driver.cel.parser import parse
from driver.cel.values import kind_of


@dataclass(frozen=True, slots=True, eq=False)
class Selector:
    """A selector that compiled.

    Attributes:
        expression: As written.
        release: The Kubernetes release whose language it was checked against.
        checked: Its tree with types, for an index to look into.
    """

    expression: str
    release: str
    checked: Checked
    _run: Closure

    def evaluate(self, device: DeviceView) -> bool:
        """Say whether a device is selected.

        Raises:
            SelectorRaisedError: The expression fails on this device.
        """
        if device.problem:
            raise SelectorRaisedError(f"the device cannot be read: {device.problem}")
        try:
            result = self._run(Frame(device, Budget()))
        except EvaluationError as error:
            raise SelectorRaisedError(
                error.message, source=self.expression, position=error.position
            ) from None
        except BudgetError as error:
            raise SelectorRaisedError(str(error)) from None
        if type(result) is not bool:
            raise SelectorRaisedError(f"the result is of type {kind_of(result)}, not true or false")
        return result


def compile_selector(expression: str, *, release: str = DEFAULT_RELEASE) -> Selector:
    """Compile a selector.

    Args:
        expression: CEL source.
        release: Kubernetes release whose functions it may use.

    Raises:
        InvalidSelectorError: It does not compile.
        SelectorNotSupportedError: It uses what is not supported yet.
    """
    outcome = _compiled(expression, release)
    if isinstance(outcome, Selector):
        return outcome
    raise outcome.with_traceback(None)


@functools.lru_cache(maxsize=1024)
def _compiled(expression: str, release: str) -> Selector | PositionedSelectorError:
    try:
        tree = parse(expression)
        checked = check(tree, source=expression, environment=environment(release))
        return Selector(expression, release, checked, compile_tree(checked))
    except PositionedSelectorError as error:
        return error
    except RecursionError:
        return SelectorNotSupportedError("nesting as deep as this is not supported yet")
