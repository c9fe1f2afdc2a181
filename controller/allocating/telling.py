"""Tells people why a pod of theirs waits, in Events on the pod and its claims.

Flow: the allocator's answers are noted; a queue looks at each pod that was refused, after it has waited for a
moment, works out why, and writes an Event if that is new or was said long ago.

Limits: while reasons are worked out nothing is decided, so the next ones wait four times as long as that
took. Of an answer only its words are kept: pods by the ten thousand may wait. An answer names nobody else's
claims or namespaces. All pods together are told at most so many Events in a second as
`controller.announcing` says, each that waits one for itself and each of its claims in `again_s`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from controller.allocating.answers import Answer
from controller.allocating.books import Books
from controller.allocating.errors import NoNodeError
from controller.allocating.question import Question
from controller.allocating.sources import Sources
from controller.announcing import Announcer, Words
from controller.events import Events, Subject, cut
from driver.allocation.why_not import WhyNot
from driver.kube.resources import PODS, RESOURCE_CLAIMS

_LEAST_S = 30.0
"""Seconds between two answers to one pod."""
_UNHEARD_S = 5.0
"""Seconds before what the API server would not take is said again."""


@dataclass(frozen=True, slots=True)
class _Words:
    """Why a pod waits; `by_cards` if reasons against the cards can be worked out."""

    reason: str
    note: str
    by_cards: bool = False


class Telling:
    """Notes answers, and writes Events."""

    def __init__(
        self,
        sources: Sources,
        books: Books,
        events: Events,
        *,
        question_of: Callable[[str], Question | None],
        note_of: Callable[[WhyNot, bool], str],
        again_s: float,
    ) -> None:
        """Starts without answers.

        Args:
            sources: Where pods and claims are found.
            books: Why something does not fit.
            events: Writes Events.
            question_of: What is asked for a pod (`namespace/name`) now; None where that cannot be told.
            note_of: Puts an answer into words; told whether it is about one claim.
            again_s: Seconds before an unchanged answer is repeated.
        """
        self._sources = sources
        self._books = books
        self._question_of = question_of
        self._note_of = note_of
        self._again_s = again_s
        self._announcer = Announcer(events, again_s=again_s, least_s=_LEAST_S, by_reason=True)
        self._answers: dict[str, _Words] = {}
        self._owed_s = 0.0

    def note(self, answer: Answer) -> bool:
        """Takes note of an answer; whether there is something to tell."""
        refusal = answer.decision.refusal if answer.decision is not None else None
        if answer.error is not None:
            # Nothing of the error itself: its traceback would keep all that was being looked at.
            self._answers[answer.pod] = _Words(answer.error.reason, cut(str(answer.error)))
        elif refusal is not None:
            self._answers[answer.pod] = _Words(refusal.reason, cut(refusal.summary()), by_cards=True)
        else:
            self._forget(answer.pod)
            return False
        return True

    async def rest(self) -> None:
        """To be awaited between two pods: what keeps the work to its share of a core and of Events."""
        owed, self._owed_s = self._owed_s, 0.0
        await asyncio.sleep(max(owed, self._announcer.room_s()))

    async def tell(self, key: str) -> float | None:
        """Tells a pod (`namespace/name`) what is known; seconds until it is looked at again, or None."""
        view, answer = self._sources.pods.get(key), self._answers.get(key)
        if view is None or not view.may_need or answer is None:
            self._forget(key)
            return None
        # Reasons change to and fro while others come and go, and take time to be worked out.
        if left_s := self._announcer.left_s(key, view.uid):
            return left_s
        words = await self._words(key, answer)
        if left_s := self._announcer.left_s(key, view.uid, words):
            return left_s
        namespace, _, name = key.partition("/")
        subjects = [Subject(resource=PODS, name=name, namespace=namespace, uid=view.uid)]
        for claim in view.claims:
            found = self._sources.claims.get(f"{namespace}/{claim}")
            if found is not None and not found.allocated:
                subjects.append(
                    Subject(resource=RESOURCE_CLAIMS, name=claim, namespace=namespace, uid=found.uid)
                )
        heard = await self._announcer.say(key, view.uid, words, subjects)
        return self._again_s if heard else _UNHEARD_S

    async def _words(self, key: str, answer: _Words) -> Words:
        question = self._question_of(key) if answer.by_cards else None
        if question is None:
            return Words(answer.reason, answer.note)
        began = time.monotonic()
        claims = [
            {**one, "metadata": {**one["metadata"], "name": f"claim-{number}", "namespace": "pod"}}
            for number, one in enumerate(question.claims, 1)
        ]
        try:
            found = await self._books.why_not(
                claims, nodes=question.candidates.choose, release=self._sources.release()
            )
        except NoNodeError:
            # Nodes have changed since it was decided about, and it will be again.
            return Words(answer.reason, answer.note)
        finally:
            self._owed_s += 4 * (time.monotonic() - began)
        return Words(found.reason, cut(self._note_of(found, len(claims) == 1)))

    def _forget(self, key: str) -> None:
        self._answers.pop(key, None)
        self._announcer.forget(key)
