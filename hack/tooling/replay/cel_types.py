"""The types and overloads of the selectors' language, as the reference lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class CelType(NamedTuple):
    """A type; a parameter's name is in angle brackets."""

    name: str
    parameters: tuple[CelType, ...] = ()

    @property
    def is_parameter(self) -> bool:
        """Whether it stands for any type."""
        return self.name.startswith("<")

    def bound(self, types: Mapping[str, CelType]) -> CelType:
        """The type with its parameters replaced."""
        if self.is_parameter:
            return types[self.name]
        return CelType(self.name, tuple(one.bound(types) for one in self.parameters))

    def names(self) -> set[str]:
        """The parameters in it."""
        if self.is_parameter:
            return {self.name}
        return {name for one in self.parameters for name in one.names()}

    def matches(self, wanted: CelType, types: dict[str, CelType]) -> bool:
        """Whether it can be `wanted`, a type without parameters; binds parameters on the way."""
        if self.is_parameter:
            return types.setdefault(self.name, wanted) == wanted
        return (
            self.name == wanted.name
            and len(self.parameters) == len(wanted.parameters)
            and all(
                one.matches(other, types)
                for one, other in zip(self.parameters, wanted.parameters, strict=True)
            )
        )


def parse_type(text: str) -> CelType:
    """Read `map(string, list(<A>))`."""
    name, opened, rest = text.partition("(")
    if not opened:
        return CelType(name.strip())
    parts, depth, start = [], 0, 0
    inside = rest[:-1]
    for place, character in enumerate(inside):
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            parts.append(inside[start:place])
            start = place + 1
    parts.append(inside[start:])
    return CelType(name.strip(), tuple(parse_type(part.strip()) for part in parts))


@dataclass(frozen=True, slots=True)
class Overload:
    """One overload of a function."""

    function: str
    id: str
    member: bool
    arguments: tuple[CelType, ...]
    result: CelType


INTERNAL = frozenset({"@not_strictly_false", "conditional", "logical_and", "logical_or"})
"""Overloads that expressions use by macros or operators which the generator writes on its own."""


@dataclass(frozen=True, slots=True)
class Probe:
    """An expression whose value is asked for."""

    text: str
    type: CelType

    @property
    def free(self) -> bool:
        """Whether its value depends on no device."""
        return "device" not in self.text


def overloads(environment: Mapping[str, Any]) -> list[Overload]:
    """The overloads that an expression can reach, from what the reference lists."""
    found = []
    for one in environment["overloads"]:
        signature = (*(one["arguments"] or ()), one["result"])
        if any(part.startswith("kubernetes.authorization.") for part in signature):
            continue  # there is no authorizer variable in selectors
        found.append(
            Overload(
                one["function"],
                one["id"],
                one["member"],
                tuple(map(parse_type, one["arguments"] or ())),
                parse_type(one["result"]),
            )
        )
    return found


BOOL, INT, UINT, DOUBLE, STRING, BYTES, DYN = map(
    CelType, ("bool", "int", "uint", "double", "string", "bytes", "dyn")
)
DURATION, TIMESTAMP = CelType("google.protobuf.Duration"), CelType("google.protobuf.Timestamp")
QUANTITY, SEMVER = CelType("kubernetes.Quantity"), CelType("kubernetes.Semver")


def list_of(element: CelType) -> CelType:
    """The type of a list."""
    return CelType("list", (element,))


def map_of(key: CelType, value: CelType) -> CelType:
    """The type of a map."""
    return CelType("map", (key, value))


def optional_of(value: CelType) -> CelType:
    """The type of an optional."""
    return CelType("optional_type", (value,))
