"""The static types of expressions.

Purpose: types, their notation, and the unification that decides which overload fits.

Flow: a signature's type parameters (`A`, `B`) are made fresh for each call; `Bindings` collects what they
stand for. What stays unbound in the end is `dyn`.

Limits: the closed world of DRA selectors: no messages but `device`, no user types.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Type:
    """A type such as `int`, `list(string)` or a type parameter.

    Attributes:
        name: Its name; for a parameter a letter, or `A~7` once made fresh.
        params: Types of elements, of keys and values, or of what an optional holds.
        variable: Whether it is a type parameter.
    """

    name: str
    params: tuple[Type, ...] = ()
    variable: bool = False

    def __str__(self) -> str:
        if self.variable:
            return "dyn"
        return f"{self.name}({', '.join(map(str, self.params))})" if self.params else self.name


DYN = Type("dyn")
BOOL, INT, UINT, DOUBLE = Type("bool"), Type("int"), Type("uint"), Type("double")
STRING, BYTES, NULL = Type("string"), Type("bytes"), Type("null_type")
QUANTITY, SEMVER, DEVICE = Type("quantity"), Type("semver"), Type("device")

# CEL lets null stand for a time; so `x < null` compiles where `x` is dyn, and fails later.
_NULLABLE = frozenset({"timestamp", "duration"})


def list_of(element: Type) -> Type:
    """Make the type of a list."""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """Make the type of a map."""
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    """Make the type of an optional."""
    return Type("optional", (value,))


_WORD = re.compile(r"\s*([A-Za-z_]+|[(),])")


def parse_type(text: str) -> Type:
    """Read a type from a signature; one capital letter is a type parameter."""
    words = [match[1] for match in _WORD.finditer(text)]
    result, rest = _read(words)
    if rest:
        raise ValueError(text)
    return result


def _read(words: list[str]) -> tuple[Type, list[str]]:
    name, rest = words[0], words[1:]
    if len(name) == 1 and name.isupper():
        return Type(name, variable=True), rest
    if not rest or rest[0] != "(":
        return Type(name), rest
    params: list[Type] = []
    while rest[0] != ")":
        param, rest = _read(rest[1:])
        params.append(param)
    return Type(name, tuple(params)), rest[1:]


class Bindings:
    """What type parameters stand for, within one expression."""

    def __init__(self) -> None:
        self._bound: dict[Type, Type] = {}
        self._numbers = itertools.count()

    def fresh(self, name: str = "A") -> Type:
        """Make a type parameter that nothing else uses."""
        return Type(f"{name}~{next(self._numbers)}", variable=True)

    def instantiate(self, types: tuple[Type, ...]) -> tuple[Type, ...]:
        """Replace a signature's parameters by fresh ones, alike throughout."""
        names: dict[str, Type] = {}

        def rename(one: Type) -> Type:
            if one.variable:
                if one.name not in names:
                    names[one.name] = self.fresh(one.name)
                return names[one.name]
            return Type(one.name, tuple(map(rename, one.params))) if one.params else one

        return tuple(map(rename, types))

    def resolve(self, one: Type) -> Type:
        """Replace bound parameters by what they stand for."""
        while one.variable and one in self._bound:
            one = self._bound[one]
        return Type(one.name, tuple(map(self.resolve, one.params))) if one.params else one

    def final(self, one: Type) -> Type:
        """Replace all parameters, unbound ones by `dyn`."""
        one = self.resolve(one)
        if one.variable:
            return DYN
        return Type(one.name, tuple(map(self.final, one.params))) if one.params else one

    def assign_all(self, targets: tuple[Type, ...], sources: tuple[Type, ...]) -> bool:
        """Assign each source to its target, or change nothing."""
        if len(targets) != len(sources):
            return False
        before = dict(self._bound)
        if all(self._assign(target, source) for target, source in zip(targets, sources, strict=True)):
            return True
        self._bound = before
        return False

    def join(self, first: Type, second: Type) -> Type | None:
        """Find the type that holds both, None where there is none."""
        if not self.assign_all((first,), (second,)):
            return None
        return self._more_general(first, second)

    def _assign(self, target: Type, source: Type) -> bool:
        target, source = self._head(target), self._head(source)
        if target == source:
            return True
        for variable, other in ((source, target), (target, source)):
            if variable.variable:
                return self._bind(variable, other)
        if DYN in (target, source) or (source == NULL and target.name in _NULLABLE):
            return True
        return (
            target.name == source.name
            and len(target.params) == len(source.params)
            and all(map(self._assign, target.params, source.params))
        )

    def _head(self, one: Type) -> Type:
        # A parameter bound to another one is followed; the last of a chain carries the binding.
        while one.variable and (bound := self._bound.get(one)) is not None and bound.variable:
            one = bound
        return one

    def _bind(self, variable: Type, other: Type) -> bool:
        bound = self._bound.get(variable)
        if bound is None:
            if self._mentions(other, variable):
                return False
            self._bound[variable] = other
            return True
        if not self._assign(bound, other):
            return False
        general = self._more_general(other, bound)
        if not self._mentions(general, variable):
            self._bound[variable] = general
        return True

    def _mentions(self, one: Type, variable: Type) -> bool:
        one = self.resolve(one)
        return one == variable or any(self._mentions(param, variable) for param in one.params)

    def _more_general(self, first: Type, second: Type) -> Type:
        first, second = self.resolve(first), self.resolve(second)
        if DYN in (first, second):
            return DYN
        if first.variable or second.variable:
            return second if first.variable else first
        if first.name == second.name and len(first.params) == len(second.params):
            return Type(first.name, tuple(map(self._more_general, first.params, second.params)))
        return first
