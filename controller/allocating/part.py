"""Puts allocating together.

Flow: claims and classes from the caller's informers, pods from one of its own, the books that follow them,
the allocator, and a queue of pods and claims whose turn comes when something changed that matters to them.

Limits: starts nothing. Whatever frees something wakes up all pods that wait because nothing fitted, at most
once a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.allocating.allocator import UNPLACED, Allocator
from controller.allocating.answers import Answer
from controller.allocating.aside import Run, at_once
from controller.allocating.books import Books
from controller.allocating.cards import Cards
from controller.allocating.held_up import HoldUps
from controller.allocating.pod_fit import NodeFacts
from controller.allocating.pods_of import PodsOf
from controller.allocating.sources import Inventories, Sources
from controller.allocating.turns import Turns
from controller.allocating.usage import NodeUsage
from controller.allocating.vanished import Vanished
from controller.allocating.views import ClaimView, ClassView, PodView, pod_view
from controller.allocating.waiting import TURN, WAKE
from controller.queue import WorkQueue
from driver.allocation.placement import PlacementPolicy
from driver.kube.client import KubeClient
from driver.kube.informer import Informer
from driver.kube.resources import PODS
from driver.kube.store import Store

_WAKE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What allocating is told by the rest of the controller.

    Attributes:
        left_s: Seconds before another replica can lead; 0 or less where this one may not write.
        offered: Whether the cards of a node may be given out now.
        release: Kubernetes release of the cluster; "" while it is not known.
        amounts_kept: Whether the API server keeps the amounts that claims ask for; None if not known yet.
        answered: Told of each decision.
        claims_version: Resource version up to which claims are known; 0 if that is not known.
    """

    left_s: Callable[[], float]
    offered: Callable[[str], bool]
    release: Callable[[], str]
    amounts_kept: Callable[[], bool | None]
    answered: Callable[[Answer], None]
    claims_version: Callable[[], int] = lambda: 0


class Allocating:
    """The parts, wired.

    Attributes:
        informers: What has to run beside the caller's, and to be synced before the queue is worked on.
        queue: Pods and claims whose turn it is.
        sources: Where the allocator looks.
        books: What is given out.
        vanished: Claims that are gone while pods use their cards.
    """

    def __init__(
        self,
        client: KubeClient,
        nodes: Store[NodeFacts],
        inventories: Inventories,
        around: Surroundings,
        *,
        claims: Store[ClaimView],
        classes: Store[ClassView],
        policy: PlacementPolicy,
        orphaned_s: float,
        hold_ups: HoldUps | None = None,
        unplaced_s: float = 900.0,
        run: Run = at_once,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Makes the parts and connects them.

        Args:
            client: The API server.
            nodes: The Nodes; the caller's informer.
            inventories: The AcceleratorNodes; the caller's informer.
            around: The rest of the controller.
            claims: The claims; of the caller's informer.
            classes: The DeviceClasses; of the caller's informer.
            policy: Which of the answers that fit is liked best.
            orphaned_s: How long an allocation of ours may have no pod before it is released.
            hold_ups: Told of claims that keep this replica from beginning; None if nobody is.
            unplaced_s: How long a pod may have its cards without being placed while others need some.
            run: Runs what takes long.
            wall_clock: The time that allocations carry.
        """
        self.queue = WorkQueue(name="allocate", cap_s=15.0)
        pods = Informer(client, PODS, pod_view, name="all pods", page_size=200)
        self.informers: tuple[Informer[Any], ...] = (pods,)
        self.sources = sources = Sources(
            claims=claims,
            pods=pods,
            nodes=nodes,
            classes=classes,
            inventories=inventories,
            offered=around.offered,
            release=around.release,
            amounts_kept=around.amounts_kept,
        )
        self._cards = Cards(sources)
        self.books = Books(sources, self._cards, run=run)
        self._inventories = inventories
        self._usage = NodeUsage()
        self._pods_of = PodsOf()
        self.vanished = Vanished(self.books, pods, pods_of=self._pods_of.of)
        self._turns = Turns()
        self.allocator = Allocator(
            client,
            sources,
            self.books,
            usage=self._usage,
            pods_of=self._pods_of.of,
            turns=self._turns,
            left_s=around.left_s,
            again=lambda key, after_s: self.queue.add(key, after_s=after_s),
            answered=around.answered,
            policy=policy,
            hold_ups=hold_ups,
            claims_version=around.claims_version,
            orphaned_s=orphaned_s,
            unplaced_s=unplaced_s,
            wall_clock=wall_clock,
        )
        claims.subscribe(self._claim_changed)
        pods.subscribe(self._pod_changed)
        nodes.subscribe(self._node_changed)
        classes.subscribe(self._class_changed)
        inventories.subscribe(lambda key, _before, _after: self.node_changed(key))

    def begin(self) -> list[str]:
        """All keys there are; to be called when this replica begins to lead."""
        for node in self._inventories.keys():  # noqa: SIM118 - a store, no dict
            self._refresh(node)
        return self.allocator.begin()

    async def work(self, *, workers: int) -> None:
        """Works on the queue until cancelled, and then until what was sent has been answered."""
        try:
            await self.queue.run(self.reconcile, workers=workers, first=self.begin)
        finally:
            await self.allocator.ended()

    async def reconcile(self, key: str) -> float | None:
        """Handles a key of the queue; as `Allocator.reconcile`."""
        if key.startswith((WAKE, TURN)):
            namespace = key.removeprefix(TURN) if key.startswith(TURN) else ""
            for pod in self.allocator.waiting.refused_pods(namespace):
                self.queue.add(pod)
            return None
        if key == UNPLACED:
            return self.allocator.give_back()
        return await self.allocator.reconcile(key)

    def class_is_ours(self, name: str) -> bool:
        """Whether a DeviceClass of this name is there and picks only devices of our driver."""
        found = self.sources.classes.get(name)
        return found is not None and found.ours

    def node_changed(self, node: str) -> None:
        """Something changed about a node: its cards, its agent, its slices, or itself."""
        self._refresh(node)
        self.wake()

    def _refresh(self, node: str) -> None:
        changes = self._cards.refresh(node)
        if changes:
            self.books.slices_changed(changes)

    def wake(self) -> None:
        """Something may fit now that did not."""
        self.queue.add(WAKE, after_s=_WAKE_S)

    def _claim_changed(self, key: str, before: ClaimView | None, after: ClaimView | None) -> None:
        if before == after:
            # Whoever may write a claim may do so all the time.
            return
        self.vanished.claim_changed(key, before, after)
        self.allocator.claim_changed(key, before, after)
        for pod in self._pods_of.of(key):
            self.queue.add(f"pod/{pod}")
        if after is not None and after.ours and (after.blank or not after.reserved):
            self.queue.add(f"claim/{key}")
        if before is not None and before.held and (after is None or not after.held):
            self.wake()

    def _pod_changed(self, key: str, before: PodView | None, after: PodView | None) -> None:
        if before == after:
            return
        if self.vanished.pod_changed(key, after):
            self.wake()
        self._usage.note(key, before, after)
        self._pods_of.note(key, before, after)
        self._turns.note(key, before, after)
        if after is not None and after.nominated:
            self.allocator.pod_nominated(after)
        if (before is not None and before.may_need) or (after is not None and after.may_need):
            self.queue.add(f"pod/{key}")
        if before is not None and (after is None or after.gone):
            namespace = key.partition("/")[0]
            for name in before.claims:
                self.queue.add(f"claim/{namespace}/{name}")
            if before.node:
                self.wake()

    def _node_changed(self, key: str, before: NodeFacts | None, after: NodeFacts | None) -> None:
        if after is None:
            self._usage.forget(key)
        # A Node's status is written every few seconds; most of it is nothing to us.
        if before != after:
            self.node_changed(key)

    def _class_changed(self, key: str, before: ClassView | None, after: ClassView | None) -> None:
        if before != after:
            self.books.class_changed(key, after)
            # Also of pods that were passed over: their claims may be ours from now on.
            for pod in self.allocator.waiting.all_pods():
                self.queue.add(pod)
