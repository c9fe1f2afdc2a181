"""The static types of expressions.

Purpose: types, and their notation in signatures.

Flow: the library's signatures are read with `parse_type`; `driver.cel.inference` decides what fits where.

Limits: the closed world of DRA selectors: no messages but `device`, no user types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Type:
    """A type such as `int`, `list(string)` or a type parameter.

    Attributes:
        name: Its name; for a parameter a letter, or `_7` once made fresh.
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
