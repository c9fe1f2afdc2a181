"""Tells people why a pod of theirs waits, in Events on the pod and its claims.

Flow: the allocator's answers are noted; a queue looks at each pod that was refused, after it has waited for a
moment, and writes an Event if the answer is new or was said long ago.

Limits: an answer names nobody else's claims or namespaces. What one pod is told is rate-limited, not what all
are told together: each pod that waits costs one Event in `again_s`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from controller.allocating.allocator import Answer
from controller.allocating.sources import Sources
from controller.events import Events, Subject, cut
from driver.kube.resources import PODS, RESOURCE_CLAIMS


@dataclass(slots=True)
class _Told:
    reason: str
    note: str
    at: float
    times: int


class Telling:
    """Notes answers, and writes Events."""

    def __init__(self, sources: Sources, events: Events, *, again_s: float) -> None:
        """Starts without answers.

        Args:
            sources: Where pods and claims are found.
            events: Writes Events.
            again_s: Seconds before an unchanged answer is repeated.
        """
        self._sources = sources
        self._events = events
        self._again_s = again_s
        self._answers: dict[str, tuple[str, str]] = {}
        self._told: dict[str, _Told] = {}

    def note(self, answer: Answer) -> bool:
        """Takes note of an answer; whether there is something to tell."""
        text = _words(answer)
        if text is None:
            self._answers.pop(answer.pod, None)
            self._told.pop(answer.pod, None)
            return False
        self._answers[answer.pod] = text
        return True

    async def tell(self, key: str) -> float | None:
        """Tells a pod (`namespace/name`) what is known; seconds until it is looked at again, or None."""
        view, answer = self._sources.pods.get(key), self._answers.get(key)
        if view is None or not view.waits or answer is None:
            self._answers.pop(key, None)
            self._told.pop(key, None)
            return None
        reason, note = answer
        now = asyncio.get_running_loop().time()
        before = self._told.get(key)
        if before is not None and before.reason == reason and now < before.at + self._again_s:
            return before.at + self._again_s - now
        same = before is not None and (before.reason, before.note) == (reason, note)
        told = _Told(reason, note, now, before.times + 1 if before is not None and same else 1)
        self._told[key] = told
        namespace, _, name = key.partition("/")
        subjects = [Subject(resource=PODS, name=name, namespace=namespace, uid=view.uid)]
        for claim in view.claims:
            found = self._sources.claims.get(f"{namespace}/{claim}")
            if found is not None and not found.allocated:
                subjects.append(
                    Subject(resource=RESOURCE_CLAIMS, name=claim, namespace=namespace, uid=found.uid)
                )
        for subject in subjects:
            await self._events.tell(subject, reason=reason, note=note, times=told.times)
        return self._again_s


def _words(answer: Answer) -> tuple[str, str] | None:
    if answer.error is not None:
        return answer.error.reason, cut(str(answer.error))
    refusal = answer.decision.refusal if answer.decision is not None else None
    return None if refusal is None else (refusal.reason, cut(refusal.summary()))
