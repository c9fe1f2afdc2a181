"""A compiled selector.

Purpose: what the rest of the tree uses of CEL: compile once, evaluate on many devices.

Flow: tokens -> tree -> types; closures are made at the first evaluation, since an index often needs none.
Outcomes of compiling, errors too, are kept by text and environment.

Limits: a result that is not a bool is an error, as in the scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from driver.cel.checker import Checked, check
from driver.cel.compiler import Program, compile_tree
from driver.cel.device import DeviceView
from driver.cel.environments import DEFAULT_RELEASE, Environment, environment
from driver.cel.errors import BudgetError, EvaluationError, PositionedSelectorError, SelectorRaisedError
from driver.cel.outcomes import Outcomes
from driver.cel.parser import parse
from driver.cel.values import OptionalValue, kind_of


@dataclass(slots=True, eq=False)
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
    _program: Program | None = field(default=None, repr=False)

    def evaluate(self, device: DeviceView) -> bool:
        """Say whether a device is selected.

        Raises:
            SelectorRaisedError: The expression fails on this device.
        """
        if device.problem:
            raise SelectorRaisedError(f"the device cannot be read: {device.problem}")
        program = self._program
        if program is None:
            # Two threads may both make one; they are alike.
            program = self._program = compile_tree(self.checked)
        try:
            result = program.run(program.frame(device))
        except EvaluationError as error:
            raise SelectorRaisedError(
                error.message, source=self.expression, position=error.position
            ) from None
        except BudgetError as error:
            raise SelectorRaisedError(str(error)) from None
        while type(result) is OptionalValue and result.present:
            # The reference takes what an optional holds, but only for the result of the whole.
            result = result.value
        if type(result) is not bool:
            raise SelectorRaisedError(f"the result is of type {kind_of(result)}, not true or false")
        return result


def compile_selector(
    expression: str, *, release: str = DEFAULT_RELEASE, list_attributes: bool = True, stored: bool = True
) -> Selector:
    """Compile a selector.

    Args:
        expression: CEL source.
        release: Kubernetes release whose functions it may use.
        list_attributes: Whether the gate DRAListTypeAttributes is on, where the release has it.
        stored: Whether it is that of an object that exists, as for the scheduler; otherwise the API server's
            stricter rules for new objects hold.

    Raises:
        InvalidSelectorError: It does not compile.
        SelectorNotSupportedError: It makes a message.
        InvalidInputError: A release that we know nothing about.
    """
    known = environment(release, list_attributes=list_attributes, stored=stored)
    outcome = _OUTCOMES.get(
        expression, (release, list_attributes, stored), lambda: _compiled(expression, known)
    )
    if isinstance(outcome, Selector):
        return outcome
    raise outcome.with_traceback(None)


_OUTCOMES: Outcomes[Selector | PositionedSelectorError] = Outcomes()


def _compiled(expression: str, known: Environment) -> Selector | PositionedSelectorError:
    try:
        tree = parse(expression, newer=known.newer_parser)
        return Selector(expression, known.release, check(tree, source=expression, environment=known))
    except PositionedSelectorError as error:
        return error
