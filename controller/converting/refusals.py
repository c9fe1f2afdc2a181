"""Tells converted pods why they get no template, and says when each is tried again.

Purpose: whoever may create pods may make any number of them that cannot be converted; they must cost the API
server, and the pods that can, next to nothing.

Flow: `tell` for each try that failed; `forget` once a pod has its templates, or is gone.

Limits: all pods together are told at most `_EVENTS_PER_S` Events and tried again at most `_TRIES_PER_S` times
in a second. One that cannot be told now is told at its next try: nothing waits here, so that pods whose
templates can be made are never behind those whose cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from controller.events import Events, Subject, cut
from driver.errors import DragomanError

_AGAIN_S = 60.0
"""Least seconds between two tries for one pod."""
_SAY_AGAIN_S = 300.0
"""Seconds before what was said is counted up."""
_EVENTS_PER_S = 20
_TRIES_PER_S = 10


@dataclass(frozen=True, slots=True)
class _Told:
    pod: str
    words: int
    at: float
    times: int


class Refusals:
    """What pods were told, and when it is whose turn again."""

    def __init__(self, events: Events) -> None:
        """Starts with nobody told.

        Args:
            events: Writes Events.
        """
        self._events = events
        self._told: dict[str, _Told] = {}
        self._turns: dict[str, float] = {}
        self._next_event = self._next_try = float("-inf")

    def keep(self, pods: Collection[str]) -> None:
        """Forgets all pods (`namespace/name`) but these."""
        self._told = {key: told for key, told in self._told.items() if key in pods}
        self._turns = {key: due for key, due in self._turns.items() if key in pods}

    def forget(self, key: str) -> None:
        """Forgets a pod."""
        self._told.pop(key, None)
        self._turns.pop(key, None)

    async def tell(self, key: str, pod: Subject, refused: DragomanError) -> float:
        """Tells a pod what is in its way, unless it was just told; seconds until it is to be tried again."""
        now = asyncio.get_running_loop().time()
        words = hash((refused.reason, str(refused)))
        before = self._told.get(key)
        if before is not None and (before.pod, before.words) != (pod.uid, words):
            before = None
        if (before is None or now >= before.at + _SAY_AGAIN_S) and self._has_event(now):
            told = _Told(pod.uid, words, now, before.times + 1 if before else 1)
            if await self._events.tell(pod, reason=refused.reason, note=cut(str(refused)), times=told.times):
                self._told[key] = told
            else:
                self._told.pop(key, None)
        return self._turn(key, now) - now

    def _turn(self, key: str, now: float) -> float:
        """When a pod is to be tried again."""
        # One that is changed again and again has one turn all the same, and puts off nobody else's.
        due = self._turns.get(key, now)
        if due <= now:
            due = self._next_try = max(now + _AGAIN_S, self._next_try + 1 / _TRIES_PER_S)
            self._turns[key] = due
        return due

    def _has_event(self, now: float) -> bool:
        """Takes one of the Events of this second, if any is left."""
        # So many may come at once as a second has.
        due = max(self._next_event, now - 1 + 1 / _EVENTS_PER_S)
        if due > now:
            return False
        self._next_event = due + 1 / _EVENTS_PER_S
        return True
