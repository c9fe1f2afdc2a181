"""Which static types values are sure to have.

Purpose: CEL's types promise more than they keep: `dyn([1]) + ["a"]` is a list of strings to the check. Where
a type may be such a promise, arguments are looked at before a function works on them.

Flow: the compiler asks for each argument of a call; with the answer it takes the direct or the guarded way.

Limits: cautious: what is doubtful is guarded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from driver.cel.checker import Checked
from driver.cel.inference import has_variable, is_dyn
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

_BOOLS = frozenset({"all", "exists", "exists_one"})


class Trust:
    """What is known for sure about one expression's nodes."""

    def __init__(self, checked: Checked) -> None:
        self._checked = checked
        self._known: dict[Node, bool] = {}
        self._variables: dict[str, bool] = {}

    @contextlib.contextmanager
    def variables(self, *names: str, sure: bool) -> Iterator[None]:
        """Note variables for as long as their scope lasts."""
        outer = self._variables
        self._variables = {**outer, **dict.fromkeys(names, sure)}
        yield
        self._variables = outer

    def of(self, node: Node) -> bool:
        """Say whether a node's value is sure to be of its static type."""
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._sure(node)
        return known

    def _sure(self, node: Node) -> bool:
        if isinstance(node, (Literal, Logic)) or node in self._checked.constants:
            return True
        if isinstance(node, Ident):
            return self._variables.get(node.name, True)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, Comprehension) and node.kind in _BOOLS:
            return True
        if isinstance(node, Ternary):
            return self.of(node.yes) and self.of(node.no)
        if isinstance(node, (Select, Index)):
            return (isinstance(node, Select) and node.test) or self.of(node.operand)
        if isinstance(node, (ListLiteral, MapLiteral)):
            return all(map(self.of, children(node)))
        # What these give comes from a scope that is over.
        return not isinstance(node, (Comprehension, Bind, OptionalMap))

    def _call(self, node: Call) -> bool:
        entries = self._checked.overloads[node]
        if all(not has_variable(entry.result) for entry in entries):
            return True
        arguments = node.args
        if node.target is not None and node not in self._checked.global_calls:
            arguments = (node.target, *arguments)
        types = self._checked.types
        return all(self.of(one) and not _has_dyn(types[one]) for one in arguments)


def _has_dyn(one: Type) -> bool:
    return is_dyn(one) or any(map(_has_dyn, one.params))
