"""What all parts of the type check share.

Purpose: the state of one check, and the two decisions that everything rests on: which overloads fit, and
what type two branches have.

Flow: `driver.cel.checker` derives from it, by way of `driver.cel.macro_types`.

Limits: what calls with the same types were resolved to before is remembered by the environment, where no
type variable plays a part.
"""

from __future__ import annotations

from driver.cel.environments import Candidate, Environment, Resolution
from driver.cel.errors import InvalidSelectorError
from driver.cel.inference import Bindings, has_variable, is_dyn
from driver.cel.syntax import Node
from driver.cel.types import DYN, Type

_MANY_RESOLUTIONS = 2048


class Check:
    """The check of one expression."""

    def __init__(self, source: str, environment: Environment) -> None:
        self._source = source
        self._environment = environment
        self._bindings = Bindings()
        self._types: dict[Node, Type] = {}
        self._variables: dict[str, Type] = {}
        # What variables are read as, by node, to be looked at when all types are known.
        self._read: list[tuple[Node, Type]] = []

    def visit(self, node: Node) -> Type:
        """Find the type of a node."""
        raise NotImplementedError

    def _invalid(self, message: str, node: Node, remedy: str = "") -> InvalidSelectorError:
        return InvalidSelectorError(message, source=self._source, position=node.position, remedy=remedy)

    def _either(self, node: Node, yes: Type, no: Type) -> Type:
        if yes == no and not has_variable(yes):
            return yes
        either = self._bindings.fresh()
        if not self._bindings.assign_all((yes, no), (either, either)):
            final = self._bindings.final
            raise self._invalid(f"the two outcomes are of types {final(yes)} and {final(no)}", node)
        return self._bindings.resolve(either)

    def _resolve(self, name: str, found: tuple[Type, ...], *, method: bool) -> Resolution | None:
        for one in found:
            if one.variable or (one.params and has_variable(one)):
                return self._match(name, found, method=method)
        known = self._environment.resolutions
        key = (name, method, found)
        resolution = known.get(key)
        if resolution is None:
            resolution = self._match(name, found, method=method)
            if resolution is not None and not has_variable(resolution[1]):
                if len(known) > _MANY_RESOLUTIONS:
                    known.clear()
                known[key] = resolution
        return resolution

    def _match(self, name: str, found: tuple[Type, ...], *, method: bool) -> Resolution | None:
        matching: list[Candidate] = []
        result: Type | None = None
        for candidate in self._environment.overloads(name, method=method):
            parameters, gives = candidate.parameters, candidate.result
            if len(parameters) != len(found):
                continue
            if candidate.generic:
                *fresh, gives = self._bindings.instantiate((*parameters, gives))
                parameters = tuple(fresh)
            if self._bindings.assign_all(found, parameters):
                matching.append(candidate)
                gives = self._bindings.resolve(gives)
                if result is None:
                    result = gives
                elif not is_dyn(result) and result != gives:
                    result = DYN
        if result is None:
            return None
        return tuple(one.entry for one in matching if one.entry is not None), result

    # Macros
