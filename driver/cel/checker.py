"""Does an expression make sense before it meets any device?

Purpose: CEL's type check, so that what the API server refuses is refused here, and so that overloads are
picked once instead of at each evaluation.

Flow: `check` walks the tree from the leaves up and gives a `Checked`: the type of each node, for each call
the overloads that may apply (more than one where a type is only known at run time), and the values of
calls that are constant. `driver.cel.literals` has the checks that come after it.

Limits: errors stop the check: people get the first one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from driver.cel.environments import (
    INDEX,
    OPTIONAL_INDEX,
    TYPE_NAMES,
    TYPE_SPACES,
    Environment,
)
from driver.cel.errors import InvalidSelectorError
from driver.cel.hints import function_hint, nearest
from driver.cel.inference import is_dyn
from driver.cel.library import Entry
from driver.cel.literals import EXEMPT, Literals
from driver.cel.macro_types import MacroCheck
from driver.cel.syntax import (
    Bind,
    Call,
    Comprehension,
    Ident,
    Index,
    ListLiteral,
    Literal,
    Logic,
    MapLiteral,
    Node,
    OptionalMap,
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
    Type,
    list_of,
    map_of,
    optional_of,
)
from driver.cel.values import TypeValue, UInt

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
        constants: Values of nodes that are not literals but constant: `int("5")`, `net.IP`.
    """

    tree: Node
    types: dict[Node, Type]
    overloads: dict[Node, tuple[Entry, ...]]
    global_calls: frozenset[Node]
    constants: dict[Node, Any]


def check(tree: Node, *, source: str, environment: Environment) -> Checked:
    """Check the types of an expression.

    Raises:
        InvalidSelectorError: A type does not fit, a name is unknown, or a literal is wrong.
    """
    checker = _Checker(source, environment)
    checker.visit(tree)
    return checker.finish(tree)


class _Checker(MacroCheck):
    def __init__(self, source: str, environment: Environment) -> None:
        super().__init__(source, environment)
        self._overloads: dict[Node, tuple[Entry, ...]] = {}
        self._global: set[Node] = set()
        self._constants: dict[Node, Any] = {}
        self._literals = Literals(source, self._constants)

    def finish(self, tree: Node) -> Checked:
        types = self._types
        if self._bindings.used:
            final = self._bindings.final
            types = {node: final(one) if one.params or one.variable else one for node, one in types.items()}
        for node, found in self._read:
            if self._bindings.final(found).name == "type":
                raise self._invalid(
                    "a variable cannot stand for a type", node, "Use dyn(...) where it gets its value."
                )
        self._literals.check(types, self._overloads)
        if not self._environment.accepts_result(types[tree]):
            raise InvalidSelectorError(
                f"a selector must be true or false, but this is of type {types[tree]}",
                remedy="Compare it with something.",
            )
        return Checked(tree, types, self._overloads, frozenset(self._global), self._constants)

    def visit(self, node: Node) -> Type:
        result = _VISITORS[type(node)](self, node)
        self._types[node] = result
        return result

    # Names and fields

    def _literal(self, node: Literal) -> Type:
        return _LITERALS[type(node.value)]

    def _ident(self, node: Ident) -> Type:
        name = node.name.removeprefix(".")
        # Up to 1.36 a variable hides what stands behind a dot, too.
        found = self._variables.get(node.name if self._environment.newer_parser else name)
        if found is not None:
            self._read.append((node, found))
            return found
        if name == "device":
            return DEVICE
        if name in TYPE_NAMES and "." not in name:
            return self._type_name(node, name)
        known = ("device", *self._variables, *(one for one in TYPE_NAMES if "." not in one))
        remedy = nearest(name, known) or "Put quotes around it if it is a text."
        raise self._invalid(f"{name!r} is not declared", node, remedy)

    def _type_name(self, node: Node, name: str) -> Type:
        self._constants[node] = TypeValue(name)
        return Type("type", (TYPE_NAMES[name],))

    def _qualified(self, node: Select) -> Type | None:
        name = self._dotted(node)
        if name is None or name.split(".")[0] in self._variables or name not in TYPE_NAMES:
            return None
        return self._type_name(node, name)

    def _dotted(self, node: Node) -> str | None:
        parts: list[str] = []
        while isinstance(node, Select) and not node.optional and not node.test:
            parts.append(node.field)
            node = node.operand
        if not isinstance(node, Ident):
            return None
        parts.append(node.name.removeprefix("."))
        return ".".join(reversed(parts))

    def _select(self, node: Select) -> Type:
        base: Node = node.operand
        while isinstance(base, Select):
            base = base.operand
        if isinstance(base, Ident) and base.name.removeprefix(".") in TYPE_SPACES and not node.test:
            named = self._qualified(node)
            if named is not None:
                return named
        operand = self._bindings.resolve(self.visit(node.operand))
        optional = node.optional
        if operand.name == "optional":
            operand, optional = operand.params[0], True
        if operand == DEVICE:
            found = self._device_field(node)
        elif operand.name == "map":
            found = operand.params[1]
        elif operand.variable:
            self._bindings.assign(DYN, operand)
            found = DYN
        elif is_dyn(operand):
            found = DYN
        else:
            raise self._invalid(f"a value of type {operand} has no fields such as {node.field!r}", node)
        if node.test:
            return BOOL
        return optional_of(found) if optional else found

    def _device_field(self, node: Select) -> Type:
        fields = self._environment.device_fields
        if node.field not in fields:
            remedy = nearest(node.field, fields) or 'Attributes are in device.attributes["domain"].'
            raise self._invalid(f"device has no field {node.field!r}, only {', '.join(fields)}", node, remedy)
        return fields[node.field]

    # Operators

    def _index(self, node: Index) -> Type:
        found = (self.visit(node.operand), self.visit(node.key))
        resolution = self._resolve(OPTIONAL_INDEX if node.optional else INDEX, found, method=False)
        if resolution is None:
            operand, key = map(self._bindings.final, found)
            if operand.name in {"list", "map"}:
                wanted = INT if operand.name == "list" else operand.params[0]
                raise self._invalid(f"an index must be of type {wanted}, but is of type {key}", node)
            raise self._invalid(f"a value of type {operand} cannot be indexed", node)
        self._literals.add_index(node)
        return resolution[1]

    def _logic(self, node: Logic) -> Type:
        for operand in node.operands:
            self._require_bool(operand, f"an operand of {node.operator}")
        return BOOL

    def _require_bool(self, node: Node, what: str) -> None:
        found = self.visit(node)
        if found != BOOL and not self._bindings.assign(found, BOOL):
            raise self._invalid(f"{what} must be a bool, but is of type {self._bindings.final(found)}", node)

    def _ternary(self, node: Ternary) -> Type:
        self._require_bool(node.condition, "a condition")
        return self._either(node, self.visit(node.yes), self.visit(node.no))

    def _list(self, node: ListLiteral) -> Type:
        joined: Type | None = None
        for place, element in enumerate(node.elements):
            found = self.visit(element)
            if place in node.optional:
                found = self._unwrapped(element, found)
            joined = found if joined is None else self._joined(joined, found)
        self._literals.add(node)
        return list_of(joined or self._bindings.fresh())

    def _map(self, node: MapLiteral) -> Type:
        keys: Type | None = None
        values: Type | None = None
        for place, (key, value) in enumerate(node.entries):
            found = self.visit(key)
            keys = found if keys is None else self._joined(keys, found)
            found = self.visit(value)
            if place in node.optional:
                found = self._unwrapped(value, found)
            values = found if values is None else self._joined(values, found)
        self._literals.add(node)
        return map_of(keys or self._bindings.fresh(), values or self._bindings.fresh())

    def _joined(self, first: Type, second: Type) -> Type:
        return first if first == second else self._bindings.join(first, second)

    def _unwrapped(self, node: Node, found: Type) -> Type:
        if found.name == "optional":
            return found.params[0]
        if is_dyn(found):
            return found
        raise self._invalid(
            f"behind ? must stand an optional, but this is of type {self._bindings.final(found)}", node
        )

    # Calls

    def _call(self, node: Call) -> Type:
        arguments, target = node.args, node.target
        visit = self.visit
        method = target is not None
        name = node.function if method else node.function.removeprefix(".")
        known = (name, method) in self._environment.functions
        if not known and (target is None or name not in self._environment.spaces):
            # Where there is no such function at all, its arguments are of no interest.
            raise self._unknown(node, name, method=method)
        # Before the target, because what is looked at first binds type variables first.
        found = tuple([visit(argument) for argument in arguments])
        if target is None:
            return self._called(node, name, arguments, found)
        qualified = self._in_space(node, target)
        if qualified is not None:
            self._global.add(node)
            return self._called(node, qualified, arguments, found)
        return self._called(node, name, (target, *arguments), (visit(target), *found), method=True)

    def _in_space(self, node: Call, target: Node) -> str | None:
        if node.function not in self._environment.spaces:
            return None
        space = self._dotted(target)
        name = f"{space}.{node.function}"
        return name if space is not None and self._environment.overloads(name, method=False) else None

    def _called(
        self,
        node: Call,
        name: str,
        arguments: tuple[Node, ...],
        found: tuple[Type, ...],
        *,
        method: bool = False,
    ) -> Type:
        resolution = self._resolve(name, found, method=method)
        if resolution is None:
            raise self._no_match(node, name, found, method=method)
        self._overloads[node] = entries = resolution[0]
        for entry in entries:
            if entry.folds or entry.check is not None or name == EXEMPT:
                self._literals.add_call(node, arguments)
                break
        return resolution[1]

    def _unknown(self, node: Call, name: str, *, method: bool) -> InvalidSelectorError:
        kind = "method" if method else "function"
        remedy = function_hint(name, method=method, known=self._environment.functions)
        return self._invalid(f"there is no {kind} {_spoken(name)}", node, remedy)

    def _no_match(
        self, node: Call, name: str, found: tuple[Type, ...], *, method: bool
    ) -> InvalidSelectorError:
        if (name, method) not in self._environment.functions:
            return self._unknown(node, name, method=method)
        kinds = ", ".join(str(self._bindings.final(one)) for one in found)
        remedy = "Convert one side, as in double(x) or string(x)." if name[0] == "_" else ""
        return self._invalid(f"{_spoken(name)} does not take ({kinds})", node, remedy)

    VISITORS: ClassVar[dict[type, Callable[..., Type]]] = {
        Literal: _literal,
        Ident: _ident,
        Select: _select,
        Index: _index,
        Call: _call,
        Logic: _logic,
        Ternary: _ternary,
        ListLiteral: _list,
        MapLiteral: _map,
        Comprehension: MacroCheck.comprehension,
        Bind: MacroCheck.bind,
        OptionalMap: MacroCheck.optional_map,
    }


_VISITORS = _Checker.VISITORS


def _spoken(name: str) -> str:
    return name.strip("_") if "_" in (name[0], name[-1]) and not name.isidentifier() else f"{name}()"
