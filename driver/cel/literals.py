"""What is wrong with constants.

Purpose: errors that can be seen without a device: lists of different things, a pattern that is none,
`int("A100")`; and the values of calls that are constant, so that they are computed once.

Flow: the checker notes literals and calls as it passes them; `check` looks at them when all types are
known.

Limits: what the reference finds when it compiles, no more; `1 / 0` is found by evaluating.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.cel.budget import MAX_PATTERN_INSTRUCTIONS
from driver.cel.errors import (
    EvaluationError,
    InvalidSelectorError,
    PanicError,
    SelectorNotSupportedError,
)
from driver.cel.library import Entry
from driver.cel.library.regexes import compiled
from driver.cel.syntax import Call, Index, ListLiteral, Literal, MapLiteral, Node, children
from driver.cel.types import Type
from driver.cel.values import kind_of, make_map, no_overload

_ABSENT = object()
_KEYS = frozenset({"string", "int", "uint", "double", "bool"})
PATTERN_FUNCTIONS = frozenset({"matches", "find", "findAll"})
"""Functions whose second argument is a regular expression."""
EXEMPT = "format"
"""The function whose list may hold values of different types, however deep in its arguments they stand."""


class Literals:
    """The constants of one expression."""

    def __init__(self, source: str, constants: dict[Node, Any]) -> None:
        self._source = source
        self._constants = constants
        self._containers: list[ListLiteral | MapLiteral] = []
        self._calls: list[tuple[Call, tuple[Node, ...]]] = []
        self._indexes: list[Index] = []
        self._instructions = 0

    def add(self, node: ListLiteral | MapLiteral) -> None:
        """Note a list or map, after what it contains."""
        self._containers.append(node)

    def add_call(self, node: Call, arguments: tuple[Node, ...]) -> None:
        """Note a call, after its arguments; the value before the dot is the first of them."""
        self._calls.append((node, arguments))

    def add_index(self, node: Index) -> None:
        """Note an index whose key may be of a type that nothing can be indexed with."""
        if not isinstance(node.key, Literal) or isinstance(node.key.value, bytes):
            self._indexes.append(node)

    def check(self, types: Mapping[Node, Type], overloads: Mapping[Node, tuple[Entry, ...]]) -> None:
        """Look at all of them.

        Raises:
            InvalidSelectorError: One of them is wrong.
            SelectorNotSupportedError: Regular expressions are too large.
        """
        for node, arguments in self._calls:
            self._check_call(arguments, types, overloads[node])
            self._fold(node, arguments, overloads[node])
        if self._containers:
            self._check_containers(types)
        for index in self._indexes:
            key = self._constant(index.key)
            if key is not _ABSENT and kind_of(key) not in _KEYS:
                raise self._invalid(f"nothing can be indexed with a {kind_of(key)}", index)

    def _invalid(self, message: str, node: Node, remedy: str = "") -> InvalidSelectorError:
        return InvalidSelectorError(message, source=self._source, position=node.position, remedy=remedy)

    def _check_call(
        self, arguments: tuple[Node, ...], types: Mapping[Node, Type], entries: tuple[Entry, ...]
    ) -> None:
        shown = tuple(
            Literal(value, node.position)
            if not isinstance(node, Literal) and isinstance(value := self._constants.get(node), str)
            else node
            for node in arguments
        )
        for entry in entries:
            if entry.check is not None:
                # A pattern may be any constant; a format is looked at only where it stands as a literal.
                problem = entry.check(arguments if entry.name == EXEMPT else shown, lambda node: types[node])
                if problem is not None:
                    raise self._invalid(problem, arguments[-1])
                if entry.name in PATTERN_FUNCTIONS:
                    self._count_pattern(shown[1])

    def _count_pattern(self, node: Node) -> None:
        if isinstance(node, Literal) and isinstance(node.value, str):
            self._instructions += compiled(node.value).programsize
            if self._instructions > MAX_PATTERN_INSTRUCTIONS:
                raise SelectorNotSupportedError(
                    "regular expressions as large as these are not supported",
                    source=self._source,
                    position=node.position,
                    remedy="Count fewer repetitions, above all of classes such as \\pL.",
                )

    def _fold(self, node: Call, arguments: tuple[Node, ...], entries: tuple[Entry, ...]) -> None:
        if not any(entry.folds for entry in entries):
            return
        values = tuple(map(self._constant, arguments))
        if _ABSENT in values:
            return
        try:
            entry = next((one for one in entries if one.takes(values)), None)
            if entry is None:
                raise no_overload(node.function, *values)
            self._constants[node] = entry.run(*values)
        except EvaluationError as error:
            raise self._invalid(error.message, arguments[-1]) from None

    def _constant(self, node: Node) -> Any:
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, ListLiteral) and not node.optional:
            elements = [self._constant(element) for element in node.elements]
            return _ABSENT if any(element is _ABSENT for element in elements) else elements
        if isinstance(node, MapLiteral) and not node.optional:
            entries = [(self._constant(key), self._constant(value)) for key, value in node.entries]
            if any(key is _ABSENT or value is _ABSENT for key, value in entries):
                return _ABSENT
            try:
                return make_map(entries)
            except PanicError as error:
                raise self._invalid(str(error), node) from None
        return self._constants.get(node, _ABSENT)

    def _check_containers(self, types: Mapping[Node, Type]) -> None:
        exempt: set[Node] = set()
        for call, _ in self._calls:
            if call.function == EXEMPT:
                exempt.update(_below(call))
        for node in self._containers:
            if isinstance(node, ListLiteral):
                if node not in exempt:
                    self._one_type(node.elements, node.optional, types, "elements")
            else:
                if node not in exempt:
                    self._one_type([key for key, _ in node.entries], frozenset(), types, "keys")
                    self._one_type([value for _, value in node.entries], node.optional, types, "values")
                self._constant(node)

    def _one_type(
        self,
        nodes: list[Node] | tuple[Node, ...],
        optional: frozenset[int],
        types: Mapping[Node, Type],
        what: str,
    ) -> None:
        first: Type | None = None
        for place, node in enumerate(nodes):
            found = types[node]
            if place in optional:
                if not found.params:
                    raise self._invalid(
                        "the type of an optional element must be known when the selector is compiled", node
                    )
                found = found.params[0]
            if first is not None and found != first:
                raise self._invalid(
                    f"{what} of different types: {first} and {found}",
                    node,
                    "Make them of one type, as in string(x); dyn(x) for all of them compiles too.",
                )
            first = first or found


def _below(node: Node) -> list[Node]:
    found: list[Node] = []
    pending = [node]
    while pending:
        one = pending.pop()
        found.append(one)
        pending.extend(children(one))
    return found
