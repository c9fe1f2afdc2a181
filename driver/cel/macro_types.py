"""The types of macros.

Purpose: what the variables of comprehensions and bindings are, and what comes out of them.

Flow: the checker's entry points for `Comprehension`, `Bind` and `OptionalMap`.

Limits: the reference checks what these expand to; the types here are those that come out of that.
"""

from __future__ import annotations

from driver.cel.checking import Check
from driver.cel.syntax import Bind, Comprehension, Node, OptionalMap
from driver.cel.types import BOOL, DYN, INT, Type, list_of, map_of, optional_of


class MacroCheck(Check):
    """The part of the check that declares variables."""

    def _with_variables(self, variables: dict[str, Type], *bodies: Node) -> list[Type]:
        outer = self._variables
        self._variables = {**outer, **variables}
        found = [self.visit(body) for body in bodies]
        self._variables = outer
        return found

    def comprehension(self, node: Comprehension) -> Type:
        """Find the type of a comprehension."""
        kind = node.kind
        ranged = self._bindings.resolve(self.visit(node.operand))
        if kind == "sortBy":
            return self._sort_by(node, ranged)
        first, second = self._elements(node, ranged)
        names = {node.variable: second} if not node.second else {node.variable: first, node.second: second}
        if not node.second and ranged.name == "map":
            names = {node.variable: first}
        if node.condition is not None:
            condition, body = self._with_variables(names, node.condition, node.body)
            self._assert_bool(condition, node.condition, f"the condition of {kind}()")
        else:
            (body,) = self._with_variables(names, node.body)
        return self._bindings.resolve(self._result(node, body, names[node.variable]))

    def _result(self, node: Comprehension, body: Type, variable: Type) -> Type:
        kind = node.kind
        if kind in {"filter", "transformMap"}:
            # These read the variable whether the body does or not, as bindings do.
            self._read.append((node, variable))
        if kind in {"all", "exists", "exists_one", "filter"}:
            self._assert_bool(body, node.body, f"the condition of {kind}()")
            return list_of(variable) if kind == "filter" else BOOL
        if kind in {"map", "transformList"}:
            return list_of(body)
        if kind == "transformMap":
            return map_of(variable, body)
        return self._entries(node, body)

    def _elements(self, node: Comprehension, ranged: Type) -> tuple[Type, Type]:
        """Give the types of index or key, and of element or value."""
        if ranged.name == "list":
            return INT, ranged.params[0]
        if ranged.name == "map":
            return ranged.params[0], ranged.params[1]
        if ranged.variable:
            self._bindings.assign(DYN, ranged)
        elif ranged != DYN:
            raise self._invalid(f"{node.kind}() goes through lists and maps, not through {ranged}", node)
        return DYN, DYN

    def _assert_bool(self, found: Type, node: Node, what: str) -> None:
        if not self._bindings.assign(found, BOOL):
            raise self._invalid(f"{what} must be a bool, but is of type {self._bindings.final(found)}", node)

    def _entries(self, node: Comprehension, body: Type) -> Type:
        made = map_of(self._bindings.fresh(), self._bindings.fresh())
        if not self._bindings.assign(body, made):
            raise self._invalid(
                f"transformMapEntry() needs a map, but this is of type {self._bindings.final(body)}",
                node.body,
                "Write {key: value}.",
            )
        return self._bindings.resolve(made)

    def _sort_by(self, node: Comprehension, ranged: Type) -> Type:
        element = self._elements(node, ranged)[1]
        (key,) = self._with_variables({node.variable: element}, node.body)
        found = (self._bindings.resolve(ranged), list_of(key))
        resolution = self._resolve("@sortByAssociatedKeys", found, method=True)
        if resolution is None:
            kinds = " by ".join(str(self._bindings.final(one)) for one in (ranged, key))
            raise self._invalid(f"sortBy() does not sort {kinds}", node)
        return resolution[1]

    def bind(self, node: Bind) -> Type:
        """Find the type of what follows a binding."""
        found = self.visit(node.value)
        self._read.append((node, found))
        return self._bindings.resolve(self._with_variables({node.variable: found}, node.body)[0])

    def optional_map(self, node: OptionalMap) -> Type:
        """Find the type of a mapped optional."""
        operand = self.visit(node.operand)
        held = self._bindings.fresh()
        if not self._bindings.assign(operand, optional_of(held)):
            name = "optFlatMap" if node.flat else "optMap"
            raise self._invalid(
                f"{name}() needs an optional, but this is of type {self._bindings.final(operand)}", node
            )
        self._read.append((node, held))
        (body,) = self._with_variables({node.variable: self._bindings.resolve(held)}, node.body)
        body = self._bindings.resolve(body)
        result = body if node.flat else optional_of(body)
        return self._either(node.body, result, optional_of(self._bindings.fresh()))
