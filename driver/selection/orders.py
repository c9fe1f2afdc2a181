"""Comparisons with constants of types that have an order.

Purpose: `quantity`, `semver` and integer bounds are what most selectors have besides equality; comparing the
keys of a column with a number takes a hundredth of evaluating.

Flow: `bound_of` recognises `x.compareTo(c) >= 0`, `x.isLessThan(c)`, `x == c` and `x < 5`, and gives x, the
class it is compared with, and which keys pass.

Limits: the constant is made by the library's own function; where that fails, there is nothing to look up.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from driver.cel.checker import Checked
from driver.cel.errors import EvaluationError
from driver.cel.syntax import Call, Literal, Node
from driver.cel.versions import Version
from driver.quantities import Quantity

Compare = Callable[[Any, Any], bool]

_COMPARISONS: dict[str, Compare] = {
    "_<_": operator.lt,
    "_<=_": operator.le,
    "_>_": operator.gt,
    "_>=_": operator.ge,
    "_==_": operator.eq,
    "_!=_": operator.ne,
}
_ORDERS: dict[str, Compare] = {"isLessThan": operator.lt, "isGreaterThan": operator.gt}
_MIRRORED: dict[str, str] = {"_<_": "_>_", "_<=_": "_>=_", "_>_": "_<_", "_>=_": "_<=_"}
# By which of less (-1), equal (0) and greater (1) satisfy a comparison of `compareTo` with a number.
_BY_RESULTS: dict[tuple[int, ...], Compare] = {
    (): lambda _left, _right: False,
    (-1,): operator.lt,
    (-1, 0): operator.le,
    (-1, 1): operator.ne,
    (0,): operator.eq,
    (0, 1): operator.ge,
    (1,): operator.gt,
    (-1, 0, 1): lambda _left, _right: True,
}


@dataclass(frozen=True, slots=True)
class Bound:
    """A comparison with a constant.

    Attributes:
        value: What is compared.
        kind: The class of the constant.
        compare: The comparison.
        constant: The constant's number or order.
    """

    value: Node
    kind: type
    compare: Compare
    constant: Any

    def keys(self, keys: Iterable[Any]) -> Iterable[Hashable]:
        """Give those of a group's keys that pass."""
        compare, constant = self.compare, self.constant
        if self.kind is int:
            return [key for key in keys if compare(key, constant)]
        # The keys of quantities and versions begin with what they are ordered by.
        return [key for key in keys if compare(key[0], constant)]


def bound_of(node: Call, checked: Checked) -> Bound | None:
    """Recognise a comparison with a constant; None for anything else."""
    if node.target is not None:
        compare = _ORDERS.get(node.function)
        if compare is None or len(node.args) != 1:
            return None
        return _with_constant(node.target, compare, node.args[0], checked)
    compare = _COMPARISONS.get(node.function)
    if compare is None:
        return None
    left, right = node.args
    if isinstance(left, Call) and left.function == "compareTo" and left.target is not None:
        if not isinstance(right, Literal) or type(right.value) is not int:
            return None
        results = tuple(result for result in (-1, 0, 1) if compare(result, right.value))
        return _with_constant(left.target, _BY_RESULTS[results], left.args[0], checked)
    if isinstance(right, Call) and node.function in {"_==_", "_!=_"}:
        return _with_constant(left, compare, right, checked)
    if isinstance(left, Literal):
        if node.function not in _MIRRORED:
            return None
        left, right, compare = right, left, _COMPARISONS[_MIRRORED[node.function]]
    if isinstance(right, Literal) and type(right.value) is int:
        return Bound(left, int, compare, right.value)
    return None


def _with_constant(value: Node, compare: Compare, constant: Node, checked: Checked) -> Bound | None:
    if (
        not isinstance(constant, Call)
        or constant.target is not None
        or constant.function not in {"quantity", "semver"}
    ):
        return None
    arguments = [one.value for one in constant.args if isinstance(one, Literal)]
    entries = checked.overloads[constant]
    if len(arguments) != len(constant.args) or len(entries) != 1:
        return None
    try:
        made = entries[0].run(*arguments)
    except EvaluationError:
        return None
    if isinstance(made, Quantity):
        # A value of a device is of the class itself, not of that of computed quantities.
        return Bound(value, Quantity, compare, made.nano)
    return Bound(value, Version, compare, made.order) if isinstance(made, Version) else None
