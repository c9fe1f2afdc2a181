"""Calls that are no calls: macros.

Purpose: `has`, the comprehensions, `cel.bind`, `optMap`, `optFlatMap` and `sortBy` become nodes of their
own.

Flow: the parser asks `expand` for each call; None means that it is an ordinary one. As in the reference,
the number of arguments belongs to the macro's name: `x.all(y)` is an ordinary call, of a function that
does not exist.

Limits: all releases since 1.34 have the same macros. Their names say nothing about functions, so
`x.map()` is left to the checker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from driver.cel.errors import InvalidSelectorError
from driver.cel.syntax import (
    Bind,
    Call,
    Comprehension,
    Ident,
    Index,
    ListLiteral,
    Logic,
    Node,
    OptionalMap,
    Select,
    Ternary,
)

_ACCUMULATOR = "__result__"
_Expand: TypeAlias = "Callable[[str, str, Node, tuple[Node, ...], int], Node]"


def expand(
    source: str, function: str, target: Node | None, args: tuple[Node, ...], position: int
) -> Node | None:
    """Give the node of a macro, None where the call is none.

    Raises:
        InvalidSelectorError: It is a macro, but its arguments are not such as it takes.
    """
    if target is None:
        return _has(source, args[0], position) if function == "has" and len(args) == 1 else None
    macro = _MACROS.get((function, len(args)))
    if macro is None:
        return None
    if function == "bind" and not (isinstance(target, Ident) and target.name == "cel"):
        return None
    return macro(source, function, target, args, position)


def _refused(message: str, source: str, node: Node, remedy: str = "") -> InvalidSelectorError:
    return InvalidSelectorError(message, source=source, position=node.position, remedy=remedy)


def _has(source: str, argument: Node, position: int) -> Node:
    if not isinstance(argument, Select) or argument.optional:
        raise _refused(
            "has() takes one selection of a field, as in has(a.b)",
            source,
            argument,
            'For a key in brackets, use "key" in map.' if isinstance(argument, Index) else "",
        )
    return Select(argument.operand, argument.field, position, test=True)


def _variable(source: str, node: Node, *, loop: bool = True) -> str:
    if not isinstance(node, Ident) or (node.name[0] == "." and not loop):
        raise _refused("the first argument must be the name of a variable", source, node)
    if node.name[0] == ".":
        # The reference lets such a name pass and never finds it again.
        return f"{node.name} "
    if loop and node.name == _ACCUMULATOR:
        raise _refused(f"{_ACCUMULATOR} cannot be a variable", source, node, "Use another name.")
    return node.name


def _one_variable(source: str, function: str, target: Node, args: tuple[Node, ...], position: int) -> Node:
    variable = _variable(source, args[0])
    condition = args[1] if len(args) == 3 else None
    return Comprehension(function, target, variable, "", condition, args[-1], position)


def _two_variables(source: str, function: str, target: Node, args: tuple[Node, ...], position: int) -> Node:
    first, second = _variable(source, args[0]), _variable(source, args[1])
    if first == second:
        raise _refused(f"the two variables have one name, {first}", source, args[1], "Rename one of them.")
    kind = "exists_one" if function == "existsOne" else function
    condition = args[2] if len(args) == 4 else None
    return Comprehension(kind, target, first, second, condition, args[-1], position)


def _sort_by(source: str, function: str, target: Node, args: tuple[Node, ...], position: int) -> Node:
    if not isinstance(
        target, (Ident, Select, Index, Call, Logic, Ternary, ListLiteral, Comprehension, Bind, OptionalMap)
    ):
        raise _refused("sortBy() needs a list", source, target)
    return Comprehension(function, target, _variable(source, args[0]), "", None, args[1], position)


def _bind(source: str, _function: str, _target: Node, args: tuple[Node, ...], position: int) -> Node:
    return Bind(_variable(source, args[0], loop=False), args[1], args[2], position)


def _optional_map(source: str, function: str, target: Node, args: tuple[Node, ...], position: int) -> Node:
    variable = _variable(source, args[0], loop=False)
    return OptionalMap(target, variable, args[1], position, flat=function == "optFlatMap")


_MACROS: dict[tuple[str, int], _Expand] = {
    **{(name, 2): _one_variable for name in ("all", "exists", "exists_one", "map", "filter")},
    ("map", 3): _one_variable,
    **{(name, 3): _two_variables for name in ("all", "exists", "existsOne", "exists_one")},
    **{
        (name, count): _two_variables
        for name in ("transformList", "transformMap", "transformMapEntry")
        for count in (3, 4)
    },
    ("sortBy", 2): _sort_by,
    ("bind", 3): _bind,
    ("optMap", 2): _optional_map,
    ("optFlatMap", 2): _optional_map,
}
