"""Verdicts about shares, damped: what was seen of their processes, round after round.

Purpose: a proof counts at once. A failure counts when it has been seen in every round for the time that
was set, for a process that has just started may not have come to the library's first call, and a program
that looks at a card and ends needs no alarm. What is not known is said after the same time, and undoes no
proof, unless it is because a container cannot be looked at.

Limits: pure; the clock is given. A share is as good as the worst process that uses it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from driver.isolation.base import InForce
from driver.isolation.rules import ShareKey

Status = Literal["True", "False", "Unknown"]

SEEN = "Seen"
"""Reason of a verdict that all limits were seen in force."""

NO_PROCESS = "NoProcess"
"""Reason where no process of the share's containers is seen."""

_NO_PROCESS = "No process of a container with this share is seen."

NOT_HELD = "NotHeld"
"""Reason where no method holds a limit, by somebody's decision."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be said of a share.

    Attributes:
        status: As a condition's.
        reason: In CamelCase.
        message: A sentence.
        remedy: What to do about it, as a sentence; "" if nothing is wrong.
        container: The container in which it was seen; "" for none.
    """

    status: Status
    reason: str
    message: str
    remedy: str = ""
    container: str = ""

    def says_the_same(self, other: Verdict) -> bool:
        """Whether nobody need be told of the one who was told of the other: sentences may hold numbers."""
        return (self.status, self.reason, self.container) == (other.status, other.reason, other.container)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one round saw of one process, or of none.

    Attributes:
        container: Where.
        found: What was seen.
        unseen: The container cannot be looked at, so that what was proved of it before is known no longer.
    """

    container: str
    found: InForce
    unseen: bool = False


@dataclass
class _State:
    verdict: Verdict | None = None
    failing_since: float | None = None
    unknown_since: float | None = None
    unseen_since: float | None = None


class Book:
    """Verdicts by share.

    Args:
        deadline_s: For so many seconds a failure has to last before it counts.
    """

    def __init__(self, *, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._states: dict[ShareKey, _State] = {}

    def verdict(self, share: ShareKey) -> Verdict | None:
        """What is to be said of a share; None where it is too early for a word."""
        state = self._states.get(share)
        return state.verdict if state else None

    def verdicts(self) -> Mapping[ShareKey, Verdict]:
        """All of them."""
        return {share: state.verdict for share, state in self._states.items() if state.verdict}

    def keep(self, shares: Collection[ShareKey]) -> None:
        """Forgets all other shares."""
        self._states = {share: state for share, state in self._states.items() if share in shares}

    def round(self, share: ShareKey, observations: Iterable[Observation], *, now: float) -> Verdict | None:
        """Notes what a round saw of a share's processes; what is to be said from now on."""
        state = self._states.setdefault(share, _State())
        seen = list(observations)
        failing = next((one for one in seen if one.found.known and not one.found.holds), None)
        if failing is not None:
            state.unknown_since = state.unseen_since = None
            state.failing_since = now if state.failing_since is None else state.failing_since
            if now - state.failing_since >= self._deadline_s:
                state.verdict = Verdict(
                    status="False",
                    reason=failing.found.reason or "NotInForce",
                    message=failing.found.message,
                    remedy=failing.found.remedy,
                    container=failing.container,
                )
            return state.verdict
        state.failing_since = None
        proof = next((one for one in seen if one.found.holds), None)
        if proof is not None:
            state.unknown_since = state.unseen_since = None
            state.verdict = Verdict(
                status="True", reason=SEEN, message=proof.found.message, container=proof.container
            )
        else:
            self._unknown(state, seen, now=now)
        return state.verdict

    def _unknown(self, state: _State, seen: list[Observation], *, now: float) -> None:
        state.unknown_since = now if state.unknown_since is None else state.unknown_since
        unseen = next((one for one in seen if one.unseen), None)
        if unseen is None:
            state.unseen_since = None
        elif state.unseen_since is None:
            state.unseen_since = now
        since = state.unknown_since if unseen is None else state.unseen_since
        if unseen is None and state.verdict is not None and state.verdict.status == "True":
            # It was proved, and nothing speaks against it: programs come and go.
            return
        if since is None or now - since < self._deadline_s:
            return
        first = unseen or (seen[0] if seen else None)
        found = first.found if first else InForce(holds=False, message=_NO_PROCESS)
        state.verdict = Verdict(
            status="Unknown",
            reason=found.reason or NO_PROCESS,
            message=found.message,
            remedy=found.remedy,
            container=first.container if first else "",
        )
