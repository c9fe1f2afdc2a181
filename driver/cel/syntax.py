"""The tree of an expression.

Purpose: what the parser makes, the checker reads, the compiler turns into closures, and an index can look
into.

Flow: nodes are immutable and compared by identity, so that tables about them (types, overloads) can be
keyed by node.
A node that declares variables names them in `variable` and `second`; they hold in its body only, and may
shadow outer ones, `device` too.

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
    """`[a, b]`; the elements at the places in `optional` are written `?x`: left out where x is absent."""

    elements: tuple[Node, ...]
    position: int
    optional: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False, slots=True)
class MapLiteral:
    """`{k: v}`; the entries at the places in `optional` are written `?k: v`: left out where v is absent."""

    entries: tuple[tuple[Node, Node], ...]
    position: int
    optional: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False, slots=True)
class Comprehension:
    """A macro that goes through the elements of a list or the keys of a map.

    `operand` is evaluated once, outside of the variables' scope; an error in it, or an operand that is
    neither list nor map, is the error of the whole. `condition` and `body` are evaluated for each element
    with the variables set, in order (of the list; the order of a map's keys means nothing).

    With one variable it stands for the element of a list or the key of a map. With a `second` one,
    `variable` is the index of a list or the key of a map, and `second` the element or value.

    What each kind gives, and what becomes of errors in `condition` and `body`:

    * `all`: false as soon as a body is false; errors of other elements are absorbed then. Otherwise the
      first error, or else true. A body that is no bool is an error like any other.
    * `exists`: true as soon as a body is true; likewise. Otherwise the first error, or else false.
    * `exists_one`: whether exactly one body is true; every element is visited, and any error is the error
      of the whole.
    * `filter`: the list of elements (keys of a map) whose body is true; any error is the error of the whole.
    * `map`, `transformList`: the list of bodies, of those elements whose `condition` is true if there is one.
    * `transformMap`: the map of key (or index) to body, of those whose `condition` is true.
    * `transformMapEntry`: the bodies are maps; their entries together make the result. A key that occurs
      twice is an error.
    * `sortBy`: the elements of a list, sorted by their bodies, which are comparable and of one type.

    Attributes:
        kind: The macro's name, `existsOne` as `exists_one`.
        operand: What it goes through.
        variable: Name of the variable.
        second: Name of the second variable, "" in the forms with one.
        condition: The filter of `map(x, condition, body)` and of the forms `transform...`.
        body: Predicate, transformation or sorting key.
        position: Offset of the macro's name.
    """

    kind: str
    operand: Node
    variable: str
    second: str
    condition: Node | None
    body: Node
    position: int


@dataclass(frozen=True, eq=False, slots=True)
class Bind:
    """`cel.bind(variable, value, body)`.

    `value` is evaluated at most once, when the body first needs it; where it fails, each use fails. It is
    outside of the variable's scope, so it sees an outer variable of the same name.
    """

    variable: str
    value: Node
    body: Node
    position: int


@dataclass(frozen=True, eq=False, slots=True)
class OptionalMap:
    """`operand.optMap(variable, body)`, or with `flat` `operand.optFlatMap(variable, body)`.

    Absent where the operand is; otherwise the body with the variable set to the value: `optMap` wraps it,
    with `flat` the body is an optional itself.
    """

    operand: Node
    variable: str
    body: Node
    position: int
    flat: bool = False


Node: TypeAlias = (
    Literal
    | Ident
    | Select
    | Index
    | Call
    | Logic
    | Ternary
    | ListLiteral
    | MapLiteral
    | Comprehension
    | Bind
    | OptionalMap
)


def children(node: Node) -> tuple[Node, ...]:
    """Give the nodes directly below one, in the order of evaluation."""
    match node:
        case Literal() | Ident():
            return ()
        case Select(operand=operand):
            return (operand,)
        case Call(target=target, args=args):
            return args if target is None else (target, *args)
        case Logic(operands=parts) | ListLiteral(elements=parts):
            return parts
        case MapLiteral(entries=entries):
            return tuple(part for entry in entries for part in entry)
        case _:
            return _pair_or_more(node)


def _pair_or_more(node: Index | Ternary | Comprehension | Bind | OptionalMap) -> tuple[Node, ...]:
    match node:
        case Index(operand=first, key=second) | Bind(value=first, body=second):
            return (first, second)
        case OptionalMap(operand=first, body=second):
            return (first, second)
        case Ternary(condition=condition, yes=yes, no=no):
            return (condition, yes, no)
        case Comprehension(operand=operand, condition=condition, body=body):
            return (operand, body) if condition is None else (operand, condition, body)
