"""Changed claims: what somebody could ask for instead.

Purpose: candidates, written into copies of the claims; nobody has tried them yet.

Flow: `edits` for the request to blame and what the survey noted of it; `without_constraints` for the claims.

Limits: the claims that were given are never changed. Selectors of a class are not the author's to change, so
they stay.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from driver.allocation.models import JSON
from driver.allocation.requests import Claim, Option
from driver.allocation.why_not.falsehood import conjuncts, shortened
from driver.allocation.why_not.hints import Hints
from driver.quantities import Quantity

_MAX_REDUCTIONS = 4
_MAX_TEXT = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change to try.

    Attributes:
        kind: `Amount`, `Count`, `Tolerate`, `Constraint` or `Selector`.
        text: What to do.
        claims: The claims as they would be.
        nodes: Where it may help.
        request: The request that changes, "" if none.
        once: Whether one change of the kind is enough.
    """

    kind: str
    text: str
    claims: tuple[JSON, ...]
    nodes: tuple[str, ...]
    request: str = ""
    once: bool = False


def edits(
    raw: Sequence[JSON], claims: Sequence[Claim], *, claim: int, option: Option, hints: Hints
) -> Iterator[Edit]:
    """Give changes to one request.

    Args:
        raw: The claims as written.
        claims: The same, read.
        claim: Place of the claim to blame.
        option: The request, or the sub-request, to blame.
        hints: What the survey noted.
    """
    yield from _less(raw, claims, claim, option, hints)
    most, node = hints.fewer
    for count in range(min(most, option.count - 1), 0, -1):
        changed, written = _copy(raw, claim, option)
        written["count"] = count
        text = f"count {count} instead of {option.count}"
        yield Edit(kind="Count", text=text, claims=changed, nodes=(node,), request=option.label, once=True)
    for (key, value, effect), nodes in hints.taints.items():
        changed, written = _copy(raw, claim, option)
        toleration = {"key": key, "operator": "Equal", "value": value, "effect": effect}
        written["tolerations"] = [*(written.get("tolerations") or ()), toleration]
        shown = shortened(f"{key}={value}:{effect}" if value else f"{key}:{effect}", _MAX_TEXT)
        text = f"tolerate the taint {shown}"
        yield Edit(kind="Tolerate", text=text, claims=changed, nodes=tuple(nodes), request=option.label)
    yield from _unselected(raw, claim, option, hints)


def without_constraints(raw: Sequence[JSON], nodes: Sequence[str]) -> Iterator[Edit]:
    """Give the claims without one of their constraints, for each of them."""
    for place, claim in enumerate(raw):
        listed = ((claim.get("spec") or {}).get("devices") or {}).get("constraints") or ()
        for number, constraint in enumerate(listed):
            changed: list[Any] = copy.deepcopy(list(raw))
            del changed[place]["spec"]["devices"]["constraints"][number]
            kind = "matchAttribute" if constraint.get("matchAttribute") else "distinctAttribute"
            text = f"drop the constraint {kind} {shortened(str(constraint.get(kind)), 100)}"
            yield Edit(kind="Constraint", text=text, claims=tuple(changed), nodes=tuple(nodes))


def _less(
    raw: Sequence[JSON], claims: Sequence[Claim], claim: int, option: Option, hints: Hints
) -> Iterator[Edit]:
    taken = _taken_by_others(claims, option)
    for reduction in hints.reductions[:_MAX_REDUCTIONS]:
        # What is free may have to do for the pod's other requests as well.
        shared = tuple(
            (name, Quantity(amount.nano - taken.get(name, 0), amount.form))
            for name, amount in reduction.amounts
        )
        for amounts in dict.fromkeys((reduction.amounts, shared)):
            if any(amount.nano <= 0 for _, amount in amounts):
                continue
            changed, written = _copy(raw, claim, option)
            asked = written.setdefault("capacity", {}).setdefault("requests", {})
            asked.update({name: amount.canonical() for name, amount in amounts})
            parts = []
            for name, amount in amounts:
                before = option.capacity.get(name)
                instead = f" instead of {before}" if before is not None else ""
                parts.append(f"{shortened(name, 64)} {amount.canonical()}{instead}")
            yield Edit(
                kind="Amount",
                text=f"ask for {' and '.join(parts)}",
                claims=changed,
                nodes=(reduction.node,),
                request=option.label,
                once=True,
            )


def _unselected(raw: Sequence[JSON], claim: int, option: Option, hints: Hints) -> Iterator[Edit]:
    inherited = len(option.device_class.selectors)
    for (place, part), nodes in hints.selectors.items():
        if place < inherited:
            continue
        changed, written = _copy(raw, claim, option)
        kept = _without(option.selectors[place], part)
        selectors = list(written.get("selectors") or ())
        own = place - inherited
        selectors[own : own + 1] = [{"cel": {"expression": kept}}] if kept else []
        written["selectors"] = selectors
        text = f"drop {shortened(part, _MAX_TEXT)}"
        yield Edit(kind="Selector", text=text, claims=changed, nodes=tuple(nodes), request=option.label)


def _taken_by_others(claims: Sequence[Claim], option: Option) -> dict[str, int]:
    taken: dict[str, int] = {}
    for claim in claims:
        for request in claim.requests:
            if option in request.options:
                continue
            for name, amount in request.options[0].capacity.items():
                taken[name] = taken.get(name, 0) + amount.nano
    return taken


def _copy(raw: Sequence[JSON], claim: int, option: Option) -> tuple[tuple[JSON, ...], dict[str, Any]]:
    """Give a copy of the claims, and in it what is written of one request."""
    changed: list[Any] = copy.deepcopy(list(raw))
    name, _, sub = option.label.partition("/")
    requests = changed[claim]["spec"]["devices"]["requests"]
    written = next(one for one in requests if one["name"] == name)
    if sub:
        return tuple(changed), next(one for one in written["firstAvailable"] if one["name"] == sub)
    return tuple(changed), written["exactly"]


def _without(expression: str, unwanted: str) -> str:
    """Give a selector without one of its parts; "" if it is all that there is."""
    parts = conjuncts(expression)
    kept = [part for part in parts if " ".join(part.split()) != unwanted]
    if len(kept) == len(parts):
        # The part is nested deeper, or was cut: the selector goes as a whole.
        return ""
    return " && ".join(kept)
