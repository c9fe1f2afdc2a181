"""Parts of a selector that are answered by looking a constant up.

Purpose: what nearly all selectors consist of (`==`, `!=` and `in` with constants, `has()`, a bool attribute)
costs a lookup in a dict and evaluates nothing.

Flow: in a column, values of the constant's own class are looked up. For values of another class the outcome
depends on the classes alone, so the real evaluator is asked once for any one of them. A device without a
value raises, but for `has()` and `in`.

Limits: strings, integers and bools only, since their equality in CEL is that of Python; the rest is for
`driver.selection.leaves`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from driver.selection.bitmaps import without
from driver.selection.column import Group, Path
from driver.selection.operators import Run, Sets
from driver.selection.part import Part

RANK = 1


class Presence:
    """`has(device.attributes["d"].x)`, `"x" in device.attributes["d"]` and `"d" in device.attributes`."""

    __slots__ = ("_path",)
    rank = RANK

    def __init__(self, path: Path) -> None:
        self._path = path

    def answer(self, run: Run, within: int | None) -> Sets:  # noqa: ARG002 - all devices cost as much as few
        """See `Operator`."""
        return run.devices.column(self._path).present, 0


class Truth:
    """A value by itself: true where it is."""

    __slots__ = ("_path",)
    rank = RANK

    def __init__(self, path: Path) -> None:
        self._path = path

    def answer(self, run: Run, within: int | None) -> Sets:  # noqa: ARG002 - all devices cost as much as few
        """See `Operator`."""
        group = run.devices.column(self._path).groups.get(bool)
        if group is None:
            return 0, run.readable
        return group.bits(key=True), without(run.readable, group.present.bits)


class Lookup:
    """`value == constant`, `value != constant` and `value in [constants]`, the constants of one class.

    Args:
        path: The column of the value.
        constants: The constants.
        negated: Whether it is true for all other values of the class.
        part: The same for the evaluator.
    """

    __slots__ = ("_constants", "_kind", "_negated", "_part", "_path")
    rank = RANK

    def __init__(self, path: Path, constants: Sequence[Hashable], *, negated: bool, part: Part) -> None:
        self._path = path
        self._constants = constants
        self._kind = type(constants[0])
        self._negated = negated
        self._part = part

    def answer(self, run: Run, within: int | None) -> Sets:  # noqa: ARG002 - all devices cost as much as few
        """See `Operator`."""
        column = run.devices.column(self._path)
        true = raises = present = 0
        for kind, group in column.groups.items():
            here = group.present.bits
            present |= here
            if kind is self._kind:
                found = self._found(group)
                true |= without(here, found) if self._negated else found
            elif kind is list:
                yes, wrong = self._each(run, group)
                true, raises = true | yes, raises | wrong
            else:
                outcome = self._part.outcome(run.devices.view(group.sample()), run.meter)
                if outcome:
                    true |= here
                elif outcome is None:
                    raises |= here
        return true, raises if present == run.readable else raises | without(run.readable, present)

    def _found(self, group: Group) -> int:
        if len(self._constants) == 1:
            return group.bits(self._constants[0])
        return group.union(self._constants)

    def _each(self, run: Run, group: Group) -> Sets:
        outcomes = [
            (self._part.outcome(run.devices.view(number), run.meter), key) for key, number in group.samples()
        ]
        return (
            group.union(key for outcome, key in outcomes if outcome),
            group.union(key for outcome, key in outcomes if outcome is None),
        )
