"""Parts of a selector that are answered by looking a constant up.

Purpose: what nearly all selectors consist of (`==`, `!=` and `in` with constants, `has()`, a bool attribute,
the start of a name) costs a lookup in a dict and evaluates nothing.

Flow: in a column, values of the constant's own class are looked up. For values of another class the outcome
depends on the classes alone, so the real evaluator is asked once for any one of them. A device without a
value raises, but for `has()` and `in`.

Limits: strings, integers and bools only, since their equality in CEL is that of Python; the rest is for
`driver.selection.leaves`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeAlias

from driver.selection.bitmaps import without
from driver.selection.column import Group, Path
from driver.selection.operators import Run, Sets
from driver.selection.part import WITHOUT_ANYTHING, Part

# Gives those among the keys of a group's values that pass a test; others, too, if no value has them.
Keys: TypeAlias = Callable[[Iterable[Any]], Iterable[Hashable]]
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
    rank = RANK

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
            elif kind is list:
                yes, wrong = self._each(run, group)
                true, raises = true | yes, raises | wrong
            else:
                outcome = self._part.outcome(run.devices.view(group.sample()), run.meter)
                if outcome:
                    true |= here
                elif outcome is None:
                    raises |= here
        if present == run.readable:
            return true, raises
        absent = without(run.readable, present)
        if self._default:
            outcome = self._part.outcome(WITHOUT_ANYTHING, run.meter)
            if outcome is not None:
                return (true | absent if outcome else true), raises
        return true, raises | absent

    def _each(self, run: Run, group: Group) -> Sets:
        keys, numbers = zip(*group.samples(), strict=True)
        outcomes = list(self._part.outcomes(map(run.devices.view, numbers), run.meter))
        return (
            group.union(key for key, outcome in zip(keys, outcomes, strict=True) if outcome),
            group.union(key for key, outcome in zip(keys, outcomes, strict=True) if outcome is None),
        )


def equal_to(constants: Sequence[Hashable]) -> Keys:
    """Find the keys that are one of some constants."""
    return lambda _keys: constants


def passing(function: str, constant: str) -> Keys | None:
    """Find the keys that pass a test of strings; None for a test that is not known here."""
    match function:
        case "startsWith":
            return lambda keys: [key for key in keys if key.startswith(constant)]
        case "endsWith":
            return lambda keys: [key for key in keys if key.endswith(constant)]
        case "contains":
            return lambda keys: [key for key in keys if constant in key]
    return None
