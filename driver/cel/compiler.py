"""From a checked tree to closures.

Purpose: evaluation without walking the tree again: each node becomes a function of the frame.

Flow: `compile_tree` gives one closure; it is called with a `Frame` for each device. An `EvaluationError`
that has no position yet gets that of the call it passes first.

Limits: one Python frame for each level of the tree, which the parser bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from driver.cel.budget import Budget
from driver.cel.checker import Checked
from driver.cel.device import DeviceView
from driver.cel.errors import EvaluationError
from driver.cel.library import Entry
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
from driver.cel.values import NONE, OptionalValue, find_key, kind_of, make_map, no_overload


@dataclass(frozen=True, slots=True)
class Frame:
    """What one evaluation works on."""

    device: DeviceView
    budget: Budget


Closure = Callable[[Frame], Any]

_DEVICE_FIELDS: dict[str, Closure] = {
    "driver": lambda frame: frame.device.driver,
    "attributes": lambda frame: frame.device.attributes,
    "capacity": lambda frame: frame.device.capacity,
    "allowMultipleAllocations": lambda frame: frame.device.allow_multiple_allocations,
}
# What Go cannot hash and therefore not look up in the set that it makes of a constant list.
_NOT_IN_SETS = frozenset({"semver", "bytes"})


def compile_tree(checked: Checked) -> Closure:
    """Turn a checked tree into a function."""
    return _Compiler(checked).compile(checked.tree)


def _absent_key(key: object, position: int) -> EvaluationError:
    return EvaluationError(f"no such key: {key}", position=position)


def _find(container: Any, key: Any, position: int) -> OptionalValue:
    kind = kind_of(container)
    if kind == "map":
        return find_key(container, key)
    if kind == "list":
        key_kind = kind_of(key)
        if key_kind not in {"int", "uint", "double"} or key != int(key):
            raise EvaluationError(f"a list cannot be indexed with a {key_kind}", position=position)
        if 0 <= key < len(container):
            return OptionalValue(present=True, value=container[int(key)])
        return NONE
    raise EvaluationError(f"no such overload: a {kind} has no fields or elements", position=position)


class _Compiler:
    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    def compile(self, node: Node) -> Closure:
        match node:
            case Literal(value=value):
                return lambda _frame: value
            case Ident():
                return lambda frame: frame.device
            case Select():
                return self._select(node)
            case Index():
                return self._element(node.operand, self.compile(node.key), node, optional=node.optional)
            case Call():
                return self._call(node)
            case Logic():
                return self._logic(node)
            case Ternary():
                return self._ternary(node)
            case ListLiteral(elements=elements):
                parts = tuple(map(self.compile, elements))
                return lambda frame: [part(frame) for part in parts]
            case MapLiteral(entries=entries):
                pairs = tuple((self.compile(key), self.compile(value)) for key, value in entries)
                return lambda frame: make_map([(key(frame), value(frame)) for key, value in pairs])
            case _:
                raise AssertionError(node)

    def _select(self, node: Select) -> Closure:
        if isinstance(node.operand, Ident):
            read = _DEVICE_FIELDS[node.field]
            if node.test:
                return lambda _frame: True
            return (lambda frame: OptionalValue(present=True, value=read(frame))) if node.optional else read
        field = node.field
        if node.test:
            return self._has(node)
        return self._element(node.operand, lambda _frame: field, node, optional=node.optional)

    def _has(self, node: Select) -> Closure:
        operand, field, position = self.compile(node.operand), node.field, node.position

        def has(frame: Frame) -> Any:
            container = operand(frame)
            if type(container) is OptionalValue:
                # Through an optional, what has no fields at all simply lacks this one.
                if not container.present or kind_of(container.value) != "map":
                    return False
                container = container.value
            if kind_of(container) != "map":
                raise EvaluationError(f"a {kind_of(container)} has no fields", position=position)
            return find_key(container, field).present

        return has

    def _element(self, container: Node, key: Closure, node: Select | Index, *, optional: bool) -> Closure:
        operand, position = self.compile(container), node.position
        only_maps = isinstance(node, Select)

        def element(frame: Frame) -> Any:
            holder = operand(frame)
            wanted = key(frame)
            if type(holder) is dict and type(wanted) is str and not optional:
                try:
                    return holder[wanted]
                except KeyError:
                    raise _absent_key(wanted, position) from None
            chained = type(holder) is OptionalValue
            if chained:
                if not holder.present:
                    return NONE
                holder = holder.value
            if only_maps and kind_of(holder) != "map":
                raise EvaluationError(f"a {kind_of(holder)} has no field {wanted}", position=position)
            found = _find(holder, wanted, position)
            if optional or chained:
                return found
            if not found.present:
                raise _absent_key(wanted, position)
            return found.value

        return element

    def _logic(self, node: Logic) -> Closure:
        operands = tuple(map(self.compile, node.operands))
        decisive = node.operator == "||"

        def logic(frame: Frame) -> Any:
            error: EvaluationError | None = None
            for operand in operands:
                try:
                    value = operand(frame)
                except EvaluationError as raised:
                    error = error or raised
                    continue
                if value is decisive:
                    return decisive
                if type(value) is not bool:
                    error = error or EvaluationError(
                        f"no such overload: {node.operator} with a {kind_of(value)}", position=node.position
                    )
            if error is not None:
                raise error
            return not decisive

        return logic

    def _ternary(self, node: Ternary) -> Closure:
        condition, yes, no = self.compile(node.condition), self.compile(node.yes), self.compile(node.no)
        position = node.position

        def ternary(frame: Frame) -> Any:
            decision = condition(frame)
            if type(decision) is not bool:
                raise EvaluationError(
                    f"a condition must be a bool, not a {kind_of(decision)}", position=position
                )
            return yes(frame) if decision else no(frame)

        return ternary

    def _call(self, node: Call) -> Closure:
        nodes = node.args
        if node.target is not None and node not in self._checked.global_calls:
            nodes = (node.target, *nodes)
        if node.function == "_in_" and (special := self._in_constants(node)) is not None:
            return special
        args = tuple(map(self.compile, nodes))
        entries = self._checked.overloads[node]
        if entries[0].lazy:
            return _lazy(entries[0], args, node.position)
        if len(entries) == 1 and self._statically_fits(entries[0], nodes):
            return _direct(entries[0], args, node.position)
        return _dispatched(entries, args, node)

    def _statically_fits(self, entry: Entry, nodes: tuple[Node, ...]) -> bool:
        return all(
            parameter.variable or parameter.name == self._checked.types[node].name
            for parameter, node in zip(entry.parameters, nodes, strict=True)
        )

    def _in_constants(self, node: Call) -> Closure | None:
        # The reference turns a constant list into a set when it plans the program; two things follow that a
        # device can see: nothing is looked at for an empty list, and what cannot be hashed raises.
        value_node, listed = node.args
        if not isinstance(listed, ListLiteral):
            return None
        if not listed.elements:
            return lambda _frame: False
        kinds = {kind_of(one.value) if isinstance(one, Literal) else "" for one in listed.elements}
        if kinds & {"", "bytes", "null_type"}:
            return None
        value = self.compile(value_node)
        elements = [one.value for one in listed.elements if isinstance(one, Literal)]
        words = frozenset(one for one in elements if isinstance(one, str))
        plain = self._checked.overloads[node][0].run

        def contained(frame: Frame) -> bool:
            candidate = value(frame)
            if type(candidate) is str:
                return candidate in words
            if kind_of(candidate) in _NOT_IN_SETS:
                raise EvaluationError(
                    f"a {kind_of(candidate)} cannot be looked up in a constant list", position=node.position
                )
            return bool(plain(candidate, elements))

        return contained


def _direct(entry: Entry, args: tuple[Closure, ...], position: int) -> Closure:
    run, cost = entry.run, entry.cost
    if cost is None and len(args) == 2:
        first, second = args

        def binary(frame: Frame) -> Any:
            try:
                return run(first(frame), second(frame))
            except EvaluationError as error:
                raise _placed(error, position) from None

        return binary

    def call(frame: Frame) -> Any:
        values = [arg(frame) for arg in args]
        if cost is not None:
            frame.budget.charge(cost(*values))
        try:
            return run(*values)
        except EvaluationError as error:
            raise _placed(error, position) from None

    return call


def _lazy(entry: Entry, args: tuple[Closure, ...], position: int) -> Closure:
    run = entry.run
    operand, other = args

    def call(frame: Frame) -> Any:
        value = operand(frame)
        try:
            return run(value, lambda: other(frame))
        except EvaluationError as error:
            raise _placed(error, position) from None

    return call


def _dispatched(entries: tuple[Entry, ...], args: tuple[Closure, ...], node: Call) -> Closure:
    def call(frame: Frame) -> Any:
        values = tuple(arg(frame) for arg in args)
        for entry in entries:
            if entry.takes(values):
                if entry.cost is not None:
                    frame.budget.charge(entry.cost(*values))
                try:
                    return entry.run(*values)
                except EvaluationError as error:
                    raise _placed(error, node.position) from None
        raise _placed(no_overload(node.function, *values), node.position)

    return call


def _placed(error: EvaluationError, position: int) -> EvaluationError:
    if error.position is None:
        error.position = position
    return error
