"""Macros in generated selectors: comprehensions with one and two variables, bind, optionals, has, sortBy."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tooling.replay.cel_devices import DOMAINS, NAMES
from tooling.replay.cel_types import (
    BOOL,
    DYN,
    INT,
    STRING,
    CelType,
    Overload,
    Probe,
    list_of,
    map_of,
    optional_of,
)

if TYPE_CHECKING:
    from tooling.replay.generate_cel import Grammar

NAMED = (
    *("all", "exists", "exists_one", "existsOne", "filter", "map", "transformList", "transformMap"),
    *("transformMapEntry", "sortBy", "bind", "optMap", "optFlatMap", "has"),
)
_ONE = ("all", "exists", "exists_one")
_TWO = ("all", "exists", "exists_one", "existsOne")


class Macros:
    """Writes macros of a wanted type."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self._grammar, self._rng = grammar, rng
        self._count = 0

    def expression(self, wanted: CelType, depth: int) -> str:
        """A macro of that type, "" if there is none."""
        rng = self._rng
        if rng.random() < 0.15:
            return self._bind(wanted, depth)
        if wanted == BOOL:
            roll = rng.random()
            if roll < 0.15:
                return self._has()
            return self._quantified(depth, two=roll > 0.6)
        if wanted.name == "list":
            return self._list(wanted, depth)
        if wanted.name == "map":
            return self._map(wanted, depth)
        if wanted.name == "optional_type":
            return self._optional(wanted, depth)
        return ""

    def behind(self, overload: Overload) -> Probe:
        """A use of an overload that only a macro reaches."""
        if overload.function == "@sortByAssociatedKeys":
            key = overload.arguments[1].parameters[0]
            wanted = list_of(self._rng.choice((INT, STRING, key)))
            return Probe(self._sorted(wanted, key, 1), wanted)
        wanted = map_of(STRING, INT)
        return Probe(self._map(wanted, 1), wanted)

    def _name(self) -> str:
        self._count += 1
        return self._rng.choice(("x", "y", "i", f"v{self._count % 5}"))

    def _body(self, kind: CelType, depth: int, *variables: tuple[str, CelType]) -> str:
        return self._grammar.scoped(variables, lambda: self._grammar.expression(kind, depth - 1))

    def _source(self, depth: int) -> tuple[str, CelType, CelType]:
        """Something to walk over, with the types of its keys and values."""
        value = self._grammar.any_type()
        if self._rng.random() < 0.35:
            key = self._rng.choice((STRING, INT))
            return self._grammar.expression(map_of(key, value), depth - 1), key, value
        return self._grammar.expression(list_of(value), depth - 1), INT, value

    def _has(self) -> str:
        rng = self._rng
        domain, name = rng.choice(DOMAINS), rng.choice(NAMES)
        return rng.choice(
            (
                f'has(device.attributes["{domain}"].{name})',
                f'has(device.capacity["{domain}"].{name})',
                f"has(device.attributes.{rng.choice(('foo', 'none'))})",
                f'has({{"a": 1}}.{rng.choice("ab")})',
                "has(device.driver)",
                f'has(device.attributes[?"{domain}"].{name})',
                f'"{domain}" in device.attributes',
                f'"{name}" in device.attributes["{domain}"]',
                f'device.attributes["{domain}"].exists(k, k == "{name}")',
                f'device.attributes["{domain}"].all(k, v, k != "{name}" || v == v)',
                "device.attributes.size() > 1",
            )
        )

    def _quantified(self, depth: int, *, two: bool) -> str:
        source, key, value = self._source(depth)
        first = self._name()
        if two:
            second = "w" if self._rng.random() < 0.97 else first
            body = self._body(BOOL, depth, (first, key), (second, value))
            return f"{source}.{self._rng.choice(_TWO)}({first}, {second}, {body})"
        walked = value if not source.startswith("{") else key
        return f"{source}.{self._rng.choice(_ONE)}({first}, {self._body(BOOL, depth, (first, walked))})"

    def _bind(self, wanted: CelType, depth: int) -> str:
        kind = self._grammar.any_type()
        name = self._name() if self._rng.random() < 0.96 else "device"
        value = self._grammar.expression(kind, depth - 1)
        return f"cel.bind({name}, {value}, {self._body(wanted, depth, (name, kind))})"

    def _list(self, wanted: CelType, depth: int) -> str:
        rng = self._rng
        (element,) = wanted.parameters
        form = rng.randrange(6)
        name = self._name()
        if form == 0:
            source = self._grammar.expression(wanted, depth - 1)
            return f"{source}.filter({name}, {self._body(BOOL, depth, (name, element))})"
        if form == 1:
            return self._sorted(wanted, rng.choice((INT, STRING)), depth)
        source, key, value = self._source(depth)
        if form in {2, 3}:
            second = "w"
            variables = ((name, key), (second, value))
            test = f"{self._body(BOOL, depth, *variables)}, " if form == 3 else ""
            return f"{source}.transformList({name}, {second}, {test}{self._body(element, depth, *variables)})"
        inner = self._grammar.any_type()
        source = self._grammar.expression(list_of(inner), depth - 1)
        test = f"{self._body(BOOL, depth, (name, inner))}, " if form == 4 else ""
        return f"{source}.map({name}, {test}{self._body(element, depth, (name, inner))})"

    def _sorted(self, wanted: CelType, key: CelType, depth: int) -> str:
        name = self._name()
        source = self._grammar.expression(wanted, depth - 1)
        by = name if wanted.parameters[0] == key and self._rng.random() < 0.5 else ""
        return f"{source}.sortBy({name}, {by or self._body(key, depth, (name, wanted.parameters[0]))})"

    def _map(self, wanted: CelType, depth: int) -> str:
        key, value = wanted.parameters
        rng = self._rng
        name, second = self._name(), "w"
        source_value = self._grammar.any_type()
        source = self._grammar.expression(map_of(key, source_value), depth - 1)
        variables = ((name, key), (second, source_value))
        test = f"{self._body(BOOL, depth, *variables)}, " if rng.random() < 0.4 else ""
        if rng.random() < 0.5:
            return f"{source}.transformMap({name}, {second}, {test}{self._body(value, depth, *variables)})"
        entry_key = name if rng.random() < 0.5 else self._body(key, depth, *variables)
        entry = f"{{{entry_key}: {self._body(value, depth, *variables)}}}"
        return f"{source}.transformMapEntry({name}, {second}, {test}{entry})"

    def _optional(self, wanted: CelType, depth: int) -> str:
        (value,) = wanted.parameters
        inner = self._grammar.any_type()
        name = self._name()
        if self._rng.random() < 0.2:
            domain = self._rng.choice(DOMAINS)
            source, inner = f'device.attributes["{domain}"].?{self._rng.choice(NAMES)}', DYN
        else:
            source = self._grammar.expression(optional_of(inner), depth - 1)
        if self._rng.random() < 0.5:
            return f"{source}.optMap({name}, {self._body(value, depth, (name, inner))})"
        return f"{source}.optFlatMap({name}, {self._body(wanted, depth, (name, inner))})"
