"""Pods that have their cards and are not placed: who gives them back, and when.

Purpose: kube-scheduler may keep a pod waiting although its claims are allocated: its gang is not complete, or
something is in its way of which the allocator knows nothing. Its cards are of no use to anybody then, and two
gangs can wait for each other for ever.

Flow: `note` when a pod is seen that has all its claims; `look` names the pods whose turn it is to give back
what they have; `rest_s` keeps their group from being decided about for a while, so that others have their
turn.

Rules:

* Nobody gives anything back who has waited for less than `after_s`, nor while only pods of his own group wait
  because no card fits, or only pods of lower priority than his group's.
* A group gives back as a whole: half a gang is of no use either. It is what the pod says of itself
  (`views.group_of`): its PodGroup, or whoever controls it; a pod without both is a group by itself.
* One group at a time, the one that comes last of all that have waited for at least half of that time: of the
  lowest priority, and of these the youngest. So the one that was there first is complete before it would be
  its turn.
* A group that gave back rests for `after_s`, twice as long each further time, `_CAP` times that at most.

Limits: whether those who wait could use what is given back is not asked. Kept in memory: another leader
counts anew. A pod that is being bound at that moment loses nothing: the API server takes no allocation away
that is reserved, and reserves nothing that is not allocated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.allocating.errors import CardsGivenBackError
from controller.allocating.views import ClaimView, PodView

_LOOK_S = 10.0
_CAP = 16


@dataclass(frozen=True, slots=True)
class _Waiting:
    uid: str
    group: str
    since: float
    priority: int
    age: tuple[str, str]


@dataclass(slots=True)
class _Rest:
    times: int
    until: float


class Unplaced:
    """Which pods have their cards and no node."""

    def __init__(self, *, after_s: float) -> None:
        """Starts empty.

        Args:
            after_s: How long a pod may have its cards without being placed before it may have to give them
                back; more than kube-scheduler takes to bind a pod.
        """
        self.after_s = after_s
        self._waiting: dict[str, _Waiting] = {}
        self._rests: dict[str, _Rest] = {}

    def note(self, key: str, view: PodView, claims: Sequence[ClaimView], *, now: float) -> bool:
        """A pod (`namespace/name`) has all its claims of ours; whether it waits for a node nevertheless."""
        ours = [claim for claim in claims if claim.ours]
        if not (ours and view.waits) or any(claim.reserved for claim in ours):
            # None of ours, or it is being bound.
            self.forget(key)
            return False
        known = self._waiting.get(key)
        if known is None or known.uid != view.uid:
            age = (view.created, key)
            self._waiting[key] = _Waiting(view.uid, _group(key, view), now, view.priority, age)
        return True

    def forget(self, key: str) -> None:
        """A pod is placed, is gone, or does not have all its claims any more."""
        self._waiting.pop(key, None)

    def clear(self) -> None:
        """Forgets all of it."""
        self._waiting.clear()
        self._rests.clear()

    def next_look_s(self, *, now: float) -> float | None:
        """Seconds until `look` may have something to say; None if nobody waits in this way."""
        first = min((one.since for one in self._waiting.values()), default=None)
        return None if first is None else max(first + self.after_s - now, _LOOK_S)

    def look(self, needing: Iterable[tuple[str, PodView]], *, now: float) -> list[str]:
        """The pods that give back what they have, and rest from now on; none if it is nobody's turn.

        Args:
            needing: Pods (`namespace/name`) that wait for cards.
            now: The loop's time.
        """
        if not any(one.since + self.after_s <= now for one in self._waiting.values()):
            return []
        due = {one.group for one in self._waiting.values() if one.since + self.after_s / 2 <= now}
        others: dict[str, int] = {}
        for key, view in needing:
            group = _group(key, view)
            if not self._rest_s(group, now=now):
                others[group] = max(others.get(group, view.priority), view.priority)
        members = [one for one in self._waiting.values() if one.group in due]
        priorities: dict[str, int] = {}
        ages: dict[str, tuple[str, str]] = {}
        for one in members:
            priorities[one.group] = max(priorities.get(one.group, one.priority), one.priority)
            ages[one.group] = min(ages.get(one.group, one.age), one.age)
        youngest = sorted(due, key=ages.__getitem__, reverse=True)
        for group in sorted(youngest, key=priorities.__getitem__):
            if any(one != group and priority >= priorities[group] for one, priority in others.items()):
                return self._give_back(group, now=now)
        return []

    def rest_s(self, key: str, view: PodView, *, now: float) -> float:
        """For how many seconds a pod's group has to rest; 0 if it need not."""
        return self._rest_s(_group(key, view), now=now) if self._rests else 0.0

    def given_back(self, key: str, view: PodView, *, now: float) -> CardsGivenBackError:
        """What a pod is told that gives its cards back."""
        return CardsGivenBackError(
            f"kube-scheduler did not place the pod, or all of its group, within {self.after_s:.0f} s after "
            "it had its cards, and others wait for some.",
            remedy="See what kube-scheduler says of the pod and its group. It gets its turn again after "
            f"{self.rest_s(key, view, now=now):.0f} s.",
        )

    def _rest_s(self, group: str, *, now: float) -> float:
        known = self._rests.get(group)
        return max(known.until - now, 0.0) if known is not None else 0.0

    def _give_back(self, group: str, *, now: float) -> list[str]:
        # Of groups that were through with it long ago nothing is kept.
        kept_s = _CAP * self.after_s
        self._rests = {one: rest for one, rest in self._rests.items() if rest.until + kept_s > now}
        rest = self._rests.setdefault(group, _Rest(times=0, until=now))
        rest.until = now + self.after_s * min(2**rest.times, _CAP)
        rest.times += 1
        found = [key for key, one in self._waiting.items() if one.group == group]
        for key in found:
            self.forget(key)
        return found


def _group(key: str, view: PodView) -> str:
    return f"{key.partition('/')[0]}/{view.group}" if view.group else f"{key} {view.uid}"
