"""Does an expression make sense before it meets any device?

Purpose: CEL's type check, so that what the API server refuses is refused here, and so that overloads are
picked once instead of at each evaluation.

Flow: `check` walks the tree from the leaves up and gives a `Checked`: the type of each node and, for each
call, the overloads that may apply (more than one where a type is only known at run time).

Limits: names and functions of CEL that are not supported yet are refused as such. Lists and maps must
have elements of one type, as Kubernetes wants it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from driver.cel.environments import DEVICE_FIELDS, Environment
from driver.cel.errors import (
    EvaluationError,
    InvalidSelectorError,
    PositionedSelectorError,
    SelectorNotSupportedError,
)
from driver.cel.library import Entry
from driver.cel.library.later import NOT_YET, NOT_YET_NAMES, NOT_YET_SPACES
from driver.cel.library.regexes import compiled
from driver.cel.syntax import (
    Call,
    Ident,
    Index,
    ListLiteral,
    Literal,
    Logic,
    MapLiteral,
    Node,
    Select,
    Ternary,
)
from driver.cel.types import (
    BOOL,
    BYTES,
    DEVICE,
    DOUBLE,
    DYN,
    INT,
    NULL,
    STRING,
    UINT,
    Bindings,
    Type,
    list_of,
    map_of,
    optional_of,
)
from driver.cel.values import UInt

_LITERALS: dict[type, Type] = {
    type(None): NULL,
    bool: BOOL,
    int: INT,
    UInt: UINT,
    float: DOUBLE,
    str: STRING,
    bytes: BYTES,
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A tree that passed.

    Attributes:
        tree: The expression.
        types: Type of each node; `dyn` where only a device can tell.
        overloads: Candidates for each call.
        global_calls: Calls whose target is part of the function's name, as in `optional.of(x)`.
    """

    tree: Node
    types: dict[Node, Type]
    overloads: dict[Node, tuple[Entry, ...]]
    global_calls: frozenset[Node]


def check(tree: Node, *, source: str, environment: Environment) -> Checked:
    """Check the types of an expression.

    Raises:
        InvalidSelectorError: A type does not fit, or a name is unknown.
        SelectorNotSupportedError: It is valid CEL that is not supported yet.
    """
    checker = _Checker(source, environment)
    checker.visit(tree)
    return checker.finish(tree)


class _Checker:
    def __init__(self, source: str, environment: Environment) -> None:
        self._source = source
        self._environment = environment
        self._bindings = Bindings()
        self._types: dict[Node, Type] = {}
        self._overloads: dict[Node, tuple[Entry, ...]] = {}
        self._global: set[Node] = set()

    def finish(self, tree: Node) -> Checked:
        types = {node: self._bindings.final(one) for node, one in self._types.items()}
        for node in types:
            if isinstance(node, ListLiteral):
                self._require_one_type(node.elements, types, "elements")
            elif isinstance(node, MapLiteral):
                self._require_one_type((key for key, _ in node.entries), types, "keys")
                self._require_one_type((value for _, value in node.entries), types, "values")
        if types[tree] not in (BOOL, DYN):
            raise InvalidSelectorError(
                f"a selector must be true or false, but this is of type {types[tree]}",
                remedy="Compare it with something.",
            )
        return Checked(tree, types, self._overloads, frozenset(self._global))

    def _require_one_type(self, nodes: Iterable[Node], types: dict[Node, Type], what: str) -> None:
        first: Type | None = None
        for node in nodes:
            if first is not None and types[node] != first:
                raise self._invalid(f"{what} of different types: {first} and {types[node]}", node)
            first = types[node]

    def _invalid(self, message: str, node: Node) -> PositionedSelectorError:
        return InvalidSelectorError(message, source=self._source, position=node.position)

    def _later(self, what: str, node: Node) -> PositionedSelectorError:
        return SelectorNotSupportedError(
            f"{what} is not supported yet", source=self._source, position=node.position
        )

    def visit(self, node: Node) -> Type:
        match node:
            case Literal(value=value):
                result = _LITERALS[type(value)]
            case Ident():
                result = self._ident(node)
            case Select():
                result = self._select(node)
            case Index():
                result = self._index(node)
            case Call():
                result = self._call(node)
            case Logic():
                result = self._logic(node)
            case Ternary():
                result = self._ternary(node)
            case ListLiteral(elements=elements):
                result = list_of(self._joined(elements, "elements"))
            case MapLiteral():
                result = self._map(node)
        self._types[node] = result
        return result

    def _logic(self, node: Logic) -> Type:
        for operand in node.operands:
            self._require_bool(operand, f"an operand of {node.operator}")
        return BOOL

    def _require_bool(self, node: Node, what: str) -> None:
        found = self.visit(node)
        if not self._bindings.assign_all((BOOL,), (found,)):
            raise self._invalid(f"{what} must be a bool, but is of type {self._bindings.final(found)}", node)

    def _ident(self, node: Ident) -> Type:
        if node.name == "device":
            return DEVICE
        if node.name in NOT_YET_NAMES | NOT_YET_SPACES:
            raise self._later(f"{node.name!r} as a value", node)
        raise self._invalid(f"{node.name!r} is not declared; the only variable is 'device'", node)

    def _select(self, node: Select) -> Type:
        operand = self._bindings.resolve(self.visit(node.operand))
        optional = node.optional
        if operand.name == "optional":
            operand, optional = self._bindings.resolve(operand.params[0]), True
        if operand == DEVICE:
            if node.field not in DEVICE_FIELDS:
                raise self._invalid(
                    f"device has no field {node.field!r}, only {', '.join(DEVICE_FIELDS)}", node
                )
            found = DEVICE_FIELDS[node.field]
        elif operand.name == "map":
            found = operand.params[1]
        elif operand == DYN or operand.variable:
            found = DYN
        else:
            raise self._invalid(f"a value of type {operand} has no fields such as {node.field!r}", node)
        if node.test:
            return BOOL
        return optional_of(found) if optional else found

    def _index(self, node: Index) -> Type:
        operand = self._bindings.resolve(self.visit(node.operand))
        key = self.visit(node.key)
        optional = node.optional
        if operand.name == "optional":
            operand, optional = self._bindings.resolve(operand.params[0]), True
        if operand == DYN or operand.variable:
            found, wanted = DYN, DYN
        elif operand.name == "list":
            found, wanted = operand.params[0], INT
        elif operand.name == "map":
            found, wanted = operand.params[1], operand.params[0]
        else:
            raise self._invalid(f"a value of type {operand} cannot be indexed", node)
        if not self._bindings.assign_all((wanted,), (key,)):
            final = self._bindings.final
            raise self._invalid(
                f"an index must be of type {final(wanted)}, but is of type {final(key)}", node
            )
        return optional_of(found) if optional else found

    def _ternary(self, node: Ternary) -> Type:
        self._require_bool(node.condition, "a condition")
        yes, no = self.visit(node.yes), self.visit(node.no)
        parameter = self._bindings.fresh()
        if not self._bindings.assign_all((parameter, parameter), (yes, no)):
            final = self._bindings.final
            raise self._invalid(f"the two outcomes are of types {final(yes)} and {final(no)}", node)
        return self._bindings.resolve(parameter)

    def _joined(self, nodes: Iterable[Node], what: str) -> Type:
        result: Type | None = None
        for node in nodes:
            found = self.visit(node)
            joined = found if result is None else self._bindings.join(result, found)
            if joined is None:
                final = self._bindings.final
                raise self._invalid(
                    f"{what} of different types: {final(result or DYN)} and {final(found)}", node
                )
            result = joined
        return result or self._bindings.fresh()

    def _map(self, node: MapLiteral) -> Type:
        key = self._joined([one for one, _ in node.entries], "keys")
        return map_of(key, self._joined([one for _, one in node.entries], "values"))

    def _call(self, node: Call) -> Type:
        candidates = self._candidates(node)
        args = node.args
        if node.target is not None and node not in self._global:
            args = (node.target, *args)
        found = tuple(self.visit(arg) for arg in args)
        matching: list[Entry] = []
        result: Type | None = None
        for entry in candidates:
            *parameters, gives = self._bindings.instantiate((*entry.parameters, entry.result))
            if self._bindings.assign_all(tuple(parameters), found):
                matching.append(entry)
                gives = self._bindings.resolve(gives)
                result = gives if result is None or result == gives else DYN
        if result is None:
            kinds = ", ".join(str(self._bindings.final(one)) for one in found)
            raise self._invalid(f"{_spoken(node.function)} does not take ({kinds})", node)
        self._overloads[node] = tuple(matching)
        self._check_pattern(node)
        return result

    def _candidates(self, node: Call) -> tuple[Entry, ...]:
        name, overloads = node.function, self._environment.overloads
        space = _dotted(node.target) if node.target is not None else None
        if space is not None and space.split(".")[0] != "device":
            qualified = f"{space}.{name}"
            if found := overloads(qualified, method=False):
                self._global.add(node)
                return found
            if qualified in NOT_YET or space.split(".")[0] in NOT_YET_SPACES:
                raise self._later(f"{qualified}()", node)
        if found := overloads(name, method=node.target is not None):
            return found
        if name in NOT_YET:
            raise self._later(f"{name}()", node)
        kind = "method" if node.target is not None else "function"
        raise self._invalid(f"there is no {kind} {_spoken(name)}", node)

    def _check_pattern(self, node: Call) -> None:
        if node.function != "matches" or not isinstance(pattern := node.args[-1], Literal):
            return
        try:
            compiled(str(pattern.value))
        except EvaluationError as error:
            raise self._invalid(error.message, pattern) from None


def _dotted(node: Node) -> str | None:
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.optional and not node.test:
        space = _dotted(node.operand)
        return None if space is None else f"{space}.{node.field}"
    return None


def _spoken(name: str) -> str:
    return name.strip("_") if "_" in (name[0], name[-1]) and not name.isidentifier() else f"{name}()"
