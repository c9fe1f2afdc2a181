"""Literals of each type, paths into the device, and questions about a value."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tooling.replay import cel_pools as pools
from tooling.replay.cel_devices import AMOUNTS, DOMAINS, NAMES
from tooling.replay.cel_types import BOOL, DYN, INT, QUANTITY, STRING, CelType, list_of

if TYPE_CHECKING:
    from tooling.replay.generate_cel import Grammar

_PLAIN = {
    "bool": ("true", "false"),
    "int": pools.INTS,
    "uint": pools.UINTS,
    "double": pools.DOUBLES,
    "bytes": pools.BYTES,
    "null_type": ("null",),
    "type": (
        "int",
        "string",
        "type(1.5)",
        "type(null)",
        "list",
        "map",
        "type",
        "bool",
        "type(optional.none())",
    ),
    "kubernetes.NamedFormat": tuple(
        f"format.{name}()" for name in pools.FORMAT_NAMES if name not in {"nothing", "", "UUID"}
    ),
}
_MADE = {
    "google.protobuf.Duration": ("duration", pools.DURATIONS),
    "google.protobuf.Timestamp": ("timestamp", pools.TIMES),
    "kubernetes.Quantity": ("quantity", pools.QUANTITIES),
    "kubernetes.Semver": ("semver", pools.VERSIONS),
    "kubernetes.URL": ("url", pools.URLS),
    "net.IP": ("ip", pools.ADDRESSES),
    "net.CIDR": ("cidr", pools.NETWORKS),
}


class Values:
    """Writes values."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self._grammar, self._rng = grammar, rng

    def literal(self, wanted: CelType) -> str:
        """A value of a type."""
        rng = self._rng
        plain = _PLAIN.get(wanted.name)
        if plain:
            return rng.choice(plain)
        if wanted.name in _MADE:
            function, pool = _MADE[wanted.name]
            text = (
                rng.choice(pool[: pools.GOOD])
                if rng.random() < 0.92
                else pools.damaged(rng.choice(pool), rng)
            )
            return f"{function}({pools.quoted(text, rng)})"
        if wanted.name == "list":
            return self._list(wanted.parameters[0])
        if wanted.name == "map":
            return self._map(*wanted.parameters)
        if wanted.name == "optional_type":
            (value,) = wanted.parameters
            return "optional.none()" if rng.random() < 0.3 else f"optional.of({self.literal(value)})"
        if wanted == DYN:
            return (
                self.from_device(DYN)
                if rng.random() < 0.6
                else f"dyn({self.literal(self._grammar.any_type())})"
            )
        return pools.quoted(pools.damaged(rng.choice(pools.WORDS), rng), rng)

    def _list(self, element: CelType) -> str:
        rng = self._rng
        parts = [self._grammar.expression(element, 0) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))]
        if parts and rng.random() < 0.3:
            parts.append(rng.choice(parts))
        if rng.random() < 0.05:
            parts.append(f"?optional.of({self.literal(element)})")
        return f"[{', '.join(parts)}{',' if parts and rng.random() < 0.05 else ''}]"

    def _map(self, key: CelType, value: CelType) -> str:
        rng = self._rng
        keys = list(dict.fromkeys(self._key(key) for _ in range(rng.randrange(4))))
        parts = [f"{one}: {self._grammar.expression(value, 0)}" for one in keys]
        if rng.random() < 0.05:
            parts.append(f"?{self._key(key)}: optional.of({self.literal(value)})")
        return f"{{{', '.join(parts)}}}"

    def _key(self, kind: CelType) -> str:
        if kind == STRING:
            return self._rng.choice(('"a"', '"b"', '"c"', '"model"', '""'))
        if kind == INT:
            return self._rng.choice(("0", "1", "2", "-1"))
        return self.literal(kind)

    def from_device(self, wanted: CelType) -> str:
        """Something of the device; attributes may be of the type that is wanted, or not."""
        rng = self._rng
        domain = rng.choice((DOMAINS[0], DOMAINS[0], DOMAINS[0], *DOMAINS[1:]))
        if wanted == QUANTITY:
            return self._path("capacity", domain, rng.choice(AMOUNTS))
        if wanted == STRING and rng.random() < 0.3:
            return "device.driver"
        if wanted == BOOL and rng.random() < 0.3:
            return "device.allowMultipleAllocations"
        name = rng.choice(_LIKELY.get(wanted, NAMES)) if rng.random() < 0.85 else rng.choice(NAMES)
        return self._path("attributes", domain, name)

    def _path(self, holder: str, domain: str, name: str) -> str:
        rng = self._rng
        form = rng.randrange(9)
        base = f"device.{holder}"
        if form == 0:
            return f'{base}["{domain}"]["{name}"]'
        if form == 1:
            return f'{base}[?"{domain}"].?{name}.orValue({self.literal(self._grammar.any_type())})'
        if form == 2:
            return f'{base}["{domain}"].?{name}.orValue({self.literal(self._grammar.any_type())})'
        if form == 3:
            return f'cel.bind(d, {base}["{domain}"], d.{name})'
        return f'{base}["{domain}"].{name}'


_LIKELY: dict[CelType, tuple[str, ...]] = {
    STRING: ("model", "zone", "empty"),
    INT: ("index", "big"),
    BOOL: ("healthy",),
    CelType("kubernetes.Semver"): ("driverVersion",),
    list_of(INT): ("links",),
    list_of(STRING): ("names",),
    list_of(BOOL): ("flags",),
    list_of(CelType("kubernetes.Semver")): ("versions",),
}

_QUESTIONS: dict[str, tuple[str, ...]] = {
    "int": ("{x} > {y}", "{x} % 3 == 1", "{x} <= {y}", "{x} in [{y}, {y}]", "{x} == 1.0"),
    "uint": ("{x} > {y}", "{x} == {y}", "{x} < 3"),
    "double": ("{x} > {y}", "{x} == {y}", "{x} >= 1", "string({x}) == string({y})"),
    "string": (
        "{x} == {y}",
        "size({x}) > 3",
        '{x}.contains("a")',
        "{x} < {y}",
        "{x}.startsWith({y})",
        "{x} in [{y}]",
    ),
    "bytes": ("{x} == {y}", "size({x}) > 2", "{x} < {y}"),
    "list": ("size({x}) == 2", "{x} == {y}", "{x}.exists(e, e == e)", "size({x}) > 0 && {x}[0] == {x}[0]"),
    "map": ("size({x}) == 1", "{x} == {y}", '"a" in {x}', "{x}.all(k, k == k)"),
    "optional_type": ("{x}.hasValue()", "{x} == {y}", "{x}.or({y}).hasValue()"),
    "google.protobuf.Duration": ("{x} == {y}", "{x} > {y}", 'string({x}) == "3600s"'),
    "google.protobuf.Timestamp": ("{x} == {y}", "{x} > {y}", "{x}.getFullYear() > 2000"),
    "kubernetes.Quantity": ("{x} == {y}", "{x}.compareTo({y}) > 0", "{x}.isInteger()", "sign({x}) == 1"),
    "kubernetes.Semver": ("{x} == {y}", "{x}.compareTo({y}) < 0", "{x}.major() == 1"),
    "dyn": ("{x} == {y}", "{x}", "{x} > {y}", "{x} in [{y}]", "type({x}) == int", "{x}.includes({y})"),
    "bool": ("{x}", "!{x}", "{x} == {y}", "{x} || {y}", "{x} && {y}", "{x} ? {y} : true"),
}


def wrap(text: str, kind: CelType, grammar: Grammar, rng: random.Random) -> str:
    """A question about a value that has true, false or an error for an answer."""
    question = rng.choice(_QUESTIONS.get(kind.name, ("{x} == {y}", "{x} != {y}", "[{x}] == [{y}]")))
    return question.replace("{x}", text).replace("{y}", grammar.expression(kind, 1))
