"""Closures that go through lists and maps.

Purpose: the comprehensions, one function for each kind.

Flow: the compiler fills a `Loop`; the functions in `LOOPS` make a closure of it. Each step charges what the
reference charges for its condition and its accumulation, and one unit at least.

Limits: of elements with the same key `sortBy` keeps the order; the reference does so up to twelve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from driver.cel.calls import panicking
from driver.cel.costing import Costs
from driver.cel.errors import EvaluationError
from driver.cel.frames import ABSORBED, Closure, Frame, exhausted
from driver.cel.inference import is_dyn
from driver.cel.library.lists import sorted_by
from driver.cel.syntax import Comprehension
from driver.cel.values import find_key, key_value, kind_of, make_key

_ADDED = 12
_ADDED_CONSTANT = 2
_LIST_CALL = 11


@dataclass(frozen=True, slots=True)
class Loop:
    """The parts of a comprehension.

    Attributes:
        node: The comprehension.
        operand: What it goes through.
        condition: The filter, if there is one.
        body: Predicate or transformation.
        first: Slot of the first variable.
        second: Slot of the second variable, -1 if there is none.
        costs: Costs of the expression's nodes.
    """

    node: Comprehension
    operand: Closure
    condition: Closure | None
    body: Closure
    first: int
    second: int
    costs: Costs

    @property
    def body_cost(self) -> int:
        """What the body costs."""
        return self.costs.of(self.node.body)

    @property
    def condition_cost(self) -> int:
        """What the condition costs."""
        return 0 if self.node.condition is None else self.costs.of(self.node.condition)

    def elements(self, frame: Frame) -> Sequence[Any]:
        """Give what the variable stands for, or with two variables pairs."""
        return self.elements_of(self.operand(frame))

    def elements_of(self, container: Any) -> Sequence[Any]:
        """Give what the variable stands for in a list or map."""
        kind = kind_of(container)
        if kind == "list":
            elements: list[Any] = container
            return elements if self.second < 0 else list(enumerate(elements))
        if kind == "map":
            if self.second < 0:
                return [key_value(key) for key in container]
            return [(key_value(key), value) for key, value in container.items()]
        raise EvaluationError(
            f"{self.node.kind}() goes through lists and maps, not through a {kind}",
            position=self.node.position,
        )

    def steps(self, frame: Frame, cost: int, elements: Sequence[Any] | None = None) -> Iterable[Any]:
        """Set the variables to one element after another, charging for each."""
        slots, first, second = frame.slots, self.first, self.second
        units = max(cost, 1)
        for element in self.elements(frame) if elements is None else elements:
            frame.left -= units
            if frame.left < 0:
                raise exhausted()
            if second < 0:
                slots[first] = element
            else:
                slots[first], slots[second] = element
            yield element

    def decided(self, frame: Frame, closure: Closure) -> bool:
        """Evaluate a condition."""
        value = closure(frame)
        if value is True or value is False:
            return value is True
        raise self.no_bool(value)

    def no_bool(self, value: Any) -> EvaluationError:
        """Make the error for a condition that is no bool."""
        return EvaluationError(
            f"the condition of {self.node.kind}() must be a bool, not a {kind_of(value)}",
            position=self.node.body.position,
        )


def _quantifier(loop: Loop, *, decisive: bool) -> Closure:
    body, again, undecided = loop.body, 2 + decisive, not decisive
    cost = loop.body_cost + 1 + again

    def quantified(frame: Frame) -> bool:
        error: EvaluationError | None = None
        elements = loop.elements(frame)
        place = 0
        for _ in loop.steps(frame, cost, elements):
            place += 1
            try:
                value = body(frame)
            except EvaluationError as raised:
                frame.left -= ABSORBED
                error = error or raised
                continue
            if value is decisive:
                # The next element is looked at only to find that nothing is left to decide.
                frame.left -= again if place < len(elements) else 0
                return not undecided
            if type(value) is not bool:
                error = error or loop.no_bool(value)
        if error is not None:
            raise error
        return undecided

    return quantified


def _all(loop: Loop) -> Closure:
    return _quantifier(loop, decisive=False)


def _exists(loop: Loop) -> Closure:
    return _quantifier(loop, decisive=True)


def _exists_one(loop: Loop) -> Closure:
    body, cost = loop.body, loop.body_cost

    def exists_one(frame: Frame) -> bool:
        count = 0
        for _ in loop.steps(frame, cost):
            if loop.decided(frame, body):
                frame.left -= 2
                count += 1
        return count == 1

    return exists_one


def _filter(loop: Loop) -> Closure:
    body, cost = loop.body, loop.body_cost

    def filtered(frame: Frame) -> list[Any]:
        kept: list[Any] = []
        for element in loop.steps(frame, cost):
            if loop.decided(frame, body):
                frame.left -= _ADDED + 1
                kept.append(element)
        return kept

    return filtered


def _map(loop: Loop) -> Closure:
    condition, body = loop.condition, loop.body
    added = loop.body_cost + (_ADDED_CONSTANT if loop.costs.constant(loop.node.body) else _ADDED)
    if condition is None:
        return lambda frame: [body(frame) for _ in loop.steps(frame, added)]
    cost = loop.condition_cost

    def mapped(frame: Frame) -> list[Any]:
        made: list[Any] = []
        for _ in loop.steps(frame, cost):
            if loop.decided(frame, condition):
                frame.left -= added
                made.append(body(frame))
        return made

    return mapped


def _made_map(loop: Loop, insert: Callable[[Frame, dict[Any, Any], Any], None], inserted: int) -> Closure:
    condition, body = loop.condition, loop.body
    added = loop.body_cost + inserted
    cost = added if condition is None else loop.condition_cost

    def made_map(frame: Frame) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for _ in loop.steps(frame, cost):
            if condition is not None:
                if not loop.decided(frame, condition):
                    continue
                frame.left -= added
            insert(frame, made, body(frame))
        return made

    return made_map


def _put(made: dict[Any, Any], key: Any, value: Any, position: int) -> None:
    stored = make_key(key)
    if stored in made or (made and find_key(made, key).present):
        raise EvaluationError(f"the key {str(key)[:64]} occurs twice", position=position)
    made[stored] = value


def _transform_map(loop: Loop) -> Closure:
    first, position = loop.first, loop.node.position

    def insert(frame: Frame, made: dict[Any, Any], value: Any) -> None:
        _put(made, frame.slots[first], value, position)

    return _made_map(loop, insert, 3)


def _transform_map_entry(loop: Loop) -> Closure:
    position = loop.node.body.position

    def insert(_frame: Frame, made: dict[Any, Any], value: Any) -> None:
        if kind_of(value) != "map":
            raise EvaluationError(
                f"transformMapEntry() needs a map, not a {kind_of(value)}", position=position
            )
        for key, one in value.items():
            _put(made, key_value(key), one, position)

    return _made_map(loop, insert, 2)


def _sort_by(loop: Loop) -> Closure:
    body, position = loop.body, loop.node.position
    added = loop.body_cost + (_ADDED_CONSTANT if loop.costs.constant(loop.node.body) else _ADDED)

    def keyed(frame: Frame) -> tuple[Any, list[Any]]:
        container = loop.operand(frame)
        return container, [body(frame) for _ in loop.steps(frame, added, loop.elements_of(container))]

    certain = not is_dyn(loop.costs.type_of(loop.node.body))
    with_keys: Closure = panicking(keyed) if certain else keyed

    def sort_by(frame: Frame) -> Any:
        container, keys = with_keys(frame)
        wide = bool(keys) and isinstance(keys[0], (str, bytes))
        frame.charge(int(len(keys) ** 2 * (2.1 if wide else 2)) + _LIST_CALL)
        try:
            return sorted_by(container, keys)
        except EvaluationError as error:
            raise EvaluationError(error.message, position=position) from None

    return sort_by


LOOPS: dict[str, Callable[[Loop], Closure]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _map,
    "transformList": _map,
    "transformMap": _transform_map,
    "transformMapEntry": _transform_map_entry,
    "sortBy": _sort_by,
}
