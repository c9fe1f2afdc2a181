"""The list of selectors that classes and requests have.

Purpose: their CEL expressions, or why there is something else among them.

Flow: `expressions` for a class, a request and a sub-request.

Limits: nothing is compiled here.
"""

from __future__ import annotations

from collections.abc import Iterable

from driver.allocation.models import JSON


def expressions(raw: Iterable[JSON] | None) -> tuple[tuple[str, ...], str]:
    """Give the expressions in order, and why they are not all there, "" if they are."""
    found: list[str] = []
    for one in raw or ():
        if set(one) != {"cel"} or set(one["cel"]) != {"expression"}:
            return (), "a selector that is not a CEL expression is not supported yet"
        expression = one["cel"]["expression"]
        if not isinstance(expression, str):
            return (), "the expression of a selector is no text"
        found.append(expression)
    return tuple(found), ""
