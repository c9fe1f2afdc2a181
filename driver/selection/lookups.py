"""Parts of a selector that are answered by looking a constant up.

Purpose: what nearly all selectors consist of (`==`, `!=` and `in` with constants, `has()`, a bool attribute,
the start of a name) costs a lookup in a dict and evaluates nothing.

Flow: in a column, values of the constant's own class are looked up. For values of another class the outcome
depends on the classes alone, so the real evaluator is asked once for any one of them. A device without a
value raises, but for `has()` and `in`.

Limits: only what has Python's meaning in CEL, too: equality of strings, integers and bools, the order of
numbers (`driver.selection.orders`), tests of strings. The rest is for `driver.selection.leaves`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeAlias

from driver.cel.errors import EvaluationError
from driver.selection.bitmaps import merged, without
from driver.selection.column import Group, Path
from driver.selection.limits import LARGE_PATTERN
from driver.selection.operators import Run, Sets
from driver.selection.outcomes import LOOKUP_RANK, noted, sort_out
from driver.selection.part import WITHOUT_ANYTHING, Part
from driver.selection.patterns import size_of

# Gives those among the keys of a group's values that pass a test; others, too, if no value has them.
Keys: TypeAlias = Callable[[Iterable[Any]], Iterable[Hashable]]


class Presence:
    """`has(device.attributes["d"].x)`, `"x" in device.attributes["d"]` and `"d" in device.attributes`."""

    __slots__ = ("_path",)
    rank = LOOKUP_RANK

    def __init__(self, path: Path) -> None:
        self._path = path

    def answer(self, run: Run, within: int | None) -> Sets:  # noqa: ARG002 - all devices cost as much as few
        """See `Operator`."""
        return run.devices.column(self._path).present, 0


class Truth:
    """A value by itself: true where it is."""

    __slots__ = ("_path",)
    rank = LOOKUP_RANK

    def __init__(self, path: Path) -> None:
        self._path = path

    def answer(self, run: Run, within: int | None) -> Sets:  # noqa: ARG002 - all devices cost as much as few
        """See `Operator`."""
        group = run.devices.column(self._path).groups.get(bool)
        if group is None:
            return 0, run.readable
        return group.bits(key=True), without(run.readable, group.present.bits)


class Lookup:
    """A test of a value against constants, answered from the keys of the constants' class.

    `value == constant`, `value != constant`, `value in [constants]`, `value.startsWith(constant)` and so on;
    the value may be one with a default, `device.attributes["d"].?x.orValue(constant)`.

    Args:
        path: The column of the value.
        kind: The class of the constants.
        keys: Gives the keys for which it is true, among those of the devices' values of that class.
        negated: Whether it is true for all others instead.
        default: Whether the evaluator is asked about devices without a value, instead of their raising.
        part: The same for the evaluator.
    """

    __slots__ = ("_default", "_keys", "_kind", "_negated", "_part", "_path")
    rank = LOOKUP_RANK

    def __init__(
        self,
        path: Path,
        kind: type,
        keys: Keys,
        *,
        part: Part,
        negated: bool = False,
        default: bool = False,
    ) -> None:
        self._path = path
        self._kind = kind
        self._keys = keys
        self._negated = negated
        self._default = default
        self._part = part

    def answer(self, run: Run, within: int | None) -> Sets:  # noqa: ARG002 - all devices cost as much as few
        """See `Operator`."""
        column = run.devices.column(self._path)
        true = raises = present = 0
        for kind, group in column.groups.items():
            here = group.present.bits
            present |= here
            if kind is self._kind:
                found = group.union(self._keys(group.postings))
                true |= without(here, found) if self._negated else found
            else:
                yes, wrong = self._others(run, kind, group)
                true, raises = true | yes, raises | wrong
        if present == run.readable:
            return true, raises
        absent = without(run.readable, present)
        if not self._default:
            return true, raises | absent
        outcome = self._part.outcome(WITHOUT_ANYTHING, run.meter)
        yes, wrong = noted(run, sort_out([absent], [outcome], merged))
        return true | yes, raises | wrong

    def _others(self, run: Run, kind: type, group: Group) -> Sets:
        if kind is list:
            # Lists may differ in what they hold.
            keys, numbers = zip(*group.samples(), strict=True)
            outcomes = self._part.outcomes(map(run.devices.view, numbers), run.meter)
            return noted(run, sort_out(keys, outcomes, group.union))
        outcome = self._part.outcome(run.devices.view(group.sample()), run.meter)
        return noted(run, sort_out([group.present.bits], [outcome], merged))


def equal_to(constants: Sequence[Hashable]) -> Keys:
    """Find the keys that are one of some constants."""
    return lambda _keys: constants


def passing(function: str, constant: str, run: Callable[[str, str], Any]) -> Keys | None:
    """Find the keys that pass a test of strings; None for a test that is not known here.

    Args:
        function: The test.
        constant: What strings are tested with.
        run: The library's implementation.
    """
    match function:
        case "startsWith":
            return lambda keys: [key for key in keys if key.startswith(constant)]
        case "endsWith":
            return lambda keys: [key for key in keys if key.endswith(constant)]
        case "contains":
            return lambda keys: [key for key in keys if constant in key]
        case "matches":
            try:
                run("", constant)
            except EvaluationError:
                return None
            if size_of(constant) > LARGE_PATTERN:
                # It may take milliseconds for each value, and nothing is counted here.
                return None
            return lambda keys: [key for key in keys if run(key, constant)]
    return None
