"""Says things about objects in Events: rarely again, and not too many at once.

Purpose: whoever may make pods may make any number of which something has to be said, each time that they are
looked at. An API server must not notice, and who waits for a word must get it.

Flow: `left_s` says when something may be said of an object; `say` writes the Events and remembers what was
said; `room_s` says when the next Events may be written, by whomever. What is the same as before is only
counted up, after `again_s`.

Limits: of what was said only a hash is kept. Writes at most `EVENTS_PER_S` Events in a second where all who
say something ask for room first; each such limit is that of one announcer. Nothing waits here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from controller.events import Events, Subject

EVENTS_PER_S = 20
_LEAST_S = 1e-6


@dataclass(frozen=True, slots=True)
class Words:
    """What is said: a reason in CamelCase, and a note of at most 1024 bytes."""

    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class _Said:
    uid: str
    reason: str
    note: int
    at: float
    times: int


class Announcer:
    """What was said of which object."""

    def __init__(
        self,
        events: Events,
        *,
        again_s: float,
        least_s: float = 0.0,
        by_reason: bool = False,
        at_once: int = 1,
    ) -> None:
        """Has said nothing yet.

        Args:
            events: Writes Events.
            again_s: Seconds before the same is said again.
            least_s: Seconds between two words about an object, however different they are.
            by_reason: Whether another note with the same reason is the same, until `again_s` are over.
            at_once: How many Events may be written in one moment after a silence.
        """
        self._events = events
        self._again_s = again_s
        self._least_s = least_s
        self._by_reason = by_reason
        self._burst_s = (at_once - 1) / EVENTS_PER_S
        self._said: dict[str, _Said] = {}
        self._room_at = float("-inf")

    def left_s(self, key: str, uid: str, words: Words | None = None) -> float:
        """Seconds until something may be said of an object; 0 if now.

        Args:
            key: The object, in whatever way the caller knows it.
            uid: Its UID: another one of the same key has been told nothing.
            words: What is to be said; None if that is not known yet.
        """
        before = self._before(key, uid)
        if before is None:
            return 0.0
        same = (
            words is not None
            and before.reason == words.reason
            and (self._by_reason or before.note == hash(words.note))
        )
        wait_s = max(self._again_s, self._least_s) if same else self._least_s
        return max(0.0, before.at + wait_s - _now())

    def room_s(self) -> float:
        """Seconds until the next Event may be written; 0 if now."""
        left_s = self._room_at - _now()
        # What is left of sums of twentieths is no time to wait for.
        return left_s if left_s > _LEAST_S else 0.0

    async def say(
        self, key: str, uid: str, words: Words, subjects: Sequence[Subject], *, warning: bool = True
    ) -> bool:
        """Says something of an object, to each of several subjects.

        Args:
            key: The object, as for `left_s`.
            uid: Its UID.
            words: What is said.
            subjects: What the Events are about.
            warning: Whether somebody should act.

        Returns:
            Whether all of it was written; if not, it counts as not said.
        """
        now, before = _now(), self._before(key, uid)
        same = before is not None and (before.reason, before.note) == (words.reason, hash(words.note))
        times = before.times + 1 if before is not None and same else 1
        self._said[key] = said = _Said(uid, words.reason, hash(words.note), now, times)
        self._room_at = max(self._room_at, now - self._burst_s) + len(subjects) / EVENTS_PER_S
        heard = [
            await self._events.tell(
                subject, reason=words.reason, note=words.note, times=times, warning=warning
            )
            for subject in subjects
        ]
        if all(heard):
            return True
        if self._said.get(key) is said:
            del self._said[key]
        return False

    def forget(self, key: str) -> None:
        """An object is gone, or there is nothing to be said of it any more."""
        self._said.pop(key, None)

    def keep(self, keys: Collection[str]) -> None:
        """Forgets all objects but these."""
        self._said = {key: said for key, said in self._said.items() if key in keys}

    def _before(self, key: str, uid: str) -> _Said | None:
        before = self._said.get(key)
        return before if before is not None and before.uid == uid else None


def _now() -> float:
    return asyncio.get_running_loop().time()
