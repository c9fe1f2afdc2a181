"""How a function is declared.

Purpose: the `@overload` line and the `Entry` it makes.

Flow: `@overload("startsWith(string, string) -> bool", method=True)` over an implementation. A method's
first parameter is the value before the dot.

Limits: cost is charged before the implementation runs; None means one unit. The costs are those of the API
server's estimator and of its CEL interpreter; `library.costs` adds to them where real work grows faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from driver.cel.syntax import Node
from driver.cel.types import Type, parse_type
from driver.cel.values import key_value, kind_of

Implementation = Callable[..., Any]
# Is given a call's arguments (the value before the dot first) and the types of nodes.
LiteralCheck = Callable[[Sequence[Node], Callable[[Node], Type]], str | None]
_F = TypeVar("_F", bound=Implementation)

Release = tuple[int, int]
FIRST: Release = (1, 34)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One overload of a function.

    Attributes:
        name: Name as written, `_+_` for operators.
        method: Whether it is called on a value: `x.name()`.
        parameters: Types of the arguments, the value before the dot first.
        result: Type of the result.
        run: The implementation.
        cost: Gives the units for a call's arguments; None for one unit.
        since: First Kubernetes release whose selectors know it.
        until: First release whose selectors do not know it any more, or know it otherwise.
        lazy: Whether the implementation gets the arguments as functions, to call them or not.
        guarded: Whether arguments of other types are refused before it runs; if not, it refuses them itself.
        folds: Whether a call with constant arguments is evaluated when the expression is compiled, so that
            its error is a compile error and its result a constant.
        check: Says at compile time what is wrong with literal arguments, or None.
    """

    name: str
    method: bool
    parameters: tuple[Type, ...]
    result: Type
    run: Implementation
    cost: Callable[..., int] | None
    since: Release
    until: Release | None = None
    lazy: bool = False
    guarded: bool = True
    folds: bool = False
    check: LiteralCheck | None = None

    def exists_in(self, release: Release) -> bool:
        """Say whether a release's selectors know it."""
        return self.since <= release and (self.until is None or release < self.until)

    def takes(self, args: tuple[Any, ...]) -> bool:
        """Say whether values are of the parameters' types; of a list, the first element decides."""
        return len(args) == len(self.parameters) and (
            not self.guarded or all(map(_fits, self.parameters, args))
        )


def _fits(parameter: Type, value: Any) -> bool:
    if parameter.variable or parameter.name == "dyn":
        return True
    if parameter.name != kind_of(value):
        return False
    if not parameter.params or not value:
        return True
    if parameter.name == "list":
        return _fits(parameter.params[0], value[0])
    if parameter.name == "map":
        key, element = next(iter(value.items()))
        return _fits(parameter.params[0], key_value(key)) and _fits(parameter.params[1], element)
    return True


REGISTRY: list[Entry] = []


def overload(
    signature: str,
    *,
    method: bool = False,
    cost: Callable[..., int] | None = None,
    since: Release = FIRST,
    until: Release | None = None,
    lazy: bool = False,
    guarded: bool = True,
    folds: bool = False,
    check: LiteralCheck | None = None,
) -> Callable[[_F], _F]:
    """Register an implementation under a signature such as `size(string) -> int`."""
    head, _, result = signature.rpartition(" -> ")
    name, _, parameters = head.partition("(")
    types = parse_type(f"tuple({parameters}") if parameters != ")" else Type("tuple")

    def register(implementation: _F) -> _F:
        REGISTRY.append(
            Entry(
                name=name,
                method=method,
                parameters=types.params,
                result=parse_type(result),
                run=implementation,
                cost=cost,
                since=since,
                until=until,
                lazy=lazy,
                guarded=guarded,
                folds=folds,
                check=check,
            )
        )
        return implementation

    return register
