"""Lists taken as sets.

Purpose: CEL's sets extension.

Flow: overloads; elements are compared one by one, as by `in`.

Limits: quadratic, and charged as such.
"""

from __future__ import annotations

from typing import Any

from driver.cel.library.entry import overload
from driver.cel.values import holds


def _cost(left: list[Any], right: list[Any]) -> int:
    return 1 + len(left) * len(right)


def _double_cost(left: list[Any], right: list[Any]) -> int:
    return 1 + 2 * len(left) * len(right)


@overload("sets.contains(list(A), list(A)) -> bool", cost=_cost)
def _contains(elements: list[Any], part: list[Any]) -> bool:
    return all(holds(elements, one) for one in part)


@overload("sets.intersects(list(A), list(A)) -> bool", cost=_cost)
def _intersects(left: list[Any], right: list[Any]) -> bool:
    return any(holds(right, one) for one in left)


@overload("sets.equivalent(list(A), list(A)) -> bool", cost=_double_cost)
def _equivalent(left: list[Any], right: list[Any]) -> bool:
    return _contains(left, right) and _contains(right, left)
