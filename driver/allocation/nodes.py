"""Which nodes a slice is for, and the node selector of a result.

Purpose: Kubernetes' NodeSelector: matching a node, and merging the selectors of several devices into one.

Flow: `matches` is asked for each candidate slice or device; `merged_selector` once for each claim that
was allocated.

Limits: terms are OR-ed, their parts AND-ed; an operator that does not exist matches nothing. `Gt` and `Lt`
compare what Kubernetes takes for whole numbers, of 64 bits, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from driver.allocation.models import JSON, Device, NodeSelection

_LABEL_LENGTH = 63
_LARGEST = 2**63 - 1
_LARGEST_DIGITS = len(str(_LARGEST))


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
    # Not by all(): half of the time would go into its generators, and a pod's affinity can have 150 terms.
    for one in expressions:
        if not _requirement(one, node.labels):
            return False
    for one in fields:  # noqa: SIM110
        if not _requirement(one, {"metadata.name": node.name}):
            return False
    return True


def _requirement(requirement: JSON, values: Mapping[str, str]) -> bool:
    test = _OPERATORS.get(requirement["operator"])
    return test is not None and test(values.get(requirement["key"]), requirement.get("values") or [])


def _compared(value: str | None, wanted: list[str], *, sign: int) -> bool:
    if value is None or len(wanted) != 1:
        return False
    here, there = _whole(value), _whole(wanted[0])
    return here is not None and there is not None and (here - there) * sign > 0


@lru_cache(maxsize=1024)
def _whole(text: str) -> int | None:
    # Label values both, so neither has a sign. Python's int() takes more: `1_000`, spaces, any size. What a
    # pod writes is compared with thousands of nodes, and a node's label with all that a pod writes.
    if not (0 < len(text) <= _LABEL_LENGTH and text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    if len(digits) > _LARGEST_DIGITS or (number := int(digits or "0")) > _LARGEST:
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
