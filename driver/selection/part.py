"""A part of a selector, evaluated by itself.

Purpose: the real evaluator's own closures answer for one device what the index then says of all like it.

Flow: `Part` wraps a node, together with the `cel.bind`s around it, as an expression of its own; it is turned
into closures when the first device is tried. What an operator above cannot use (an error, or anything but
true and false) is `None`.

Limits: in an evaluation of the whole selector the costs of its parts add up, and too high a sum is an error
that nothing absorbs; so each part remembers the highest cost seen. A `Meter` ends a selection that costs too
much over all devices.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from driver.cel import DeviceView
from driver.cel.budget import MAX_COST
from driver.cel.checker import Checked
from driver.cel.compiler import Program, compile_tree
from driver.cel.errors import EvaluationError
from driver.cel.syntax import Bind, Node
from driver.selection.limits import MAX_UNITS

Outcome: TypeAlias = bool | None


class ExhaustedError(Exception):
    """A selection has cost too much; stays inside the index."""


class Meter:
    """What the evaluations of one selection may still cost."""

    __slots__ = ("left",)

    def __init__(self, limit: int = MAX_UNITS) -> None:
        self.left = limit

    def charge(self, units: int) -> None:
        """Spend units.

        Raises:
            ExhaustedError: Nothing is left.
        """
        self.left -= units
        if self.left < 0:
            raise ExhaustedError


class Part:
    """A part of a selector.

    Attributes:
        highest_cost: The most that an evaluation has cost so far.
    """

    __slots__ = ("_binds", "_checked", "_node", "_program", "highest_cost")

    def __init__(self, checked: Checked, node: Node, binds: tuple[Bind, ...] = ()) -> None:
        self._checked = checked
        self._node = node
        self._binds = binds
        self._program: Program | None = None
        self.highest_cost = 0

    def outcome(self, view: DeviceView, meter: Meter) -> Outcome:
        """Evaluate it on a device: true, false, or None for an error.

        Raises:
            BudgetError: It costs too much on this device.
            ExhaustedError: It costs too much on all devices together.
        """
        program = self._program
        if program is None:
            program = self._program = self._compiled()
        frame = program.frame(view)
        try:
            result = program.run(frame)
        except EvaluationError:
            result = None
        finally:
            cost = MAX_COST - frame.left
            self.highest_cost = max(self.highest_cost, cost)
            # One more, since an evaluation that charges nothing takes time too.
            meter.charge(cost + 1)
        return result if type(result) is bool else None

    def _compiled(self) -> Program:
        node = self._node
        for bind in reversed(self._binds):
            node = dataclasses.replace(bind, body=node)
        return compile_tree(dataclasses.replace(self._checked, tree=node))
