"""Holds a change of policies back until it is this node's turn: the agent's side of `driver.api.rollout`.

Flow: at the start `restore` takes over what the node's AcceleratorNode says was in force; `decide` is asked
at each look which policy holds, and answers with what is to be reported.

Limits: a node that has reported no cards yet has nothing to lose and takes its policies at once. Numbers are
at least the time in seconds, so that a node whose AcceleratorNode was made anew uses none again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import structlog

from driver.api.node import policy_in_force
from driver.api.policy import EffectivePolicy, NamedPolicy
from driver.api.rollout import ChangeState, PolicyChange, differences, held_back, limiting, shape

log = structlog.get_logger(__name__)


class Decided(NamedTuple):
    """Which policy holds, and what is said about one that does not yet."""

    policy: EffectivePolicy
    change: PolicyChange | None


class PolicyTurns:
    """Decides which policy holds."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._current: EffectivePolicy | None = None
        self._change: PolicyChange | None = None
        self._wish: object = None
        self._cards: frozenset[str] = frozenset()

    def restore(self, status: Mapping[str, Any]) -> None:
        """Takes over what an AcceleratorNode's status says; called once, before `decide`."""
        cards = [one for one in status.get("cards") or [] if isinstance(one, Mapping)]
        said = status.get("policyChange")
        if isinstance(said, Mapping) and isinstance(said.get("number"), int):
            # What waited is told anew, with another number: nobody knows any more what it was.
            named = {name: said.get(name) or () for name in ("policies", "fields")}
            self._change = PolicyChange(
                number=said["number"],
                state=ChangeState.DONE,
                policies=tuple(map(str, named["policies"])),
                fields=tuple(map(str, named["fields"])),
            )
        if cards:
            self._cards = frozenset(str(one.get("uuid") or "") for one in cards)
            self._current = policy_in_force(status.get("policy"))

    def decide(
        self,
        target: EffectivePolicy,
        *,
        policies: Collection[NamedPolicy],
        turns: Mapping[str, int],
        cards: Collection[str],
    ) -> Decided:
        """Which policy holds now.

        Args:
            target: The one that should.
            policies: All policies.
            turns: Numbers of this node's turns by the policy whose status has them.
            cards: UUIDs of the cards that were found.
        """
        # Cards that are slow to be found must not look as if there were none.
        self._cards |= frozenset(cards)
        if self._current is None or not self._cards:
            # Nothing of this node is on offer that could go.
            return self._take_over(target)
        changes = differences(self._current, target, cards=self._cards)
        waits_for = limiting(changes, policies)
        if not waits_for:
            return self._take_over(target)
        wish = (waits_for, shape(target, cards=self._cards))
        if self._wish != wish or self._change is None:
            self._wish = wish
            self._change = PolicyChange(
                number=max(self._change.number + 1 if self._change else 0, int(self._clock())),
                state=ChangeState.WAITING,
                policies=waits_for,
                fields=tuple(sorted({one.field for one in changes})),
            )
            log.info(
                "a change of policies waits for its turn", policies=waits_for, number=self._change.number
            )
        if all(turns.get(name) == self._change.number for name in waits_for):
            log.info("it is this node's turn", policies=waits_for, number=self._change.number)
            return self._take_over(target)
        return Decided(held_back(self._current, target), self._change)

    def _take_over(self, target: EffectivePolicy) -> Decided:
        self._current, self._wish = target, None
        if self._change is not None and self._change.state is ChangeState.WAITING:
            self._change = self._change.model_copy(update={"state": ChangeState.DONE})
        return Decided(target, self._change)
