"""From a selector's tree to operators.

Purpose: the cheapest way to an answer, found from the tree alone.

Flow: `&&`, `||`, `!`, `?:` and `cel.bind` are followed; what is below them is a part that is looked up or
evaluated. Parts that read one column are shared between selectors through `Parts`, by what they say rather
than where they stand; those used last are kept.

Limits: an expression inside `cel.bind` is never shared, since it says something only together with what its
variables stand for.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from driver.cel import Selector
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
    children,
)
from driver.selection.leaves import Constant, PerCombination, PerDevice, PerValue
from driver.selection.limits import MAX_ANSWERS, MAX_COMPUTED, MAX_TEXT
from driver.selection.lookups import Keys, Lookup, Presence, Truth, equal_to, passing
from driver.selection.operators import AllOf, AnyOf, Choice, Not, Operator, cheapest_first
from driver.selection.orders import bound_of
from driver.selection.outcomes import LOOKUP_RANK
from driver.selection.part import Part
from driver.selection.reads import ROOT, Names, is_column, path_of, prefix_of, reads_of
from driver.selection.recent import Recent
from driver.selection.steady import is_steady

_LOOKED_UP: tuple[type, ...] = (str, int, bool)


class Parts(Recent[Hashable, PerValue]):
    """Parts that selectors share."""

    def __init__(self) -> None:
        super().__init__(count=MAX_ANSWERS, weight=MAX_TEXT)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to answer a selector.

    Attributes:
        root: Answers it.
        evaluated: The parts that may cost something when evaluated.
    """

    root: Operator
    evaluated: tuple[Part, ...]


def plan(selector: Selector, parts: Parts) -> Plan:
    """Find out how to answer a selector."""
    planner = _Planner(selector, parts)
    root = planner.plan(selector.checked.tree, ROOT)
    return Plan(root, tuple(planner.evaluated))


class _Planner:
    def __init__(self, selector: Selector, parts: Parts) -> None:
        self._checked = selector.checked
        self._release = selector.release
        self._weight = len(selector.expression)
        self._parts = parts
        self.evaluated: list[Part] = []

    def plan(self, node: Node, names: Names) -> Operator:
        if isinstance(node, Logic):
            operands = self._ordered(node, [self.plan(operand, names) for operand in node.operands], names)
            return AllOf(operands) if node.operator == "&&" else AnyOf(operands)
        if isinstance(node, Ternary):
            condition = self.plan(node.condition, names)
            return Choice(condition, self.plan(node.yes, names), self.plan(node.no, names))
        if isinstance(node, Bind):
            inner = names.inside(node)
            # Each part inside is evaluated together with all that is bound around it.
            return (
                self.plan(node.body, inner)
                if inner.computed <= MAX_COMPUTED
                else self._evaluation(node, names)
            )
        if isinstance(node, Call) and node.function == "!_":
            return Not(self.plan(node.args[0], names))
        return self._lookup(node, names) or self._evaluation(node, names)

    def _ordered(self, node: Logic, operands: list[Operator], names: Names) -> list[Operator]:
        ordered = cheapest_first(operands)
        if ordered == operands or all(
            is_steady(part, names)
            for part, operand in zip(node.operands, operands, strict=True)
            if operand.rank > LOOKUP_RANK
        ):
            return ordered
        return operands

    def _lookup(self, node: Node, names: Names) -> Operator | None:
        if isinstance(node, Call):
            return self._call(node, names)
        if isinstance(node, Select) and node.test:
            above = prefix_of(node.operand, names, plain=True)
            return Presence((*above, node.field)) if above is not None and len(above) == 2 else None
        if isinstance(node, (Select, Index, Ident)):
            path = path_of(node, names)
            return None if path is None else Truth(path)
        return None

    def _call(self, node: Call, names: Names) -> Operator | None:
        function = node.function
        found: Operator | None = None
        if function == "_in_":
            return self._membership(node, names)
        if function in {"_==_", "_!=_"}:
            found = self._comparison(node, names)
        elif node.target is not None and len(node.args) == 1:
            found = self._string_test(node, node.target, names)
        if found is None:
            bound = bound_of(node, self._checked)
            if bound is not None:
                found = self._test(node, bound.value, names, bound.keys, bound.kind)
        return found

    def _comparison(self, node: Call, names: Names) -> Operator | None:
        value, constant = node.args
        if isinstance(value, Literal):
            value, constant = constant, value
        if not isinstance(constant, Literal) or type(constant.value) not in _LOOKED_UP:
            return None
        return self._test(
            node,
            value,
            names,
            equal_to((constant.value,)),
            type(constant.value),
            negated=node.function == "_!=_",
        )

    def _membership(self, node: Call, names: Names) -> Operator | None:
        value, container = node.args
        if isinstance(value, Literal) and type(value.value) is str:
            above = prefix_of(container, names, plain=True)
            if above is not None and 1 <= len(above) <= 2 and not is_column(above):
                return Presence((*above, value.value))
        if not isinstance(container, ListLiteral) or not container.elements or container.optional:
            return None
        constants: list[Hashable] = []
        for element in container.elements:
            if not isinstance(element, Literal) or type(element.value) not in _LOOKED_UP:
                return None
            constants.append(element.value)
        kind = type(constants[0])
        if any(type(one) is not kind for one in constants):
            return None
        return self._test(node, value, names, equal_to(constants), kind)

    def _string_test(self, node: Call, value: Node, names: Names) -> Operator | None:
        constant = node.args[0]
        if not isinstance(constant, Literal) or not isinstance(constant.value, str):
            return None
        entries = self._checked.overloads[node]
        keys = passing(node.function, constant.value, entries[0].run) if len(entries) == 1 else None
        return None if keys is None else self._test(node, value, names, keys, str)

    def _test(
        self, node: Call, value: Node, names: Names, keys: Keys, kind: type, *, negated: bool = False
    ) -> Operator | None:
        path, default = path_of(value, names), False
        if path is None:
            # `x.orValue(constant)` is the value of x where there is one.
            if (
                not isinstance(value, Call)
                or value.function != "orValue"
                or value.target is None
                or not isinstance(value.args[0], Literal)
            ):
                return None
            path, default = prefix_of(value.target, names), True
            # A chain without `?` gives no optional, and has no `orValue`.
            if path is None or not is_column(path) or prefix_of(value.target, names, plain=True):
                return None
        part = Part(self._checked, node, names.binds)
        return Lookup(path, kind, keys, part=part, negated=negated, default=default)

    def _evaluation(self, node: Node, names: Names) -> Operator:
        reads = reads_of(node, names)
        if reads is not None and len(reads) == 1 and not names.binds:
            return self._shared(node, next(iter(reads)))
        part = Part(self._checked, node, names.binds)
        self.evaluated.append(part)
        if reads is None:
            return PerDevice(part)
        if not reads:
            return Constant(part)
        if len(reads) == 1:
            return PerValue(part, next(iter(reads)))
        return PerCombination(part, tuple(sorted(reads)))

    def _shared(self, node: Node, path: tuple[str, ...]) -> PerValue:
        key = (self._release, self._said(node))
        found = self._parts.find(key)
        if found is None:
            found = PerValue(Part(self._checked, node), path)
            self._parts.keep(key, found, weight=self._weight)
        self.evaluated.append(found.part)
        return found

    def _said(self, node: Node) -> Hashable:
        # What a node says, wherever it stands. Types and overloads follow from that and the environment: so
        # it is enough to have the types of the device's fields and the overloads of calls.
        if isinstance(node, Literal):
            return (type(node.value), repr(node.value))
        if isinstance(node, Ident):
            return node.name
        return (type(node), *self._own(node), *map(self._said, children(node)))

    def _own(self, node: Node) -> tuple[Hashable, ...]:
        match node:
            case Select(operand=Ident()):
                return (node.field, node.optional, node.test, self._innermost(node))
            case Select():
                return (node.field, node.optional, node.test)
            case Call():
                return (node.function, node.target is None, self._checked.overloads[node])
            case Index() | ListLiteral() | MapLiteral():
                return (node.optional,)
            case Logic(operator=name) | Bind(variable=name):
                return (name,)
            case Comprehension():
                return (node.kind, node.variable, node.second, node.condition is None)
            case OptionalMap():
                return (node.variable, node.flat)
        return ()

    def _innermost(self, node: Node) -> str:
        # What the environments differ in is the type of attributes' values.
        found = self._checked.types.get(node)
        while found is not None and found.params:
            found = found.params[-1]
        return "" if found is None else found.name
