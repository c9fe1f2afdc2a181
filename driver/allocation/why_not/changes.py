"""What would help: small changes, each one tried.

Purpose: from "asks 40Gi, free 2Gi-31Gi" to "ask for 31Gi: would fit on node a (card-3)".

Flow: the survey says where a change to one request may help; each candidate (`edits`) is given to the
allocator for those nodes. Where no single change helps, changes are piled up on one node: what stands in the
way after the first is changed next.

Limits: tried on a few nodes (and, where a `Cluster` was given, for some changes on all), `MAX_TRIES` times
and `MAX_STEPS` steps of search in all, at most `MAX_PILED` changes together. So nothing is said that does not
hold, but what would help may go unsaid, and there may be a smaller change elsewhere. What takes the least
away comes first: waiting, then amounts, counts, tolerations, constraints, selectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from driver.allocation.decision import Decision
from driver.allocation.models import JSON
from driver.allocation.requests import Claim, Option
from driver.allocation.why_not.answer import Change
from driver.allocation.why_not.edits import Edit, edits, without_constraints
from driver.allocation.why_not.hints import Hints
from driver.allocation.why_not.oracle import Oracle
from driver.allocation.why_not.survey import Survey

MAX_TRIES = 48
MAX_STEPS = 15_000
MAX_PILED = 3
_MAX_NODES = 4
_MAX_ANYWHERE = 8
_MAX_BLAMED = 4
_MAX_STARTS = 4
_ORDER = ("Release", "Amount", "Count", "Tolerate", "Constraint", "Selector", "Several")
_FEW_NODES = frozenset({"Amount", "Count"})
"""Changes that were made for a node; others may help on any."""

Look = Callable[[Sequence[JSON], str], tuple[Sequence[Claim], Survey]]
"""Reads changed claims and surveys a node with them."""


class Changes:
    """Looks for changes."""

    def __init__(
        self, oracle: Oracle, raw: Sequence[JSON], claims: Sequence[Claim], survey: Survey, look: Look
    ) -> None:
        """Prepare for what a survey of claims found."""
        self._claims = claims
        self._oracle = oracle
        self._raw = raw
        self._survey = survey
        self._look = look
        self._tries = self._steps = self._anywhere = 0

    def found(self) -> tuple[Change, ...]:
        """Give what helps, the smallest change first."""
        found: list[Change] = []
        for (claim, option), hints in self._blamed():
            found += self._released(option, hints)
            found += self._single(edits(self._raw, self._claims, claim=claim, option=option, hints=hints))
        found += self._single(without_constraints(self._raw, self._survey.searched))
        if not any(one.kind != "Release" for one in found):
            found += self._several()
        return tuple(sorted(dict.fromkeys(found), key=lambda one: _ORDER.index(one.kind)))

    def _blamed(self) -> list[tuple[tuple[int, Option], Hints]]:
        hints = sorted(self._survey.hints.items(), key=lambda one: (one[0][0], one[0][1].label))
        return hints[:_MAX_BLAMED]

    def _single(self, candidates: Iterator[Edit]) -> Iterator[Change]:
        done: set[str] = set()
        for edit in candidates:
            if edit.kind in done:
                continue
            decision = self._fitting(edit)
            if decision is not None:
                yield _change(edit.kind, edit.text, edit.request, decision)
                if edit.once:
                    done.add(edit.kind)

    def _fitting(self, edit: Edit) -> Decision | None:
        """Try a change on a few nodes, then, where the oracle can, on all."""
        for node in edit.nodes[:_MAX_NODES]:
            decision = self._on(node, edit.claims)
            if decision is None or decision.refusal is None:
                return decision
        if edit.kind not in _FEW_NODES and self._anywhere < _MAX_ANYWHERE and self._may_try():
            self._anywhere += 1
            found = self._oracle.first(edit.claims)
            if found is not None:
                self._steps += found.steps
                return found if found.refusal is None else None
        return None

    def _on(self, node: str, claims: Sequence[JSON]) -> Decision | None:
        if not self._may_try():
            return None
        decision = self._oracle.on(node, claims)
        self._steps += decision.steps
        return decision

    def _may_try(self) -> bool:
        self._tries += 1
        return self._tries <= MAX_TRIES and self._steps < MAX_STEPS

    def _released(self, option: Option, hints: Hints) -> Iterator[Change]:
        for node in hints.released[:_MAX_NODES]:
            if self._may_try():
                decision = self._oracle.released(node, self._raw)
                self._steps += decision.steps
                if decision.refusal is None:
                    text = "wait until others release what they hold"
                    yield _change("Release", text, option.label, decision)
                    return

    def _several(self) -> Iterator[Change]:
        """Pile up changes on one node; the first pile that fits is given."""
        starts: dict[str, None] = {}
        for _, hints in self._blamed():
            for nodes in (*hints.selectors.values(), *hints.taints.values()):
                starts.update(dict.fromkeys(nodes[:1]))
            starts.update(dict.fromkeys(one.node for one in hints.reductions[:1]))
        for node in list(starts)[:_MAX_STARTS]:
            change = self._piled(node)
            if change is not None:
                yield change
                return

    def _piled(self, node: str) -> Change | None:
        raw: Sequence[JSON] = self._raw
        texts: list[str] = []
        for _ in range(MAX_PILED):
            claims, survey = self._look(raw, node)
            edit = next(
                (
                    one
                    for (claim, option), hints in survey.hints.items()
                    for one in edits(raw, claims, claim=claim, option=option, hints=hints)
                ),
                None,
            )
            if edit is None:
                return None
            raw = edit.claims
            texts.append(edit.text)
            decision = self._on(node, raw)
            if decision is None:
                return None
            if decision.refusal is None:
                return _change("Several", " and ".join(texts), edit.request, decision)
        return None


def _change(kind: str, text: str, request: str, decision: Decision) -> Change:
    return Change(
        kind=kind,
        text=text,
        request=request,
        node=decision.node,
        devices=tuple(
            result["device"]
            for one in decision.allocations or ()
            for result in (one.get("devices") or {}).get("results") or ()
        ),
        passing=kind == "Release",
    )
