"""Tells converted pods why they get no template, and says when each is tried again.

Purpose: whoever may create pods may make any number of them that cannot be converted; they must cost the API
server, and the pods that can, next to nothing.

Flow: `tell` for each try that failed; `forget` once a pod has its templates, or is gone.

Limits: all pods together are tried again at most `_TRIES_PER_S` times in a second, and told at most so many
Events as `controller.announcing` says. One that cannot be told now is told at its next try: nothing waits
here, so that pods whose templates can be made are never behind those whose cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from controller.announcing import EVENTS_PER_S, Announcer, Words
from controller.events import Events, Subject, cut
from driver.errors import DragomanError

_AGAIN_S = 60.0
"""Least seconds between two tries for one pod."""
_SAY_AGAIN_S = 300.0
"""Seconds before what was said is counted up."""
_TRIES_PER_S = 10


class Refusals:
    """What pods were told, and when it is whose turn again."""

    def __init__(self, events: Events) -> None:
        """Starts with nobody told.

        Args:
            events: Writes Events.
        """
        self._announcer = Announcer(events, again_s=_SAY_AGAIN_S, at_once=EVENTS_PER_S)
        self._turns: dict[str, float] = {}
        self._next_try = float("-inf")

    def keep(self, pods: Collection[str]) -> None:
        """Forgets all pods (`namespace/name`) but these."""
        self._announcer.keep(pods)
        self._turns = {key: due for key, due in self._turns.items() if key in pods}

    def forget(self, key: str) -> None:
        """Forgets a pod."""
        self._announcer.forget(key)
        self._turns.pop(key, None)

    async def tell(self, key: str, pod: Subject, refused: DragomanError) -> float:
        """Tells a pod what is in its way, unless it was just told; seconds until it is to be tried again."""
        words = Words(refused.reason, cut(str(refused)))
        if not (self._announcer.left_s(key, pod.uid, words) or self._announcer.room_s()):
            await self._announcer.say(key, pod.uid, words, [pod])
        now = asyncio.get_running_loop().time()
        return self._turn(key, now) - now

    def _turn(self, key: str, now: float) -> float:
        """When a pod is to be tried again."""
        # One that is changed again and again has one turn all the same, and puts off nobody else's.
        due = self._turns.get(key, now)
        if due <= now:
            due = self._next_try = max(now + _AGAIN_S, self._next_try + 1 / _TRIES_PER_S)
            self._turns[key] = due
        return due
