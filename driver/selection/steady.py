"""Which parts of a selector cannot end an evaluation.

Purpose: an error is absorbed by `&&` and `||` wherever it stands, so their operands may change places; but
what ends an evaluation (the cost limit, a value that cannot be hashed) does so only where it is reached. So
only parts that cannot do that may be put off until others have decided about most devices.

Flow: `is_steady` walks a part and looks for what could grow or hash a value.

Limits: cautious: what is doubtful is not steady, and merely costs more. Lists and maps of devices are taken
to have no more entries than the API allows.
"""

from __future__ import annotations

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
_MOST_ELEMENTS = 64
_MOST_STEPS = 20_000


def is_steady(node: Node, names: Names) -> bool:
    """Say whether a part ends no evaluation, whatever the device."""
    return not names.computed and _steady(node, names, keys=frozenset())


def _steady(node: Node, names: Names, *, keys: frozenset[str]) -> bool:
    match node:
        case Literal() | Ident():
            return True
        case MapLiteral() | Bind() | OptionalMap():
            return False
        case Call(function=function, args=args):
            if (
                function in _GROWING
                or function in _PANICKING
                or (function == "_in_" and isinstance(args[1], ListLiteral))
            ):
                return False
        case Index(key=key):
            if not (
                isinstance(key, Literal)
                or (isinstance(key, Ident) and key.name in keys)
                or path_of(key, names) == ("driver",)
            ):
                return False
        case Comprehension():
            return _steady_loop(node, names, keys=keys)
    return all(_steady(child, names, keys=keys) for child in children(node))


def _steady_loop(node: Comprehension, names: Names, *, keys: frozenset[str]) -> bool:
    operand = node.operand
    prefix = prefix_of(operand, names)
    elements = len(operand.elements) if isinstance(operand, ListLiteral) else _MOST_ELEMENTS
    if node.kind in _HASHING or (prefix is None and not isinstance(operand, ListLiteral)):
        return False
    bodies = [node.body] if node.condition is None else [node.condition, node.body]
    if elements * sum(map(_size, bodies)) > _MOST_STEPS or any(map(_has_loop, bodies)):
        return False
    inner = names.with_local(node.variable, node.second)
    if prefix is not None and len(prefix) in {1, 2}:
        keys |= {node.variable}
    else:
        keys -= {node.variable, node.second}
    return _steady(operand, names, keys=keys) and all(_steady(body, inner, keys=keys) for body in bodies)


def _size(node: Node) -> int:
    return 1 + sum(map(_size, children(node)))


def _has_loop(node: Node) -> bool:
    return isinstance(node, Comprehension) or any(map(_has_loop, children(node)))
