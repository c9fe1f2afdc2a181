"""What is given out, and decisions that count with it.

Purpose: never over-commit. What a decision gives is booked before anything is written, and stays booked until
the watch shows what became of it.

Flow: `observed` follows the claims, `slices_changed` and `class_changed` the rest; `assume` books a decision,
`drop` ends that once the claim's own state counts; `doubt` keeps one whose write got no answer; `keep` what a
claim held that is gone. `place` and `why_not` ask.

Limits: one for each process; only the leader decides. A claim that is both observed to hold something and
assumed counts as observed, and as assumed once it holds nothing again: what was decided may still be on its
way then, whoever allocated the claim and took that back meanwhile. Only `drop` ends an assumption. While a
question is worked on, beside the event loop, the cluster that it is about stays as it is: what changes
meanwhile is taken over afterwards, and `news` says that something did.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import structlog

from controller.allocating.aside import Run, at_once
from controller.allocating.cards import Cards, SliceChanges
from controller.allocating.sources import Sources
from controller.allocating.views import ClaimView, ClassView
from controller.allocating.writing import Wanted
from driver.allocation import Decision, Snapshot
from driver.allocation.cluster import Cluster
from driver.allocation.placement import PlacementPolicy, place
from driver.allocation.why_not import WhyNot, why_not
from driver.errors import DragomanError
from driver.kube.client import JSON

T = TypeVar("T")

_log = structlog.get_logger("allocating")


class Books:
    """What claims hold of our cards.

    Attributes:
        news: Counts what was learnt that a decision which is being made does not know: cards that changed,
            and allocations that are not ours.
        took_s: Processor time that the last question took.
    """

    def __init__(self, sources: Sources, cards: Cards, *, run: Run = at_once) -> None:
        """Starts without claims.

        Args:
            sources: Where classes are found.
            cards: What there is.
            run: Runs what takes long.
        """
        self.news = 0
        self.took_s = 0.0
        self._run = run
        self._asking = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._later: list[Callable[[], None]] = []
        self._sources = sources
        self._cards = cards
        self._observed: dict[str, tuple[str, bytes]] = {}
        self._kept: dict[str, bytes] = {}
        self._assumed: dict[str, JSON] = {}
        self._doubted: dict[str, Wanted] = {}
        self._cluster: Cluster | None = None

    def observed(self, key: str, view: ClaimView | None) -> None:
        """Takes over what the watch shows of a claim (`namespace/name`)."""
        before = self._observed.pop(key, None)
        if view is not None:
            known = self._assumed.get(view.uid) or (before is not None and before[1])
            if view.held and view.uid not in self._assumed and before != (view.uid, view.held):
                self.news += 1
            self._observed[key] = (view.uid, view.held)
            if known or view.held:
                self._rebook(view.uid, view.held)
        if before is not None and (view is None or before[0] != view.uid):
            self._rebook(before[0], b"")

    def keep(self, uid: str, held: bytes) -> None:
        """Counts what a claim held also where the claim is gone, from now on; b"" to count it no more."""
        if held:
            self._kept[uid] = held
        else:
            self._kept.pop(uid, None)
        self._rebook(uid, b"")

    def assume(self, wanted: Wanted) -> None:
        """Books what was decided and is about to be written."""
        self._assumed[wanted.uid] = {
            "metadata": {"name": wanted.name, "namespace": wanted.namespace, "uid": wanted.uid},
            "status": {"allocation": wanted.allocation},
        }
        self._rebook(wanted.uid, b"")

    def drop(self, wanted: Wanted) -> None:
        """Ends an assumption: what is stored is known, and has been observed.

        What was decided for the claim since then stays: while somebody finds out what became of a write, the
        watch can show it stored and taken back, and the claim may be given something else.
        """
        key = f"{wanted.namespace}/{wanted.name}"
        if self._doubted.get(key) is wanted:
            del self._doubted[key]
        assumed = self._assumed.get(wanted.uid)
        if assumed is not None and assumed["status"]["allocation"] is wanted.allocation:
            del self._assumed[wanted.uid]
            held = next((one for known, one in self._observed.values() if known == wanted.uid), b"")
            self._rebook(wanted.uid, held)

    def assumed(self, uid: str) -> bool:
        """Whether something was decided for a claim of which it is not known yet whether it is stored."""
        return uid in self._assumed

    def doubt(self, wanted: Wanted) -> None:
        """Keeps an assumption of which nobody knows whether it was stored."""
        key = f"{wanted.namespace}/{wanted.name}"
        older = self._doubted.get(key)
        if older is not None and older.uid != wanted.uid:
            # The claim was made anew under its name, so what was written to the older one is gone with it.
            self.drop(older)
        self._doubted[key] = wanted

    def doubted(self, key: str) -> Wanted | None:
        """What was written to a claim without an answer, None if nothing was."""
        return self._doubted.get(key)

    def all_doubted(self) -> list[str]:
        """The claims (`namespace/name`) of which it is not known what was stored."""
        return list(self._doubted)

    def slices_changed(self, changes: SliceChanges) -> None:
        """Takes over that cards of a node came, changed or went."""
        self.news += 1
        self._change(
            lambda cluster: cluster.with_slices(changed=changes.changed, removed=changes.removed),
        )

    def class_changed(self, name: str, view: ClassView | None) -> None:
        """Takes over that a DeviceClass came, changed (`view`) or went (None)."""
        if view is None:
            self._change(lambda cluster: cluster.with_classes(removed=[name]))
        else:
            self._change(lambda cluster: cluster.with_classes(changed=[json.loads(view.document)]))

    async def place(
        self,
        claims: Sequence[JSON],
        *,
        policy: PlacementPolicy,
        nodes: Callable[[], Sequence[str]],
        release: str,
    ) -> Decision:
        """Decides about the claims of a pod.

        Args:
            claims: ResourceClaims (v1), in the pod's order.
            policy: What is liked best.
            nodes: Gives the names of the nodes that the pod may use; called beside the event loop.
            release: Kubernetes release whose selectors apply.

        Raises:
            NoNodeError: There is no such node.
        """
        return await self._ask(
            lambda cluster: place(cluster, claims=claims, policy=policy, nodes=nodes(), release=release)
        )

    async def why_not(
        self, claims: Sequence[JSON], *, nodes: Callable[[], Sequence[str]], release: str
    ) -> WhyNot:
        """Says why the claims of a pod fit nowhere; arguments as for `place`."""
        return await self._ask(
            lambda cluster: why_not(cluster, claims=claims, nodes=nodes(), release=release)
        )

    async def _ask(self, question: Callable[[Cluster], T]) -> T:
        async with self._asking:
            # One whose asker was cut off may still be worked on.
            await self._idle.wait()
            work = partial(self._work, question, self._maker())
            self._idle.clear()
            return await self._run(work, done=self._answered)

    def _work(self, question: Callable[[Cluster], T], make: Callable[[], Cluster]) -> T:
        # What changes from now on is taken over afterwards, so nobody else touches it.
        self._cluster = cluster = make()
        began = time.thread_time()
        try:
            return question(cluster)
        finally:
            self.took_s = time.thread_time() - began

    def _answered(self) -> None:
        self._idle.set()
        later, self._later = self._later, []
        for change in later:
            change()

    def _change(self, change: Callable[[Cluster], Cluster]) -> None:
        if not self._idle.is_set():
            self._later.append(partial(self._change, change))
        elif self._cluster is not None:
            try:
                self._cluster = change(self._cluster)
            except DragomanError:
                # It would not count what changed from now on; made anew, it does or nothing is decided.
                self._cluster = None
                _log.exception("what changed cannot be read")

    def _state(self) -> Cluster:
        return self._maker()()

    def _maker(self) -> Callable[[], Cluster]:
        """Gives what makes the cluster of what is known now, also beside the event loop.

        With 1,000 nodes and 10,000 claims that takes 1.5 s of a processor: too long for the loop.
        """
        cluster = self._cluster
        if cluster is not None:
            return lambda: cluster
        slices = self._cards.slices()
        classes = [one.document for one in self._sources.classes.values()]
        observed = {uid: text for uid, text in self._observed.values() if text}
        held = [*observed.values(), *self._kept.values()]
        assumed = [document for uid, document in self._assumed.items() if uid not in observed]

        def make() -> Cluster:
            snapshot = Snapshot.build(slices=slices, classes=[json.loads(text) for text in classes])
            # One after the other: 10,000 claims decoded at once are 30 MiB that are never given back.
            return Cluster.build(snapshot, claims=chain(map(json.loads, held), assumed))

        return make

    def _rebook(self, uid: str, held: bytes) -> None:
        """Makes the cluster count what a claim holds: what is observed, or else assumed, or else kept."""
        if self._cluster is None and self._idle.is_set():
            return
        document = json.loads(held) if held else self._assumed.get(uid)
        if document is None and (kept := self._kept.get(uid)):
            document = json.loads(kept)
        if document is None:
            self._change(lambda cluster: cluster.with_claims(removed=[uid]))
        else:
            self._change(lambda cluster: cluster.with_claims(changed=[document]))
