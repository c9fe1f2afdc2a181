"""Which parts of a selector cannot end an evaluation.

Purpose: an error is absorbed by `&&` and `||` wherever it stands, so their operands may change places; but
what ends an evaluation (the cost limit, a value that cannot be hashed) does so only where it is reached. So
only parts that cannot do that may be put off until others have decided about most devices.

Flow: `is_steady` walks a part, counts the steps it can take at most, and looks for what could grow or hash a
value.

Limits: cautious: what is doubtful is not steady, and merely costs more. Lists and maps of devices are taken
to have no more entries than the API allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from driver.cel.syntax import (
    Bind,
    Call,
    Comprehension,
    Ident,
    Index,
    ListLiteral,
    Literal,
    MapLiteral,
    Node,
    OptionalMap,
    children,
)
from driver.selection.reads import Names, path_of, prefix_of

_GROWING = frozenset({"replace", "join", "format", "split", "range", "lists.range", "quote"})
# Loops that make keys, or that the reference panics in where an element is an error; so do some functions.
_HASHING = frozenset({"transformMap", "transformMapEntry", "sortBy"})
_PANICKING = frozenset({"sort", "distinct", "flatten"})
_MAP_ENTRIES = 32
_LIST_ELEMENTS = 64
# Each takes a few units of a million.
_MOST_STEPS = 40_000


def is_steady(node: Node, names: Names) -> bool:
    """Say whether a part ends no evaluation, whatever the device."""
    if names.computed:
        return False
    steps = _steps(node, _Place(names))
    return steps is not None and steps <= _MOST_STEPS


@dataclass(frozen=True, slots=True)
class _Place:
    # Variables that are sure to be keys of a device's maps, and those that are sure to be such maps.
    names: Names
    keys: frozenset[str] = frozenset()
    maps: frozenset[str] = frozenset()


def _steps(node: Node, place: _Place) -> int | None:
    """Give the steps that a part takes at most, None if it is not steady."""
    if isinstance(node, Comprehension):
        return _steps_of_loop(node, place)
    if isinstance(node, (MapLiteral, Bind, OptionalMap)):
        return None
    if isinstance(node, Call):
        function = node.function
        if function in _GROWING or function in _PANICKING:
            return None
        if function == "_in_" and isinstance(node.args[1], ListLiteral):
            return None
    elif isinstance(node, Index) and not _is_plain_key(node.key, place):
        return None
    total = 1
    for child in children(node):
        steps = _steps(child, place)
        if steps is None:
            return None
        total += steps
    return total


def _is_plain_key(key: Node, place: _Place) -> bool:
    if isinstance(key, Ident):
        return key.name in place.keys
    return isinstance(key, Literal) or path_of(key, place.names) == ("driver",)


def _steps_of_loop(node: Comprehension, place: _Place) -> int | None:
    operand = node.operand
    elements = _LIST_ELEMENTS
    variables = frozenset({node.variable, node.second})
    inner = _Place(
        place.names.with_local(node.variable, node.second), place.keys - variables, place.maps - variables
    )
    prefix = prefix_of(operand, place.names)
    if isinstance(operand, ListLiteral):
        elements = len(operand.elements)
    elif prefix is not None and len(prefix) == 1:
        elements = _MAP_ENTRIES
        inner = replace(inner, keys=inner.keys | {node.variable}, maps=inner.maps | {node.second})
    elif _is_domain(operand, prefix, place):
        elements = _MAP_ENTRIES
        inner = replace(inner, keys=inner.keys | {node.variable})
    elif prefix is None:
        return None
    if node.kind in _HASHING:
        return None
    total = _steps(operand, place)
    for body in (node.condition, node.body):
        steps = 0 if body is None else _steps(body, inner)
        if total is None or steps is None:
            return None
        total += elements * (steps + 3)
    return total


def _is_domain(node: Node, prefix: tuple[str, ...] | None, place: _Place) -> bool:
    if prefix is not None:
        return len(prefix) == 2
    if isinstance(node, Ident):
        return node.name in place.maps
    if not isinstance(node, Index):
        return False
    above = prefix_of(node.operand, place.names)
    return above is not None and len(above) == 1
