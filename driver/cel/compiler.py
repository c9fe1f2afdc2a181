"""From a checked tree to closures.

Purpose: evaluation without walking the tree again: each node becomes a function of the frame.

Flow: `compile_tree` gives a `Program`; it is run with a `Frame` for each device. Costs that are certain
(`driver.cel.costing`) are charged where a branch begins, the others as they arise.

Limits: one or two Python frames for each level of the tree, which the parser bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from driver.cel import access, calls, loops
from driver.cel.checker import Checked
from driver.cel.costing import Costs
from driver.cel.device import DeviceView
from driver.cel.errors import EvaluationError
from driver.cel.frames import ABSORBED, UNSET, Closure, Failed, Frame, exhausted
from driver.cel.inference import is_dyn
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
from driver.cel.trust import Trust
from driver.cel.types import DEVICE, DYN
from driver.cel.values import NONE, OptionalValue, kind_of, make_map, no_overload


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What evaluates an expression.

    Attributes:
        slots: How many variables there are.
        cost: What it costs at least.
    """

    slots: int
    cost: int
    _closure: Closure

    def frame(self, device: DeviceView) -> Frame:
        """Begin an evaluation on a device."""
        return Frame(device, self.slots, self.cost)

    def run(self, frame: Frame) -> Any:
        """Evaluate; what is left of the frame's units says what it has cost.

        Raises:
            EvaluationError: The expression fails on this device.
            BudgetError: It costs too much.
        """
        result = self._closure(frame)
        if frame.left < 0:
            raise exhausted()
        return result


def compile_tree(checked: Checked) -> Program:
    """Turn a checked tree into a program."""
    compiler = _Compiler(checked)
    closure = compiler.compile(checked.tree)
    return Program(compiler.slots, compiler.costs.of(checked.tree), closure)


class _Compiler:
    def __init__(self, checked: Checked) -> None:
        self._checked = checked
        self._scope: dict[str, Closure] = {}
        self.slots = 0
        self.costs = Costs(checked)
        self._trust = Trust(checked)

    def compile(self, node: Node) -> Closure:
        constants = self._checked.constants
        if constants and node in constants:
            return _constant(constants[node])
        return _COMPILERS[type(node)](self, node)

    def _literal(self, node: Literal) -> Closure:
        return _constant(node.value)

    def _ident(self, node: Ident) -> Closure:
        name = node.name
        if name[0] == "." and self._checked.types[node] != DEVICE:
            # In releases where a variable hides what stands behind a dot.
            name = name[1:]
        return self._scope.get(name, access.whole_device)

    def _reads_device(self, node: Node) -> bool:
        return (
            isinstance(node, Ident) and node.name not in self._scope and self._checked.types[node] == DEVICE
        )

    def _select(self, node: Select) -> Closure:
        if self._reads_device(node.operand):
            return access.device_field(node)
        field = node.field
        if node.test:
            return access.has(self.compile(node.operand), field, node.position)
        return self._path(node) or access.element(
            self.compile(node.operand), _constant(field), node.position, optional=node.optional
        )

    def _path(self, node: Select | Index) -> Closure | None:
        path = access.device_path(node)
        if path is None or not self._reads_device(path[0]):
            return None
        return access.read_path(*path[1:], node.position)

    def _index(self, node: Index) -> Closure:
        return self._path(node) or access.element(
            self.compile(node.operand), self.compile(node.key), node.position, optional=node.optional
        )

    def _logic(self, node: Logic) -> Closure:
        first, *others = map(self.compile, node.operands)
        rest = tuple(zip(others, map(self.costs.of, node.operands[1:]), strict=True))
        decisive = node.operator == "||"
        position, operator = node.position, node.operator

        def logic(frame: Frame) -> Any:
            error: EvaluationError | None = None
            try:
                value = first(frame)
                if value is decisive:
                    return decisive
                if type(value) is not bool:
                    error = _no_bool(operator, value, position)
            except EvaluationError as raised:
                frame.left -= ABSORBED
                error = raised
            for operand, cost in rest:
                frame.left -= cost
                try:
                    value = operand(frame)
                except EvaluationError as raised:
                    frame.left -= ABSORBED
                    error = error or raised
                    continue
                if value is decisive:
                    return decisive
                if type(value) is not bool:
                    error = error or _no_bool(operator, value, position)
            if error is not None:
                raise error
            return not decisive

        return logic

    def _ternary(self, node: Ternary) -> Closure:
        condition, yes, no = self.compile(node.condition), self.compile(node.yes), self.compile(node.no)
        yes_cost, no_cost = self.costs.of_branch(node.yes), self.costs.of_branch(node.no)
        position = node.position

        def ternary(frame: Frame) -> Any:
            decision = condition(frame)
            if decision is True:
                frame.left -= yes_cost
                return yes(frame)
            if decision is False:
                frame.left -= no_cost
                return no(frame)
            raise EvaluationError(f"a condition must be a bool, not a {kind_of(decision)}", position=position)

        return ternary

    def _list(self, node: ListLiteral) -> Closure:
        parts = tuple(map(self.compile, node.elements))
        if not node.optional:
            return lambda frame: [part(frame) for part in parts]
        optional, position = node.optional, node.position

        def make(frame: Frame) -> list[Any]:
            made: list[Any] = []
            for place, part in enumerate(parts):
                value = part(frame)
                if place in optional:
                    if type(value) is not OptionalValue:
                        raise _no_optional(value, position)
                    if not value.present:
                        continue
                    value = value.value
                made.append(value)
            return made

        return make

    def _map(self, node: MapLiteral) -> Closure:
        parts = tuple((self.compile(key), self.compile(value)) for key, value in node.entries)
        optional, position = node.optional, node.position

        def make(frame: Frame) -> dict[Any, Any]:
            made: list[tuple[Any, Any]] = []
            for place, (key, value) in enumerate(parts):
                found = key(frame), value(frame)
                if place in optional:
                    if type(found[1]) is not OptionalValue:
                        raise _no_optional(found[1], position)
                    if not found[1].present:
                        made = [one for one in made if one[0] != found[0]]
                        continue
                    found = found[0], found[1].value
                made.append(found)
            return make_map(made)

        return make

    def _call(self, node: Call) -> Closure:
        nodes = self.costs.arguments(node)
        args = tuple(map(self.compile, nodes))
        if node.function == "_in_":
            special = calls.in_constants(node, args[0], self._checked)
            if special is not None:
                return special
        entries = self._checked.overloads[node]
        if entries[0].lazy:
            return calls.lazy(entries[0], args, node.position, cost=self.costs.of(nodes[-1]))
        if len(entries) == 1:
            types = tuple(self._checked.types[one] if self._trust.of(one) else DYN for one in nodes)
            closure = calls.single(entries[0], args, types, node)
            return calls.remembered(closure) if self.costs.pure(node) else closure
        return calls.dispatched(entries, args, node)

    # Variables

    def _declare(self) -> int:
        self.slots += 1
        return self.slots - 1

    def _scoped(self, variables: dict[str, Closure], *bodies: Node, sure: bool) -> list[Closure]:
        outer = self._scope
        self._scope = {**outer, **variables}
        with self._trust.variables(*variables, sure=sure):
            closures = [self.compile(body) for body in bodies]
        self._scope = outer
        return closures

    def _comprehension(self, node: Comprehension) -> Closure:
        operand = self.compile(node.operand)
        first = self._declare()
        second = self._declare() if node.second else -1
        variables = {node.variable: _slot(first)}
        if node.second:
            variables[node.second] = _slot(second)
        bodies = (node.body,) if node.condition is None else (node.body, node.condition)
        body, *condition = self._scoped(variables, *bodies, sure=self._trust.of(node.operand))
        loop = loops.Loop(node, operand, condition[0] if condition else None, body, first, second, self.costs)
        return loops.LOOPS[node.kind](loop)

    def _bind(self, node: Bind) -> Closure:
        value, cost, slot = self.compile(node.value), self.costs.of(node.value), self._declare()

        def read(frame: Frame) -> Any:
            slots = frame.slots
            found = slots[slot]
            if found is UNSET:
                frame.charge(cost)
                try:
                    found = slots[slot] = value(frame)
                except EvaluationError as error:
                    slots[slot] = Failed(error)
                    raise
            elif type(found) is Failed:
                raise found.error.with_traceback(None)
            return found

        (body,) = self._scoped({node.variable: read}, node.body, sure=self._trust.of(node.value))

        def bind(frame: Frame) -> Any:
            frame.slots[slot] = UNSET
            return body(frame)

        return bind

    def _optional_map(self, node: OptionalMap) -> Closure:
        operand, slot = self.compile(node.operand), self._declare()
        sure = self._trust.of(node.operand) and not is_dyn(self._checked.types[node.operand])
        (body,) = self._scoped({node.variable: _slot(slot)}, node.body, sure=sure)
        flat, position = node.flat, node.position
        again = self.costs.of(node.operand) + 1
        cost = self.costs.of(node.body) + (not node.flat)

        def optional_map(frame: Frame) -> Any:
            before = frame.left
            found = operand(frame)
            if type(found) is not OptionalValue:
                raise EvaluationError(f"optMap needs an optional, not a {kind_of(found)}", position=position)
            if not found.present:
                frame.left -= 1
                return NONE
            # The reference evaluates the operand a second time for the variable.
            frame.charge(before - frame.left + again + cost)
            frame.slots[slot] = found.value
            value = body(frame)
            return value if flat else OptionalValue(present=True, value=value)

        return optional_map

    COMPILERS: ClassVar[dict[type, Callable[..., Closure]]] = {
        Literal: _literal,
        Ident: _ident,
        Select: _select,
        Index: _index,
        Call: _call,
        Logic: _logic,
        Ternary: _ternary,
        ListLiteral: _list,
        MapLiteral: _map,
        Comprehension: _comprehension,
        Bind: _bind,
        OptionalMap: _optional_map,
    }


_COMPILERS = _Compiler.COMPILERS


def _constant(value: Any) -> Closure:
    return lambda _frame: value


def _slot(place: int) -> Closure:
    return lambda frame: frame.slots[place]


def _no_bool(operator: str, value: Any, position: int) -> EvaluationError:
    return EvaluationError(f"no such overload: {operator} with a {kind_of(value)}", position=position)


def _no_optional(value: Any, position: int) -> EvaluationError:
    error = no_overload("?", value)
    error.position = position
    return error
