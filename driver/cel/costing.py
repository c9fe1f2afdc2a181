"""What an expression costs whatever its values are.

Purpose: the units of the reference's cost tracking, summed up for what is evaluated together, so that an
evaluation charges blocks and not single steps.

Flow: `Costs.of(node)` is what evaluating a node certainly costs. What depends on values (later operands of
`&&`, branches, steps of loops, functions that charge by size) is charged where it happens.

Limits: a name or a selection costs one unit, a call one unless its entry says otherwise, a list 10, a map
30; constants and `has()` itself cost nothing.
"""

from __future__ import annotations

from driver.cel.checker import Checked
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
from driver.cel.types import Type

_LIST, _MAP = 10, 30
# Reading the result: for `exists_one` it is compared with one; `sortBy` also reads its list twice.
_RESULTS = {"exists_one": 2, "sortBy": 3}


class Costs:
    """The costs of one expression's nodes."""

    def __init__(self, checked: Checked) -> None:
        self._checked = checked
        self._known: dict[Node, int] = {}
        self._pure: dict[Node, bool] = {}
        self._constant: dict[Node, bool] = {}

    def of(self, node: Node) -> int:
        """Give the units that evaluating a node costs at least."""
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = 0 if self.constant(node) else self._cost(node)
        return known

    def of_branch(self, node: Node) -> int:
        """Give the units for a node that is the outcome of a condition: the name itself is free there."""
        return self.of(node) - (self._is_path(node) and not isinstance(node, Ternary))

    def type_of(self, node: Node) -> Type:
        """Give a node's static type."""
        return self._checked.types[node]

    def constant(self, node: Node) -> bool:
        """Say whether a node needs no evaluation."""
        if isinstance(node, Literal) or node in self._checked.constants:
            return True
        if not isinstance(node, (ListLiteral, MapLiteral)):
            return False
        known = self._constant.get(node)
        if known is None:
            known = self._constant[node] = all(map(self.constant, children(node)))
        return known

    def pure(self, node: Node) -> bool:
        """Say whether a node is constant, or a call of constants, or a call of such calls."""
        if not isinstance(node, Call):
            return self.constant(node)
        known = self._pure.get(node)
        if known is None:
            entries = self._checked.overloads[node]
            known = len(entries) == 1 and not entries[0].lazy and all(map(self.pure, self.arguments(node)))
            self._pure[node] = known
        return known

    def arguments(self, node: Call) -> tuple[Node, ...]:
        """Give a call's arguments, the value before the dot first."""
        if node.target is None or node in self._checked.global_calls:
            return node.args
        return (node.target, *node.args)

    def _is_path(self, node: Node) -> bool:
        if node in self._checked.constants:
            return False
        return isinstance(node, (Ident, Index, Ternary)) or (isinstance(node, Select) and not node.test)

    def _cost(self, node: Node) -> int:
        match node:
            case Select() | Index():
                return self._access(node)
            case Call():
                return self._call(node)
            case Logic(operands=operands):
                return self.of(operands[0])
            case Ternary(condition=condition):
                return self.of(condition)
            case Comprehension(operand=operand, kind=kind):
                return self.of(operand) + _RESULTS.get(kind, 1)
            case Bind(body=body):
                return self.of(body)
            case OptionalMap(operand=operand):
                return self.of(operand) + 1
            case _:
                return self._made(node)

    def _made(self, node: Node) -> int:
        if isinstance(node, ListLiteral):
            return _LIST + sum(map(self.of, node.elements))
        if isinstance(node, MapLiteral):
            return _MAP + sum(self.of(key) + self.of(value) for key, value in node.entries)
        return 1

    def _access(self, node: Select | Index) -> int:
        # What is no path before (a call, a literal) is read by a path of its own.
        units = self.of(node.operand) + (0 if self._is_path(node.operand) else 1)
        if isinstance(node, Select):
            return units + (0 if node.test else 1)
        if self.constant(node.key):
            return units + 1
        return units + self.of(node.key) + (0 if self._is_path(node.key) else 1)

    def _call(self, node: Call) -> int:
        arguments = self.arguments(node)
        entries = self._checked.overloads[node]
        if entries[0].lazy:
            return self.of(arguments[0])
        if node.function == "_in_" and self.constant(arguments[1]) and len(entries) == 1:
            listed = arguments[1]
            if isinstance(listed, ListLiteral) and not listed.elements:
                return 0
            return self.of(arguments[0])
        own = 1 if len(entries) == 1 and entries[0].cost is None else 0
        return own + sum(map(self.of, arguments))
