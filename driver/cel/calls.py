"""Closures that call functions.

Purpose: one overload where the types are known, a choice by the values' types where they are not.

Flow: the compiler passes closures of the arguments, the value before the dot first.

Limits: where several overloads may apply, the reference counts one unit for an operator, whatever the size;
so do we, up to a size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driver.cel.budget import MAX_COST
from driver.cel.checker import Checked
from driver.cel.errors import EvaluationError, PanicError
from driver.cel.frames import Closure, Frame, placed
from driver.cel.library import Entry
from driver.cel.library.costs import nested
from driver.cel.library.regexes import compiled
from driver.cel.literals import PATTERN_FUNCTIONS
from driver.cel.syntax import Call, ListLiteral, Literal
from driver.cel.types import Type
from driver.cel.values import kind_of, no_overload

# What the reference cannot look up in the set that it makes of a constant list.
_NOT_IN_SETS = frozenset({"bytes", "semver", "format"})
_SET_MEMBERS = frozenset({"bool", "int", "uint", "double", "string"})
_UNCOUNTED = 256
_COUNTED_BY_OVERLOAD = frozenset({"sort", "flatten"})
_ABSENT = object()
# What may compare elements with each other, however deep they are.
_COMPARING = frozenset(
    {
        *("_in_", "includes", "indexOf", "lastIndexOf", "distinct"),
        *("sets.contains", "sets.equivalent", "sets.intersects"),
    }
)


# Functions that take longer than their units say: what they cost in addition once an evaluation has spent a
# tenth of what it may.
_SLOW = {
    **dict.fromkeys(("quantity", "isQuantity", "add", "sub", "semver", "isSemver"), 8),
    **dict.fromkeys(("duration", "timestamp", "string", "double", "format"), 6),
}
_PATIENCE = MAX_COST * 9 // 10
# How many patterns that it has charged for an evaluation remembers; from how many instructions on a literal
# one is charged for like one that is made up.
_PATTERNS_SEEN = 7
_LARGE_PATTERN = 10_000
# Functions in whose cost tracking the reference panics if an argument is an error: the argument's place.
_PANICKING = {"sort": 0, "distinct": 0, "flatten": 1}


def panicking(closure: Closure) -> Closure:
    """Make an error one that no operator absorbs."""

    def call(frame: Frame) -> Any:
        try:
            return closure(frame)
        except EvaluationError as error:
            raise PanicError(error.message) from None

    return call


def _compares(entry: Entry) -> bool:
    # What a map holds is not looked at for a key.
    return entry.name in _COMPARING and all(one.name != "map" for one in entry.parameters)


def charging(entry: Entry) -> Callable[[Frame, Any], None] | None:
    """Give what charges for a call, None where a unit does that is charged with what surrounds it."""
    cost, slow = entry.cost, _SLOW.get(entry.name, 0)
    deep = _compares(entry)
    if cost is None and not slow and not deep:
        return None

    def charge(frame: Frame, values: Any) -> None:
        units = 0 if cost is None else cost(*values)
        if deep:
            units += nested(*values)
        if frame.left < _PATIENCE:
            units += slow
        frame.charge(units)

    return charge


def single(entry: Entry, args: tuple[Closure, ...], types: tuple[Type, ...], node: Call) -> Closure:
    """Call the one overload that applies."""
    position = node.position
    place = _PANICKING.get(entry.name, len(args))
    if place < len(args):
        args = (*args[:place], panicking(args[place]), *args[place + 1 :])
    fits = not entry.guarded or all(map(_fits, entry.parameters, types))
    if fits and not _made_up_pattern(entry, node):
        if entry.name == "_==_":
            return _equality(entry, args, position)
        return _direct(entry, args, position)
    return _guarded(entry, args, node)


def _fits(parameter: Type, found: Type) -> bool:
    if parameter.variable or parameter.name == "dyn":
        return True
    return parameter.name == found.name and all(map(_fits, parameter.params, found.params))


def _made_up_pattern(entry: Entry, node: Call) -> bool:
    if entry.name not in PATTERN_FUNCTIONS:
        return False
    pattern = node.args[0 if entry.method else 1]
    if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
        return True
    return bool(compiled(pattern.value).programsize > _LARGE_PATTERN)


def _charge_pattern(frame: Frame, pattern: str) -> None:
    if pattern not in frame.patterns:
        frame.patterns = (*frame.patterns[-_PATTERNS_SEEN:], pattern)
        frame.charge(compiled(pattern).programsize)


def _direct(entry: Entry, args: tuple[Closure, ...], position: int) -> Closure:
    run, charge = entry.run, charging(entry)
    if charge is None and len(args) == 2:
        first, second = args

        def binary(frame: Frame) -> Any:
            try:
                return run(first(frame), second(frame))
            except EvaluationError as error:
                raise placed(error, position) from None

        return binary

    def call(frame: Frame) -> Any:
        values = [arg(frame) for arg in args]
        try:
            if charge is not None:
                charge(frame, values)
            return run(*values)
        except EvaluationError as error:
            raise placed(error, position) from None

    return call


def _equality(entry: Entry, args: tuple[Closure, ...], position: int) -> Closure:
    first, second = args
    run, cost = entry.run, entry.cost

    def equals(frame: Frame) -> Any:
        left, right = first(frame), second(frame)
        kind = type(left)
        if kind is type(right):
            if kind is str:
                frame.left -= (min(len(left), len(right)) + 9) // 10
                return left == right
            if kind is int or kind is bool:
                frame.left -= 1
                return left == right
        try:
            if cost is not None:
                frame.charge(cost(left, right))
            return run(left, right)
        except EvaluationError as error:
            raise placed(error, position) from None

    return equals


def _guarded(entry: Entry, args: tuple[Closure, ...], node: Call) -> Closure:
    run, charge, takes, position = entry.run, charging(entry), entry.takes, node.position
    made_up = _made_up_pattern(entry, node)

    def call(frame: Frame) -> Any:
        values = tuple([arg(frame) for arg in args])
        if not takes(values):
            raise placed(no_overload(node.function, *values), position)
        try:
            if charge is not None:
                charge(frame, values)
            result = run(*values)
        except EvaluationError as error:
            raise placed(error, position) from None
        if made_up:
            _charge_pattern(frame, values[1])
        return result

    return call


def remembered(closure: Closure) -> Closure:
    """Call a function of constants once, and charge each time what that has cost.

    What is large is computed anew, so that a selector that is kept holds no more than its text suggests.
    """
    known: list[tuple[Any, int]] = []

    def call(frame: Frame) -> Any:
        if known:
            value, units = known[0]
            frame.left -= units
            return value
        before = frame.left
        value = closure(frame)
        if not isinstance(value, (str, bytes, list, dict)):
            known.append((value, before - frame.left))
        return value

    return call


def dispatched(entries: tuple[Entry, ...], args: tuple[Closure, ...], node: Call) -> Closure:
    """Choose among overloads by the types of the values."""
    position, function = node.position, node.function
    # One that is not guarded takes whatever no other does.
    choices = sorted(entries, key=lambda entry: not entry.guarded)
    counted_by_overload = function in _COUNTED_BY_OVERLOAD
    slow = _SLOW.get(function, 0)
    free = _UNCOUNTED if function[0] == "_" or counted_by_overload else 0

    def call(frame: Frame) -> Any:
        values = tuple([arg(frame) for arg in args])
        for entry in choices:
            if entry.takes(values):
                units = 1 if entry.cost is None else entry.cost(*values)
                if _compares(entry):
                    units += nested(*values)
                if slow and frame.left < _PATIENCE:
                    frame.left -= slow
                if counted_by_overload:
                    units = 1 + units // len(values[0]) // 8 if units > free else 1
                frame.charge(units if units > free else 1)
                try:
                    return entry.run(*values)
                except EvaluationError as error:
                    raise placed(error, position) from None
        raise placed(no_overload(function, *values), position)

    return call


def lazy(entry: Entry, args: tuple[Closure, ...], position: int, *, cost: int) -> Closure:
    """Call a function that evaluates its second argument only where it needs it."""
    run = entry.run
    operand, other = args

    def call(frame: Frame) -> Any:
        value = operand(frame)

        def evaluated() -> Any:
            frame.left -= cost
            return other(frame)

        try:
            return run(value, evaluated)
        except EvaluationError as error:
            raise placed(error, position) from None

    return call


def in_constants(node: Call, value: Closure, checked: Checked) -> Closure | None:
    """Search a constant list; None where the list is none.

    The reference turns such a list into a set when it plans the program; two things follow that a device
    can see: nothing is looked at for an empty list, and what cannot be hashed raises.
    """
    listed = node.args[1]
    if not isinstance(listed, ListLiteral) or listed.optional or len(checked.overloads[node]) != 1:
        return None
    if not listed.elements:
        return lambda _frame: False
    elements = [
        one.value if isinstance(one, Literal) else checked.constants.get(one, _ABSENT)
        for one in listed.elements
    ]
    if any(one is _ABSENT or kind_of(one) not in _SET_MEMBERS for one in elements):
        return None
    words = frozenset(one for one in elements if isinstance(one, str))
    search = checked.overloads[node][0].run

    def contained(frame: Frame) -> bool:
        candidate = value(frame)
        if type(candidate) is str:
            return candidate in words
        if kind_of(candidate) in _NOT_IN_SETS:
            raise PanicError(f"a {kind_of(candidate)} cannot be looked up in a constant list")
        return bool(search(candidate, elements))

    return contained
