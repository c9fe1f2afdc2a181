"""What type variables stand for.

Purpose: CEL's unification, which decides what fits where: overloads, branches of a condition, elements of
a list.

Flow: a signature's parameters are made fresh for each call (`instantiate`); `assign_all` binds variables or
changes nothing; `resolve` and `final` read a type with its bindings.

Limits: follows the reference step by step, since which of several overloads fit depends on the order in
which variables are bound.
"""

from __future__ import annotations

import functools

from driver.cel.types import DYN, NULL, Type

ANY = Type("any")
"""What an attribute is without list-typed attributes: like `dyn`, but nothing that can be gone through."""

# Null is a value of every type that is not CEL's own.
_NOT_NULLABLE = frozenset({"bool", "int", "uint", "double", "string", "bytes", "list", "map", "type"})


@functools.lru_cache(maxsize=1024)
def has_variable(one: Type) -> bool:
    """Say whether a type variable occurs in a type."""
    return one.variable or any(map(has_variable, one.params))


def is_dyn(one: Type) -> bool:
    """Say whether only a device can tell the type."""
    return one == DYN or one == ANY  # noqa: PLR1714 - hashing a type takes longer


class Bindings:
    """What the type variables of one expression stand for."""

    def __init__(self) -> None:
        self._bound: dict[str, Type] = {}
        self._count = 0

    @property
    def used(self) -> bool:
        """Whether there is any type variable at all."""
        return self._count > 0

    def fresh(self) -> Type:
        """Make a type variable that nothing else uses."""
        self._count += 1
        return Type(f"_{self._count}", variable=True)

    def instantiate(self, types: tuple[Type, ...]) -> tuple[Type, ...]:
        """Replace a signature's parameters by fresh ones, alike throughout."""
        names: dict[str, Type] = {}

        def rename(one: Type) -> Type:
            if one.variable:
                if one.name not in names:
                    names[one.name] = self.fresh()
                return names[one.name]
            return Type(one.name, tuple(map(rename, one.params))) if one.params else one

        return tuple(map(rename, types))

    def resolve(self, one: Type) -> Type:
        """Replace bound variables by what they stand for."""
        while one.variable and (bound := self._bound.get(one.name)) is not None:
            one = bound
        return Type(one.name, tuple(map(self.resolve, one.params))) if one.params else one

    def final(self, one: Type) -> Type:
        """Replace all variables, unbound ones by `dyn`."""
        while one.variable and (bound := self._bound.get(one.name)) is not None:
            one = bound
        if one.variable:
            return DYN
        return Type(one.name, tuple(map(self.final, one.params))) if one.params else one

    def assign(self, source: Type, target: Type) -> bool:
        """Assign one type to another, or change nothing."""
        return self.assign_all((source,), (target,))

    def assign_all(self, sources: tuple[Type, ...], targets: tuple[Type, ...]) -> bool:
        """Assign each source to its target, or change nothing."""
        if len(sources) != len(targets):
            return False
        before = dict(self._bound)
        for source, target in zip(sources, targets, strict=True):
            if not self._assignable(source, target):
                self._bound = before
                return False
        return True

    def join(self, first: Type, second: Type) -> Type:
        """Find the type that holds both: `dyn` where there is no other."""
        return general(first, second) if self.assign(first, second) else DYN

    def _assignable(self, source: Type, target: Type) -> bool:
        if source == target:
            return True
        if target.variable:
            fits, was_bound = self._substitutes(source, target)
            if fits:
                return True
            if was_bound:
                return False
        if source.variable:
            return self._substitutes(target, source)[0]
        if is_dyn(source) or is_dyn(target):
            return True
        if NULL in (source, target):
            return (target if source == NULL else source).name not in _NOT_NULLABLE
        if source.name != target.name:
            return False
        return source.name == "type" or (
            len(source.params) == len(target.params)
            and all(map(self._assignable, source.params, target.params))
        )

    def _substitutes(self, one: Type, variable: Type) -> tuple[bool, bool]:
        """Bind a variable, or widen what it is bound to; say whether that went, and whether it was bound."""
        bound = self._bound.get(variable.name)
        if bound is not None:
            if one == bound:
                return True, True
            if not self._assignable(one, bound):
                return False, True
            wider = general(one, bound)
            if not self._mentions(wider, variable):
                self._bound[variable.name] = wider
            return True, True
        if self._mentions(one, variable):
            return False, False
        self._bound[variable.name] = one
        return True, False

    def _mentions(self, one: Type, variable: Type) -> bool:
        if one == variable:
            return True
        if one.variable:
            bound = self._bound.get(one.name)
            return bound is not None and self._mentions(bound, variable)
        return any(self._mentions(param, variable) for param in one.params)


def general(first: Type, second: Type) -> Type:
    """Give the more general of two types that fit each other."""
    return first if _as_general(first, second) else second


def _as_general(first: Type, second: Type) -> bool:
    if first.variable or is_dyn(first):
        return True
    if second.variable or is_dyn(second) or first.name != second.name:
        return False
    if first.name == "type":
        return True
    return len(first.params) == len(second.params) and all(map(_as_general, first.params, second.params))
