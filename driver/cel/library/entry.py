"""How a function is declared.

Purpose: the `@overload` line and the `Entry` it makes.

Flow: `@overload("startsWith(string, string) -> bool", method=True)` over an implementation. A method's
first parameter is the value before the dot.

Limits: cost is charged before the implementation runs; None means that the size of the arguments plays no
part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from driver.cel.types import Type, parse_type
from driver.cel.values import kind_of

Implementation = Callable[..., Any]
_F = TypeVar("_F", bound=Implementation)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One overload of a function.

    Attributes:
        name: Name as written, `_+_` for operators.
        method: Whether it is called on a value: `x.name()`.
        parameters: Types of the arguments, the value before the dot first.
        result: Type of the result.
        run: The implementation.
        cost: Gives the units for a call's arguments.
        since: First Kubernetes release whose selectors know it.
        lazy: Whether the implementation gets the arguments as functions, to call them or not.
    """

    name: str
    method: bool
    parameters: tuple[Type, ...]
    result: Type
    run: Implementation
    cost: Callable[..., int] | None
    since: tuple[int, int]
    lazy: bool

    def takes(self, args: tuple[Any, ...]) -> bool:
        """Say whether values are of the parameters' types."""
        return all(
            parameter.variable or parameter.name in {"dyn", kind_of(arg)}
            for parameter, arg in zip(self.parameters, args, strict=True)
        )


REGISTRY: list[Entry] = []


def overload(
    signature: str,
    *,
    method: bool = False,
    cost: Callable[..., int] | None = None,
    since: tuple[int, int] = (1, 34),
    lazy: bool = False,
) -> Callable[[_F], _F]:
    """Register an implementation under a signature such as `size(string) -> int`."""
    head, _, result = signature.rpartition(" -> ")
    name, _, parameters = head.partition("(")
    types = parse_type(f"tuple({parameters}") if parameters != ")" else Type("tuple")

    def register(implementation: _F) -> _F:
        REGISTRY.append(
            Entry(name, method, types.params, parse_type(result), implementation, cost, since, lazy)
        )
        return implementation

    return register


def sizes(*args: Any) -> int:
    """Charge a unit for each ten characters or elements of the arguments."""
    return 1 + sum(len(arg) for arg in args if isinstance(arg, (str, bytes, list, dict))) // 10
