"""How the answers of a selector's parts make the answer of the whole.

Purpose: `&&`, `||`, `!` and `?:` over sets of devices instead of truth values.

Flow: each operator gives two sets, the devices for which it is true and those for which it raises; it is
false for all others. `within` says which devices the answer is needed for (None: all readable ones): what
the operands before have not decided. What an answer says of other devices means nothing.

Limits: as in the reference, a false operand of `&&` and a true one of `||` absorb the errors of the others,
in whatever order they stand; so operands may be asked in the order of what they cost. Only what ends an
evaluation does so where it is reached: operands that could do that stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from driver.selection.bitmaps import without
from driver.selection.devices import Devices
from driver.selection.part import Meter

Sets = tuple[int, int]


@dataclass(slots=True)
class Run:
    """One selection.

    Attributes:
        devices: The devices.
        meter: What it may still cost.
        readable: All devices that answers are about.
        doubtful: Devices on which a part ends the evaluation, if it is reached: the whole selector has to be
            evaluated on them.
    """

    devices: Devices
    meter: Meter
    readable: int
    doubtful: int = 0


class Operator(Protocol):
    """A part of a selector that can be answered for many devices at once."""

    @property
    def rank(self) -> int:
        """How much the answer costs, relative to others."""

    def answer(self, run: Run, within: int | None) -> Sets:
        """Give the devices for which it is true, and those for which it raises.

        Raises:
            ExhaustedError: It costs too much on all devices together.
        """


class AllOf:
    """`&&`."""

    __slots__ = ("operands", "rank")

    def __init__(self, operands: Sequence[Operator]) -> None:
        self.operands = operands
        self.rank = max(map(_rank, operands))

    def answer(self, run: Run, within: int | None) -> Sets:
        """See `Operator`."""
        true, possible = -1, within
        for operand in self.operands:
            yes, raises = operand.answer(run, possible)
            true &= yes
            left = yes | raises if raises else yes
            possible = left if possible is None else possible & left
            if not possible:
                return 0, 0
        decided = run.readable if possible is None else possible
        return true & decided, without(decided, true)


class AnyOf:
    """`||`."""

    __slots__ = ("operands", "rank")

    def __init__(self, operands: Sequence[Operator]) -> None:
        self.operands = operands
        self.rank = max(map(_rank, operands))

    def answer(self, run: Run, within: int | None) -> Sets:
        """See `Operator`."""
        true = raised = 0
        possible = run.readable if within is None else within
        for operand in self.operands:
            yes, raises = operand.answer(run, possible)
            true |= yes
            raised |= raises
            possible = without(possible, yes)
            if not possible:
                break
        return true, without(raised, true)


class Not:
    """`!`."""

    __slots__ = ("operand", "rank")

    def __init__(self, operand: Operator) -> None:
        self.operand = operand
        self.rank = operand.rank

    def answer(self, run: Run, within: int | None) -> Sets:
        """See `Operator`."""
        true, raises = self.operand.answer(run, within)
        return without(run.readable if within is None else within, true | raises), raises


class Choice:
    """`condition ? yes : no`."""

    __slots__ = ("condition", "no", "rank", "yes")

    def __init__(self, condition: Operator, yes: Operator, no: Operator) -> None:
        self.condition, self.yes, self.no = condition, yes, no
        self.rank = max(condition.rank, yes.rank, no.rank)

    def answer(self, run: Run, within: int | None) -> Sets:
        """See `Operator`."""
        asked = run.readable if within is None else within
        met, failed = self.condition.answer(run, within)
        met &= asked
        true, raises = 0, failed
        if met:
            yes, wrong = self.yes.answer(run, met)
            true, raises = yes & met, raises | (wrong & met)
        unmet = without(asked, met | failed)
        if unmet:
            yes, wrong = self.no.answer(run, unmet)
            true, raises = true | (yes & unmet), raises | (wrong & unmet)
        return true, raises


def cheapest_first(operands: Sequence[Operator]) -> list[Operator]:
    """Order operands by what they cost."""
    return sorted(operands, key=_rank)


def _rank(operator: Operator) -> int:
    return operator.rank
