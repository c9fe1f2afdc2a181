"""What would help: small changes, each one tried.

Purpose: from "asks 40Gi, free 2Gi-31Gi" to "ask for 31Gi: would fit on node a (card-3)".

Flow: the survey says where a change to one request may help; each candidate is written into a copy of the
claims and given to the allocator for those nodes. The first candidate of each kind that fits is kept.

Limits: one change at a time, tried on a few nodes (and, where a `Cluster` was given, for some changes on
all), `MAX_TRIES` times and `MAX_STEPS` steps of search in all. So nothing is said that does not hold, but
what would help may go unsaid. What takes the least away comes first: waiting, then amounts, counts,
tolerations, constraints, selectors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from driver.allocation.decision import Decision
from driver.allocation.models import JSON
from driver.allocation.requests import Claim, Option
from driver.allocation.why_not.answer import Change
from driver.allocation.why_not.falsehood import conjuncts, shortened
from driver.allocation.why_not.hints import Hints
from driver.allocation.why_not.oracle import Oracle
from driver.allocation.why_not.survey import Survey
from driver.quantities import Quantity

MAX_TRIES = 48
MAX_STEPS = 15_000
_MAX_NODES = 4
_MAX_ANYWHERE = 8
_MAX_BLAMED = 4
_MAX_TEXT = 120


class Changes:
    """Looks for changes."""

    def __init__(
        self,
        oracle: Oracle,
        raw: Sequence[JSON],
        claims: Sequence[Claim],
        survey: Survey,
    ) -> None:
        """Prepare for what a survey of claims found."""
        self._claims = claims
        self._oracle = oracle
        self._raw = raw
        self._survey = survey
        self._tries = self._steps = self._anywhere = 0

    def found(self) -> tuple[Change, ...]:
        """Give what helps, the smallest change first."""
        blamed = sorted(self._survey.hints.items(), key=lambda one: (one[0][0], one[0][1].label))
        found: list[Change] = []
        for (claim, option), hints in blamed[:_MAX_BLAMED]:
            found += self._released(option, hints)
            found += self._less(claim, option, hints)
            found += self._fewer(claim, option, hints)
            found += self._tolerated(claim, option, hints)
            found += self._unselected(claim, option, hints)
        found += self._constraints()
        order = ("Release", "Amount", "Count", "Tolerate", "Constraint", "Selector")
        return tuple(sorted(dict.fromkeys(found), key=lambda one: order.index(one.kind)))

    def _fitting(
        self, claims: Sequence[JSON], nodes: Sequence[str], *, anywhere: bool = False
    ) -> Decision | None:
        """Try claims on a few nodes, then, where the oracle can, on all."""
        for node in nodes[:_MAX_NODES]:
            if not self._may_try():
                return None
            decision = self._oracle.on(node, claims)
            self._steps += decision.steps
            if decision.refusal is None:
                return decision
        if anywhere and self._anywhere < _MAX_ANYWHERE and self._may_try():
            self._anywhere += 1
            found = self._oracle.first(claims)
            if found is not None:
                self._steps += found.steps
                return found if found.refusal is None else None
        return None

    def _may_try(self) -> bool:
        self._tries += 1
        return self._tries <= MAX_TRIES and self._steps < MAX_STEPS

    def _released(self, option: Option, hints: Hints) -> Iterator[Change]:
        for node in hints.released[:_MAX_NODES]:
            if self._may_try():
                decision = self._oracle.released(node, self._raw)
                self._steps += decision.steps
                if decision.refusal is None:
                    yield _change("Release", "wait until others release what they hold", option, decision)
                    return

    def _less(self, claim: int, option: Option, hints: Hints) -> Iterator[Change]:
        taken = self._taken_by_others(option)
        for reduction in hints.reductions[:_MAX_NODES]:
            # What is free may have to do for the pod's other requests as well.
            shared = tuple(
                (name, Quantity(amount.nano - taken.get(name, 0), amount.form))
                for name, amount in reduction.amounts
            )
            for amounts in dict.fromkeys((reduction.amounts, shared)):
                if all(amount.nano > 0 for _, amount in amounts):
                    change = self._lowered(claim, option, reduction.node, amounts)
                    if change is not None:
                        yield change
                        return

    def _lowered(
        self, claim: int, option: Option, node: str, amounts: tuple[tuple[str, Quantity], ...]
    ) -> Change | None:
        changed, written = self._copy(claim, option)
        asked = written.setdefault("capacity", {}).setdefault("requests", {})
        asked.update({name: amount.canonical() for name, amount in amounts})
        decision = self._fitting(changed, [node])
        if decision is None:
            return None
        parts = []
        for name, amount in amounts:
            before = option.capacity.get(name)
            instead = f" instead of {before}" if before is not None else ""
            parts.append(f"{shortened(name, 64)} {amount.canonical()}{instead}")
        return _change("Amount", f"ask for {' and '.join(parts)}", option, decision)

    def _taken_by_others(self, option: Option) -> dict[str, int]:
        taken: dict[str, int] = {}
        for claim in self._claims:
            for request in claim.requests:
                if option in request.options:
                    continue
                for name, amount in request.options[0].capacity.items():
                    taken[name] = taken.get(name, 0) + amount.nano
        return taken

    def _fewer(self, claim: int, option: Option, hints: Hints) -> Iterator[Change]:
        most, node = hints.fewer
        for count in range(min(most, option.count - 1), 0, -1):
            changed, written = self._copy(claim, option)
            written["count"] = count
            decision = self._fitting(changed, [node] if node else [])
            if decision is not None:
                yield _change("Count", f"count {count} instead of {option.count}", option, decision)
                return

    def _tolerated(self, claim: int, option: Option, hints: Hints) -> Iterator[Change]:
        for (key, value, effect), nodes in hints.taints.items():
            changed, written = self._copy(claim, option)
            toleration = {"key": key, "operator": "Equal", "value": value, "effect": effect}
            written["tolerations"] = [*(written.get("tolerations") or ()), toleration]
            decision = self._fitting(changed, nodes, anywhere=True)
            if decision is not None:
                shown = shortened(f"{key}={value}:{effect}" if value else f"{key}:{effect}", _MAX_TEXT)
                yield _change("Tolerate", f"tolerate the taint {shown}", option, decision)

    def _unselected(self, claim: int, option: Option, hints: Hints) -> Iterator[Change]:
        inherited = len(option.device_class.selectors)
        for (place, part), nodes in hints.selectors.items():
            if place < inherited:
                # The class is not the author's to change.
                continue
            changed, written = self._copy(claim, option)
            kept = _without(option.selectors[place], part)
            selectors = list(written.get("selectors") or ())
            own = place - inherited
            selectors[own : own + 1] = [{"cel": {"expression": kept}}] if kept else []
            written["selectors"] = selectors
            decision = self._fitting(changed, nodes, anywhere=True)
            if decision is not None:
                yield _change("Selector", f"drop {shortened(part, _MAX_TEXT)}", option, decision)

    def _constraints(self) -> Iterator[Change]:
        for place, claim in enumerate(self._raw):
            listed = ((claim.get("spec") or {}).get("devices") or {}).get("constraints") or ()
            for number, constraint in enumerate(listed):
                changed = copy.deepcopy(list(self._raw))
                del changed[place]["spec"]["devices"]["constraints"][number]
                decision = self._fitting(changed, self._survey.searched, anywhere=True)
                if decision is not None:
                    kind = "matchAttribute" if constraint.get("matchAttribute") else "distinctAttribute"
                    name = shortened(str(constraint.get(kind)), 100)
                    devices = _devices(decision)
                    yield Change(
                        kind="Constraint",
                        text=f"drop the constraint {kind} {name}",
                        node=decision.node,
                        devices=devices,
                    )

    def _copy(self, claim: int, option: Option) -> tuple[list[JSON], dict[str, Any]]:
        """Give a copy of the claims, and in it what is written of one request."""
        changed = copy.deepcopy(list(self._raw))
        name, _, sub = option.label.partition("/")
        requests = changed[claim]["spec"]["devices"]["requests"]
        written = next(one for one in requests if one["name"] == name)
        if sub:
            return changed, next(one for one in written["firstAvailable"] if one["name"] == sub)
        return changed, written["exactly"]


def _change(kind: str, text: str, option: Option, decision: Decision) -> Change:
    return Change(
        kind=kind,
        text=text,
        request=option.label,
        node=decision.node,
        devices=_devices(decision),
        passing=kind == "Release",
    )


def _devices(decision: Decision) -> tuple[str, ...]:
    return tuple(
        result["device"]
        for one in decision.allocations or ()
        for result in (one.get("devices") or {}).get("results") or ()
    )


def _without(expression: str, unwanted: str) -> str:
    """Give a selector without one of its parts; "" if it is all that there is."""
    parts = conjuncts(expression)
    kept = [part for part in parts if " ".join(part.split()) != unwanted]
    if len(kept) == len(parts):
        # The part is nested deeper, or was cut: the selector goes as a whole.
        return ""
    return " && ".join(kept)
