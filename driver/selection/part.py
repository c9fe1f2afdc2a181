"""A part of a selector, evaluated by itself.

Purpose: the real evaluator's own closures answer for one device what the index then says of all like it.

Flow: `Part` wraps a node, together with the `cel.bind`s around it, as an expression of its own; it is turned
into closures when the first device is tried. What an operator above cannot use (an error, or anything but
true and false) is `None`; what ends the evaluation (the cost limit, a value that cannot be hashed) is
`ENDED`.

Limits: in an evaluation of the whole selector the costs of its parts add up, and too high a sum ends it; so
each part remembers the highest cost seen. A `Meter` ends a selection that costs too much over all devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

from driver.cel import DeviceView
from driver.cel.budget import MAX_COST
from driver.cel.checker import Checked
from driver.cel.compiler import Program, compile_tree
from driver.cel.errors import BudgetError, EvaluationError
from driver.cel.syntax import Bind, Node
from driver.cel.values import DomainMap, OptionalValue
from driver.selection.limits import MAX_UNITS
from driver.selection.patterns import patterns_in, time_of

ENDED: Final = "ended"
# None: it fails, which operators above may absorb; ended: it fails in a way that nothing absorbs.
Outcome: TypeAlias = bool | Literal["ended"] | None

# To a part that reads one column, all devices without a value there are like this one.
WITHOUT_ANYTHING = DeviceView("", DomainMap(), DomainMap(), allow_multiple_allocations=False)


class ExhaustedError(Exception):
    """A selection has cost too much; stays inside the index."""


class Meter:
    """What the evaluations of one selection may still cost.

    Attributes:
        left: Units of the evaluator. An evaluation takes one more than it charges, since one that charges
            nothing takes time too.
    """

    __slots__ = ("left",)

    def __init__(self, limit: int = MAX_UNITS) -> None:
        self.left = limit


class Part:
    """A part of a selector.

    Args:
        checked: The selector.
        node: The part.
        binds: The `cel.bind`s around it, outermost first.
        whole: Whether it is the whole selector, which nothing is above: whatever ends it makes it fail.

    Attributes:
        highest_cost: The most that an evaluation has cost so far.
    """

    __slots__ = ("_binds", "_checked", "_node", "_patterns", "_program", "_whole", "highest_cost")

    def __init__(
        self, checked: Checked, node: Node, binds: tuple[Bind, ...] = (), *, whole: bool = False
    ) -> None:
        self._checked = checked
        self._node = node
        self._binds = binds
        self._whole = whole
        self._program: Program | None = None
        # What regular expressions take at worst, each time.
        self._patterns = 0
        self.highest_cost = 0

    def outcome(self, view: DeviceView, meter: Meter) -> Outcome:
        """Evaluate it on a device.

        Raises:
            ExhaustedError: It costs too much on all devices together.
        """
        return next(self.outcomes((view,), meter))

    def _other(self, result: object) -> Outcome:
        """What a result means that is neither true nor false."""
        if type(result) is not OptionalValue:
            return None
        if not self._whole:
            # What an optional holds counts where it is the result of the whole selector, and nowhere else.
            return ENDED
        while type(result) is OptionalValue and result.present:
            result = result.value
        return result if result is True or result is False else None

    def outcomes(self, views: Iterable[DeviceView], meter: Meter) -> Iterator[Outcome]:
        """Evaluate it on devices, one after another.

        Raises:
            ExhaustedError: It costs too much on all devices together.
        """
        program = self._program
        if program is None:
            program = self._program = self._compiled()
        frame_of, run, least = program.frame, program.run, MAX_COST - self.highest_cost
        each = self._patterns + 1
        for view in views:
            frame = frame_of(view)
            outcome: Outcome
            try:
                result = run(frame)
                outcome = result if result is True or result is False else self._other(result)
            except EvaluationError:
                outcome = None
            except BudgetError:
                outcome = None if self._whole else ENDED
            if frame.left < least and outcome is not ENDED:
                least = frame.left
                self.highest_cost = MAX_COST - least
            meter.left -= MAX_COST + each - frame.left
            if frame.patterns:
                meter.left -= time_of(frame.patterns)
            if meter.left < 0:
                raise ExhaustedError
            yield outcome

    def _compiled(self) -> Program:
        node = self._node
        for bind in reversed(self._binds):
            node = dataclasses.replace(bind, body=node)
        self._patterns = time_of(patterns_in(node))
        return compile_tree(dataclasses.replace(self._checked, tree=node))
