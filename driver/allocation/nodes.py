"""Which nodes a slice is for, and the node selector of a result.

Purpose: Kubernetes' NodeSelector: matching a node, and merging the selectors of several devices into one.

Flow: `matches` is asked for each candidate slice or device; `merged_selector` once for each claim that
was allocated.

Limits: terms are OR-ed, their parts AND-ed; an operator that does not exist matches nothing. `Gt` and `Lt`
compare what Kubernetes takes for whole numbers, of 64 bits, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from driver.allocation.models import JSON, Device, NodeSelection

_DIGITS = re.compile("[0-9]{1,63}")  # a label value has 63 characters
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a node."""

    name: str
    labels: Mapping[str, str]


def matches(selection: NodeSelection, node: Node) -> bool:
    """Say whether a slice or device is for a node."""
    if selection.node_name:
        return selection.node_name == node.name
    if selection.all_nodes:
        return True
    if selection.selector is None:
        return False
    return any(_term(term, node) for term in selection.selector.get("nodeSelectorTerms") or ())


def _term(term: JSON, node: Node) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_requirement(one, node.labels) for one in expressions) and all(
        _requirement(one, {"metadata.name": node.name}) for one in fields
    )


def _requirement(requirement: JSON, values: Mapping[str, str]) -> bool:
    test = _OPERATORS.get(requirement["operator"])
    return test is not None and test(values.get(requirement["key"]), requirement.get("values") or [])


def _compared(value: str | None, wanted: list[str], *, sign: int) -> bool:
    if value is None or len(wanted) != 1:
        return False
    here, there = _whole(value), _whole(wanted[0])
    return here is not None and there is not None and (here - there) * sign > 0


def _whole(text: str) -> int | None:
    # Label values both, so neither has a sign. Python's int() takes more: `1_000`, spaces, any size.
    if _DIGITS.fullmatch(text) is None or (number := int(text)) > _LARGEST:
        return None
    return number


_OPERATORS: dict[str, Callable[[str | None, list[str]], bool]] = {
    "In": lambda value, wanted: value is not None and value in wanted,
    "NotIn": lambda value, wanted: value is None or value not in wanted,
    "Exists": lambda value, _wanted: value is not None,
    "DoesNotExist": lambda value, _wanted: value is None,
    "Gt": lambda value, wanted: _compared(value, wanted, sign=1),
    "Lt": lambda value, wanted: _compared(value, wanted, sign=-1),
}


def merged_selector(devices: Iterable[Device], node: Node) -> dict[str, Any] | None:
    """Make the node selector of an allocation; None where it can be used on all nodes."""
    fields: list[JSON] = []
    expressions: list[JSON] = []
    for device in devices:
        if device.nodes.node_name or device.raw.get("bindsToNode"):
            only = {"key": "metadata.name", "operator": "In", "values": [node.name]}
            return {"nodeSelectorTerms": [{"matchFields": [only]}]}
        if device.nodes.selector is not None:
            # The API server allows exactly one term here.
            for term in device.nodes.selector.get("nodeSelectorTerms") or ():
                _add(fields, term.get("matchFields"))
                _add(expressions, term.get("matchExpressions"))
    term = {}
    if expressions:
        term["matchExpressions"] = expressions
    if fields:
        term["matchFields"] = fields
    return {"nodeSelectorTerms": [term]} if term else None


def _add(known: list[JSON], more: Iterable[JSON] | None) -> None:
    for one in more or ():
        if not any(_same(one, other) for other in known):
            known.append(one)


def _same(one: JSON, other: JSON) -> bool:
    return (
        one["key"] == other["key"]
        and one["operator"] == other["operator"]
        and set(one.get("values") or ()) == set(other.get("values") or ())
    )
