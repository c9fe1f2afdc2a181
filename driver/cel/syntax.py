"""The tree of an expression.

Purpose: what the parser makes, the checker reads, the compiler turns into closures, and an index can look
into.

Flow: nodes are immutable and compared by identity, so that tables about them (types, overloads) can be
keyed by node.

Limits: `&&` and `||` hold all operands of a chain, because chains are long and trees must stay shallow.
Operators are calls of functions with names such as `_+_`, as in CEL's own definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, eq=False, slots=True)
class Literal:
    """A constant: None, bool, int, UInt, float, str or bytes."""

    value: object
    position: int


@dataclass(frozen=True, eq=False, slots=True)
class Ident:
    """A name."""

    name: str
    position: int


@dataclass(frozen=True, eq=False, slots=True)
class Select:
    """`operand.field`, `operand.?field`, or with `test` the inside of `has(operand.field)`."""

    operand: Node
    field: str
    position: int
    optional: bool = False
    test: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Index:
    """`operand[key]` or `operand[?key]`."""

    operand: Node
    key: Node
    position: int
    optional: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """`function(args)`, `target.function(args)`, or an operator."""

    function: str
    target: Node | None
    args: tuple[Node, ...]
    position: int


@dataclass(frozen=True, eq=False, slots=True)
class Logic:
    """A chain of `&&` or of `||`."""

    operator: str
    operands: tuple[Node, ...]
    position: int


@dataclass(frozen=True, eq=False, slots=True)
class Ternary:
    """`condition ? yes : no`."""

    condition: Node
    yes: Node
    no: Node
    position: int


@dataclass(frozen=True, eq=False, slots=True)
class ListLiteral:
    """`[a, b]`."""

    elements: tuple[Node, ...]
    position: int


@dataclass(frozen=True, eq=False, slots=True)
class MapLiteral:
    """`{k: v}`."""

    entries: tuple[tuple[Node, Node], ...]
    position: int


Node: TypeAlias = Literal | Ident | Select | Index | Call | Logic | Ternary | ListLiteral | MapLiteral


def children(node: Node) -> tuple[Node, ...]:
    """Give the nodes directly below one."""
    match node:
        case Literal() | Ident():
            return ()
        case Select(operand=operand):
            return (operand,)
        case Index(operand=operand, key=key):
            return (operand, key)
        case Call(target=target, args=args):
            return args if target is None else (target, *args)
        case Logic(operands=operands):
            return operands
        case Ternary(condition=condition, yes=yes, no=no):
            return (condition, yes, no)
        case ListLiteral(elements=elements):
            return elements
        case MapLiteral(entries=entries):
            return tuple(part for entry in entries for part in entry)
