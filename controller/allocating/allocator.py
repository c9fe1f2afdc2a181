"""Allocates the claims of pods that wait.

Flow: `reconcile` looks at one pod (`pod/NAMESPACE/NAME`) or one claim (`claim/NAMESPACE/NAME`).

* A pod that waits: its claims of our classes that are not allocated are decided together, for a node that it
  may use; for one that was made for its node, past kube-scheduler, for that node, and they are reserved for
  it at once, as kube-scheduler would have done. What was decided is in the books at once, before anything is
  written, so that the next decision counts with it; it leaves them only when it is known that it was not
  stored.
* A claim: one whose write got no answer is asked for until it is known; one of ours that no pod holds or
  waits for is released.

Limits: one decision is made after the other. It is worked out beside the event loop, and dropped if what it
was made from has changed meanwhile; between looking at that and booking there is no `await`. Nothing is
decided while this replica does not lead, or before all claims were read anew since it began to. A claim that
asks for devices of several drivers is not allocated: kube-scheduler could not add the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from controller.allocating.answers import Answer
from controller.allocating.books import Books
from controller.allocating.candidates import Nodes
from controller.allocating.errors import AllocationHeldUpError, AllocationLostError
from controller.allocating.expecting import Expecting
from controller.allocating.held_up import HoldUps
from controller.allocating.question import Question, Questions
from controller.allocating.reading import LongTexts, Reading
from controller.allocating.refused import RefusedNodes
from controller.allocating.sending import Sending
from controller.allocating.sources import Sources
from controller.allocating.storing import Storing
from controller.allocating.turns import Turns
from controller.allocating.unplaced import Unplaced
from controller.allocating.usage import NodeUsage
from controller.allocating.views import ClaimView, PodView
from controller.allocating.waiting import WAKE, Waiting
from controller.allocating.writing import Wanted
from driver.allocation.placement import PlacementPolicy
from driver.errors import AllocationError, ClaimError, ConfigError
from driver.kube.client import JSON, ApiError, KubeClient

_AGAIN_S = 60.0
_SOON_S = 0.5
_WAKE_S = 1.0
_COSTLY_S = 1.0
"""Processor time of a decision that is a costly one."""
_COSTLY_FACTOR = 20
"""How many times as long as a costly decision took its pod waits for the next one."""
UNPLACED = "unplaced/"
"""Key of the look at pods that have their cards and are not placed."""
_REFUSED = (400, 403, 413, 422)

_log = structlog.get_logger("allocating")


@dataclass(frozen=True)
class _Booked:
    answer: Answer
    wanted: list[Wanted]


class Allocator:
    """Decides and writes.

    Attributes:
        waiting: Pods that wait.
    """

    def __init__(
        self,
        client: KubeClient,
        sources: Sources,
        books: Books,
        *,
        usage: NodeUsage,
        pods_of: Callable[[str], Collection[str]],
        turns: Turns,
        left_s: Callable[[], float],
        again: Callable[[str, float], None],
        answered: Callable[[Answer], None],
        policy: PlacementPolicy,
        hold_ups: HoldUps | None = None,
        claims_version: Callable[[], int] = lambda: 0,
        orphaned_s: float = 60.0,
        unplaced_s: float = 900.0,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepares an allocator; it does nothing by itself.

        Args:
            client: The API server.
            sources: Where to look.
            books: What is given out.
            usage: What pods take of nodes.
            pods_of: The pods that name a claim (`namespace/name`).
            turns: Which namespaces have to rest.
            left_s: Seconds before another replica can lead; 0 or less where this one may not write.
            again: Puts a key into the queue, after so many seconds.
            answered: Told of each decision.
            policy: Which of the answers that fit is liked best.
            hold_ups: Told of claims that keep this replica from beginning; None if nobody is.
            claims_version: Resource version up to which claims are known; 0 if that is not known.
            orphaned_s: How long an allocation of ours may have no pod before it is released.
            unplaced_s: How long a pod may have its cards without being placed while others need some.
            wall_clock: The time that allocations carry.
        """
        self._sources = sources
        self._books = books
        self._usage = usage
        self._turns = turns
        self._pods_of = pods_of
        self._nodes = Nodes(sources, usage)
        self._questions = Questions(sources, self._nodes)
        self._expecting = Expecting(sources, usage, nodes=self._nodes, questions=self._questions)
        self._again = again
        self._answered = answered
        self._policy = policy
        self._refused_nodes = RefusedNodes()
        self._unplaced = Unplaced(after_s=unplaced_s)
        self.waiting = Waiting(sources, turns=turns, unplaced=self._unplaced, again=again)
        self._sending = Sending(client, left_s=left_s)
        self._reading = Reading(client, sources, self._sending, hold_ups=hold_ups, wall_clock=wall_clock)
        self._storing = Storing(
            self._sending,
            sources,
            books,
            usage=usage,
            pods_of=pods_of,
            version=claims_version,
            again=again,
            freed=lambda: again(WAKE, _WAKE_S),
            orphaned_s=orphaned_s,
            wall_clock=wall_clock,
        )
        self._deciding = asyncio.Lock()
        self._spent_s = 0.0

    def begin(self) -> list[str]:
        """Another replica may have led meanwhile: all claims are read anew first; all keys there are."""
        self._reading.begin()
        self._storing.begin()
        self.waiting.clear()
        self._unplaced.clear()
        self._expecting.begin()
        claims = dict.fromkeys((*self._books.all_doubted(), *self._sources.claims.keys()))
        return [*self.waiting.all_pods(), *(f"claim/{key}" for key in claims)]

    async def ended(self) -> None:
        """Waits until nothing that was written is under way; at most as long as is left of the Lease."""
        self._reading.end()
        await self._sending.ended()

    async def reconcile(self, key: str) -> float | None:
        """Looks at a pod or a claim.

        Returns:
            Seconds after which to look again, where nothing else will bring it back; else None.

        Raises:
            AllocationHeldUpError: Nothing is decided, because a write that has to come first is refused.
            ApiError: A write failed; to be tried again.
            LeadershipLostError: This replica does not lead any more.
        """
        self._sending.check()
        kind, _, name = key.partition("/")
        try:
            await self._reading.all_claims()
        except AllocationHeldUpError as held_up:
            view = self._pod(name) if kind == "pod" else None
            if view is not None and view.may_need:
                self._answered(Answer(pod=name, error=held_up))
            raise
        await self._expecting.all_on_their_way()
        if kind == "pod":
            return await self._reconcile_pod(name)
        try:
            return await self._storing.reconcile(name)
        except AllocationHeldUpError as held_up:
            for pod in self._pods_of(name):
                self._answered(Answer(pod=pod, error=held_up))
            raise

    def question(self, key: str) -> Question | None:
        """What is asked for a pod (`namespace/name`) now; None where that cannot be told."""
        view = self._pod(key)
        if view is None:
            return None
        left_out = self._refused_nodes.nodes(view.uid, now=_now())
        try:
            return self._questions.question(key, view, left_out=left_out)
        except (AllocationError, ClaimError, ConfigError):
            # It has changed since it was decided about, and will be again.
            return None

    def claim_changed(self, key: str, before: ClaimView | None, after: ClaimView | None) -> None:
        """A handler of the claims' informer: keeps the books, and sees what kube-scheduler takes back."""
        self._books.observed(key, after)
        taken = self._storing.taken_back(before, after)
        if taken is None:
            return
        pod, node = taken
        view = self._pod(pod)
        if view is not None and view.waits:
            wait_s = self._refused_nodes.note(view.uid, node, now=_now(), nominated=view.nominated)
            _log.info("kube-scheduler refused a node", pod=pod, node=node, left_out_s=round(wait_s, 1))

    def pod_nominated(self, view: PodView) -> None:
        """A handler of the pods' informer: kube-scheduler nominated a node for a pod that waits."""
        self._refused_nodes.nominated(view.uid, view.nominated, now=_now())

    async def _reconcile_pod(self, key: str) -> float | None:
        view = self._its_turn(key)
        if not isinstance(view, PodView):
            return view
        began = _now()
        read = await self._reading.long_texts(key, view, self._questions.claims_of(key, view) or ())
        reading_s = _now() - began
        async with self._deciding:
            # What a namespace has read for its pods is no less its doing than what is decided about them.
            self._spent_s = reading_s
            found = await self._decide_and_book(key, read)
        if not isinstance(found, _Booked):
            return found
        try:
            await self._storing.write_all(found.wanted)
        except (AllocationLostError, ApiError) as failed:
            if not isinstance(failed, ApiError) or failed.status in _REFUSED:
                # Trying again will hardly help, so whoever waits for the pod has to be told.
                self._answered(Answer(pod=key, error=failed))
                # What is written and taken back is seen, and would bring the pod back at once.
                self.waiting.rest(key, _AGAIN_S)
            raise
        self._answered(found.answer)
        return None

    def _its_turn(self, key: str) -> PodView | float | None:
        """The pod, if it waits and need not rest; else seconds until it is looked at again, if ever."""
        view = self._pod(key)
        if view is None or not view.may_need:
            self._forget(key, view)
            return None
        rest_s = self.waiting.turn_s(key, view)
        return view if rest_s is None else rest_s or None

    async def _decide_and_book(self, key: str, read: LongTexts) -> _Booked | float | None:
        # Once more: others had their turn since it was read.
        view = self._its_turn(key)
        if not isinstance(view, PodView):
            return view
        view = read.whole(view)
        claims = self._questions.claims_of(key, view)
        if claims is None:
            return None
        waiting = [(name, claim) for name, claim in claims if not claim.allocated]
        if self._unsettled(waiting, read):
            return _SOON_S
        news = self._books.news
        try:
            mine = self._questions.mine(key, waiting, read.asked)
            self._questions.refuse_pod(view, ours=bool(mine))
            if not mine:
                self.waiting.settled(key)
                self._expecting.expect(key, view, claims)
                if self._unplaced.note(key, view, [claim for _, claim in claims], now=_now()):
                    self._again(UNPLACED, self._unplaced.after_s)
                return None
            self._unplaced.forget(key)
            pinned = {claim.node for _, claim in claims if claim.node}
            answer = await self._decide(key, view, [document for *_, document in mine], pinned=pinned)
        except (AllocationError, ClaimError, ConfigError) as error:
            return self._refused(Answer(pod=key, error=error), view, claims, read)
        decision = answer.decision
        if decision is None or decision.allocations is None:
            return self._refused(answer, view, claims, read)
        self._sending.check()
        if self._books.news != news or not self._still(key, view, claims, node=decision.node):
            return _SOON_S
        self.waiting.settled(key)
        if not view.node:
            self._usage.expect(key, node=decision.node, asks=view.asks)
        self._storing.fits_beside(key, claims)
        wanted = self._storing.book(key, view, [(name, claim) for name, claim, _ in mine], decision)
        return _Booked(answer, wanted)

    def _unsettled(self, waiting: Sequence[tuple[str, ClaimView]], read: LongTexts) -> bool:
        """Whether it will be known soon what became of a claim, or what it asks for."""
        return any(
            # Another pod that names it had its turn.
            self._books.assumed(claim.uid)
            # It was made anew since it was read.
            or (claim.asked is None and claim.uid not in read.asked)
            for _, claim in waiting
        )

    def _refused(
        self, answer: Answer, view: PodView, claims: Sequence[tuple[str, ClaimView]], read: LongTexts
    ) -> float:
        self.waiting.refused(answer.pod, by_cards=answer.decision is not None)
        self._turns.used(answer.pod.partition("/")[0], self._spent_s, now=_now())
        self._answered(answer)
        self._storing.loosen(answer.pod, claims)
        if read:
            # Each try costs a request and a long text, whoever wakes it up.
            self.waiting.rest(answer.pod, _AGAIN_S)
        return self._refused_nodes.next_end(view.uid, now=_now()) or _AGAIN_S

    def give_back(self) -> float | None:
        """Takes cards back from pods that kube-scheduler does not place, if others need some.

        Returns:
            Seconds after which to look again; None if nobody has cards in vain.
        """
        self._sending.check()
        for key in self._unplaced.look(self.waiting.short_of_cards(), now=_now()):
            if (view := self._pod(key)) is not None:
                self._usage.unexpect(key)
                self._storing.loosen(key, self._questions.claims_of(key, view) or (), at_once=True)
                self._answered(Answer(pod=key, error=self._unplaced.given_back(key, view, now=_now())))
        return self._unplaced.next_look_s(now=_now())

    def _forget(self, key: str, view: PodView | None) -> None:
        self.waiting.forget(key)
        self._unplaced.forget(key)
        if view is not None and not view.may_need:
            self._refused_nodes.forget(view.uid)

    def _still(self, key: str, view: PodView, claims: Sequence[tuple[str, ClaimView]], *, node: str) -> bool:
        """Whether pod, claims and node are still what was decided about."""
        now = self._pod(key)
        return (
            now is not None
            and now.uid == view.uid
            and now.node == view.node
            and now.may_need
            and self._sources.offered(node)
            and self._questions.claims_of(key, now) == claims
        )

    async def _decide(
        self, key: str, view: PodView, documents: Sequence[JSON], *, pinned: set[str]
    ) -> Answer:
        first = self._refused_nodes.first(view.uid, now=_now(), nominated=view.nominated)
        if first and self._nodes.may_try(view, first, pinned=pinned):
            answer = await self._place(key, documents, lambda: [first])
            if answer.decision is not None and answer.decision.allocations is not None:
                return answer
            self._refused_nodes.pass_over(view.uid)
        left_out = self._refused_nodes.nodes(view.uid, now=_now())
        # A long node affinity is compared with every node, so that is done beside the loop as well.
        candidates = self._nodes.candidates(view, pinned=pinned, left_out=left_out)
        return await self._place(key, documents, candidates.choose)

    async def _place(self, key: str, claims: Sequence[JSON], nodes: Callable[[], Sequence[str]]) -> Answer:
        try:
            decision = await self._books.place(
                claims, policy=self._policy, nodes=nodes, release=self._sources.release()
            )
        finally:
            self._spent_s += self._books.took_s
            if self._books.took_s > _COSTLY_S:
                # Whoever makes selectors that take long may not have all the time there is.
                self.waiting.rest(key, _COSTLY_FACTOR * self._books.took_s)
        return Answer(pod=key, claims=tuple(claims), decision=decision)

    def _pod(self, key: str) -> PodView | None:
        return self._sources.pods.get(key)


def _now() -> float:
    return asyncio.get_running_loop().time()
