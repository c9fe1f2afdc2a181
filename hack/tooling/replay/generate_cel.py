"""Random selectors, made from the types and overloads that the reference itself lists.

Purpose: each overload is called a few times on purpose, with values at the edges and beyond, and all of them
at random inside larger expressions; macros, optionals, paths into the device and damaged text besides.

Flow: `Grammar.probes` gives expressions with their types; the reference says which value those have that need
no device; `Grammar.selector` makes the true-or-false question of each: "is it that value?".

Limits: everything follows from the seed and the environment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tooling.replay import cel_pools as pools
from tooling.replay.cel_forms import FORMS
from tooling.replay.cel_macros import Macros
from tooling.replay.cel_types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    INTERNAL,
    QUANTITY,
    SEMVER,
    STRING,
    TIMESTAMP,
    UINT,
    CelType,
    Overload,
    Probe,
    list_of,
    overloads,
)
from tooling.replay.cel_values import Values, wrap

TIMES = 6
"""How often each overload is called on purpose: half of them with values that it mostly accepts."""

_ANY = (INT, INT, STRING, STRING, DOUBLE, BOOL, UINT, BYTES, DURATION, TIMESTAMP, QUANTITY, SEMVER, DYN)
_KEYS = (STRING, STRING, INT, BOOL, UINT)
_JUNK = (*"()[]{}.,?:&|!=<>+-*/%\"'\\`@#$;~^ \n", "", "", "&&", "in", " x ", "//", "u", "1", "é")
_SMALL = ("0", "1", "2", "3", "-1", "5", "100")


class Grammar:
    """Makes expressions of a wanted type."""

    def __init__(self, environment: Mapping[str, Any], rng: random.Random) -> None:
        self.rng = rng
        self.overloads = [one for one in overloads(environment) if one.id not in INTERNAL]
        self._tame = False
        self._scope: list[tuple[str, CelType]] = []
        self._values = Values(self, rng)
        self._macros = Macros(self, rng)

    def probes(self, count: int) -> Iterator[Probe]:
        """At least `count` probes, each overload called on purpose `TIMES` times."""
        made = 0
        for overload in self.overloads:
            for time in range(TIMES):
                yield self.targeted(overload, depth=1 if time % 2 else 2, tame=time % 2 == 1)
                made += 1
        for form in FORMS:
            yield Probe(form, BOOL)
            made += 1
        while made < count:
            kind = self.rng.choice(_ANY)
            yield Probe(self.expression(kind, self.rng.randrange(2, 5)), kind)
            made += 1

    def targeted(self, overload: Overload, *, depth: int, tame: bool) -> Probe:
        """A call of one overload; a tame one leaves out what is damaged or of the wrong type."""
        self._tame = tame
        try:
            return self._targeted(overload, depth)
        finally:
            self._tame = False

    def _targeted(self, overload: Overload, depth: int) -> Probe:
        if overload.function.startswith(("@", "cel.@")):
            return self._macros.behind(overload)
        types = self._bind(overload, {})
        text = self._call(overload, types, depth)
        return Probe(text, overload.result.bound(types))

    def expression(self, wanted: CelType, depth: int) -> str:
        """An expression of a type (or, at times, one that only may have it)."""
        known = [name for name, kind in self._scope if kind == wanted]
        if known and self.rng.random() < 0.5:
            return self.rng.choice(known)
        made = "" if depth <= 0 else self._composed(wanted, depth)
        return made or self._values.literal(wanted)

    def _composed(self, wanted: CelType, depth: int) -> str:
        roll = self.rng.random()
        if roll < 0.2:
            return ""
        if roll < 0.3:
            return self._values.from_device(wanted)
        if roll < 0.36:
            condition = self.expression(BOOL, depth - 1)
            return (
                f"({condition} ? {self.expression(wanted, depth - 1)} : {self.expression(wanted, depth - 1)})"
            )
        if roll < 0.52 and (made := self._macros.expression(wanted, depth)):
            return made
        if roll < 0.6 and wanted == BOOL:
            operator = self.rng.choice(("&&", "||"))
            return f"({self.expression(BOOL, depth - 1)} {operator} {self.expression(BOOL, depth - 1)})"
        fitting = []
        for one in self.overloads:
            types: dict[str, CelType] = {}
            rather_not = one.function.startswith(("@s", "cel.@")) or (
                one.result.is_parameter and self.rng.random() < 0.7
            )
            if not rather_not and one.result.matches(wanted, types):
                fitting.append((one, types))
        if not fitting:
            return ""
        overload, types = self.rng.choice(fitting)
        return self._call(overload, self._bind(overload, types), depth)

    def scoped(self, variables: Sequence[tuple[str, CelType]], make: Callable[[], str]) -> str:
        """What `make` gives while some variables can be used."""
        self._scope += variables
        try:
            return make()
        finally:
            del self._scope[len(self._scope) - len(variables) :]

    def any_type(self) -> CelType:
        """A type for what may be of any."""
        return self.rng.choice(_ANY) if self.rng.random() < 0.9 else list_of(self.rng.choice(_ANY))

    def selector(self, probe: Probe, value: str | None) -> str:
        """A whole selector about a probe, whose value the reference gave if it has one."""
        text = self._asked(probe, value)
        roll = self.rng.random()
        if roll < 0.05:
            return self._broken(text)
        if roll < 0.10:
            return self._spread(text)
        return text

    def _asked(self, probe: Probe, value: str | None) -> str:
        text = probe.text
        if probe.type == BOOL and self.rng.random() < 0.8:
            return text
        if value is None or self.rng.random() < 0.2:
            return wrap(text, probe.type, self, self.rng)
        form = self.rng.choice(
            (
                *(
                    "{} == {}",
                    "{} == {}",
                    "{} == {}",
                    "{} != {}",
                    "{} in [{}]",
                    "[{}] == [{}]",
                    "dyn({}) == {}",
                ),
                *(
                    "{} == dyn({})",
                    "{{1: {}}} == {{1: {}}}",
                    "optional.of({}) == optional.of({})",
                    "[{1}] == [{0}]",
                ),
            )
        )
        return form.format(text, value)

    def _bind(self, overload: Overload, types: dict[str, CelType]) -> dict[str, CelType]:
        for argument in overload.arguments:
            for name in sorted(argument.names() - set(types)):
                is_key = argument.name == "map" and argument.parameters[0].name == name
                types[name] = self.rng.choice(_KEYS) if is_key else self.any_type()
        for name in sorted(overload.result.names() - set(types)):
            types[name] = self.any_type()
        return types

    def _call(self, overload: Overload, types: Mapping[str, CelType], depth: int) -> str:
        if overload.id == "string_format":
            return self._formatted(depth)
        arguments = [
            self._argument(overload, place, one.bound(types), depth)
            for place, one in enumerate(overload.arguments)
        ]
        return written(overload, arguments, self.rng)

    def _argument(self, overload: Overload, place: int, kind: CelType, depth: int) -> str:
        if kind == STRING and self.rng.random() < 0.75:
            pool = _pool(overload, place)
            if self._tame:
                return pools.quoted(self.rng.choice(pool[: pools.GOOD]), self.rng)
            return pools.quoted(pools.damaged(self.rng.choice(pool), self.rng), self.rng)
        if kind == INT and place and overload.member and self.rng.random() < 0.85:
            return self.rng.choice(_SMALL)
        if overload.id == "lists_range":
            return self.rng.choice(("0", "1", "3", "10", "-1", "1000001"))
        if not self._tame and self.rng.random() < 0.06:
            return f"dyn({self.expression(self.any_type(), depth - 1)})"
        return self.expression(kind, depth - 1)

    def _formatted(self, depth: int) -> str:
        text = pools.damaged(self.rng.choice(pools.FORMATS), self.rng)
        verbs = max(0, text.replace("%%", "").count("%") + self.rng.choice((0, 0, 0, 0, 1, -1)))
        values = ", ".join(
            f"dyn({self.expression(self.any_type(), min(depth, 2) - 1)})" for _ in range(verbs)
        )
        return f"{pools.quoted(text, self.rng)}.format([{values}])"

    def _broken(self, text: str) -> str:
        place = self.rng.randrange(len(text) + 1)
        junk: str = self.rng.choice(_JUNK)
        return text[:place] + junk + text[place + self.rng.randrange(2) :]

    def _spread(self, text: str) -> str:
        if self.rng.random() < 0.5:
            return f"{'(' * 3}{text}{')' * 3}"
        return self.rng.choice(
            ("{} ", " {}", "\n{}\n", "{} // said", "\t{}", "!!({})", "({}) || 1/0 > 0", "1/0 > 0 || ({})")
        ).format(text)


def written(overload: Overload, arguments: Sequence[str], rng: random.Random) -> str:
    """A call as CEL writes it: an operator, a method, or a function."""
    name = overload.function
    if name == "_?_:_":
        return "({} ? {} : {})".format(*arguments)
    if name in {"_[_]", "_[?_]"}:
        return ("{}[{}]" if name == "_[_]" else "{}[?{}]").format(_receiver(arguments[0]), arguments[1])
    if name == "_?._":
        field = rng.choice(("a", "b", "model", "index", "memory", "nope"))
        return f"{_receiver(arguments[0])}.?{field}"
    if name == "@in":
        return f"({arguments[0]} in {arguments[1]})"
    if name.startswith("_") and name.endswith("_"):
        return f"({arguments[0]} {name[1:-1]} {arguments[1]})"
    if name in {"!_", "-_"}:
        return f"{name[0]}({arguments[0]})"
    if overload.member:
        return f"{_receiver(arguments[0])}.{name}({', '.join(arguments[1:])})"
    return f"{name}({', '.join(arguments)})"


def _receiver(text: str) -> str:
    return f"({text})" if text[:1] in "-!0123456789." else text


def _pool(overload: Overload, place: int) -> Sequence[str]:
    named = _BY_FUNCTION.get((overload.function, place))
    if named is not None:
        return named
    if place == 1 and overload.arguments[0] == TIMESTAMP:
        return pools.ZONES
    return pools.SEPARATORS if place and overload.member else pools.WORDS


_BY_FUNCTION: dict[tuple[str, int], Sequence[str]] = {
    ("quantity", 0): pools.QUANTITIES,
    ("isQuantity", 0): pools.QUANTITIES,
    ("semver", 0): pools.VERSIONS,
    ("isSemver", 0): pools.VERSIONS,
    ("ip", 0): pools.ADDRESSES,
    ("isIP", 0): pools.ADDRESSES,
    ("ip.isCanonical", 0): pools.ADDRESSES,
    ("containsIP", 1): pools.ADDRESSES,
    ("cidr", 0): pools.NETWORKS,
    ("isCIDR", 0): pools.NETWORKS,
    ("containsCIDR", 1): pools.NETWORKS,
    ("url", 0): pools.URLS,
    ("isURL", 0): pools.URLS,
    ("duration", 0): pools.DURATIONS,
    ("timestamp", 0): pools.TIMES,
    ("int", 0): pools.NUMBERS,
    ("uint", 0): pools.NUMBERS,
    ("double", 0): pools.NUMBERS,
    ("bool", 0): pools.BOOLS,
    ("matches", 1): pools.PATTERNS,
    ("find", 1): pools.PATTERNS,
    ("findAll", 1): pools.PATTERNS,
    ("validate", 1): (*pools.NAMES, *pools.URLS, *pools.TIMES),
    ("format.named", 0): pools.FORMAT_NAMES,
}
