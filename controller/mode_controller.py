"""Puts together what there is in mode controller only: our allocator, and who tells of its answers.

Flow: `controller.app` calls `own_allocator` with what its other parts share, and runs what comes back.

Limits: starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from controller.allocating.answers import Answer
from controller.allocating.aside import aside
from controller.allocating.held_up import HoldUps
from controller.allocating.part import Allocating, Surroundings
from controller.allocating.pod_fit import NodeFacts
from controller.allocating.telling import Telling
from controller.allocating.views import ClaimView, ClassView
from controller.allocating.waiting import WAKE
from controller.events import Events, Subject
from controller.explaining.answers import note_of
from controller.handover import Handover, known_release
from controller.lease import LeaderElection
from controller.metrics import Metrics
from controller.mode import ModeWatch
from controller.publishing.stores import Stores
from controller.queue import WorkQueue
from controller.settings import Settings
from driver.allocation.placement import PlacementPolicy
from driver.kube.client import KubeClient
from driver.kube.informer import Handler
from driver.kube.resources import LEASES
from driver.kube.store import Store, Watched


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What our allocator shares with the rest of the controller.

    Attributes:
        stores: What publishing knows.
        nodes: The Nodes.
        claims: The claims.
        claims_version: Resource version up to which they are known.
        classes: The DeviceClasses.
        wake: What else may let something fit when it changes: the agents' pods, slices.
        handover: Whose cards are given out by whom.
        election: Who leads.
        mode: What the API server can do.
        tell: Takes pods of which something is to be told.
        events: Writes Events.
        metrics: Counts.
    """

    stores: Stores
    nodes: Store[NodeFacts]
    claims: Store[ClaimView]
    claims_version: Callable[[], int]
    classes: Store[ClassView]
    wake: Iterable[Watched[Any]]
    handover: Handover
    election: LeaderElection
    mode: ModeWatch
    tell: WorkQueue
    events: Events
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class OwnAllocator:
    """The parts, wired.

    Attributes:
        allocating: The allocator.
        telling: Tells pods why they wait; None where nobody is told.
    """

    allocating: Allocating
    telling: Telling | None


def own_allocator(client: KubeClient, settings: Settings, shared: Shared) -> OwnAllocator:
    """Makes the parts and connects them; starts nothing."""
    telling: Telling | None = None

    def answered(answer: Answer) -> None:
        if telling is not None and telling.note(answer):
            shared.tell.add(answer.pod, after_s=settings.explain_after)

    stores, handover, mode, election = shared.stores, shared.handover, shared.mode, shared.election
    around = Surroundings(
        left_s=lambda: election.left_s,
        offered=lambda node: stores.agent_ready(node) and handover.over(node),
        release=lambda: known_release(mode.state.release),
        amounts_kept=lambda: mode.state.amounts_kept,
        answered=answered,
        claims_version=shared.claims_version,
    )
    allocating = Allocating(
        client,
        shared.nodes,
        stores.inventories,
        around,
        claims=shared.claims,
        classes=shared.classes,
        policy=_placement(settings),
        orphaned_s=settings.orphaned_after,
        hold_ups=HoldUps(shared.events, lease=lambda: _lease(election), counted=shared.metrics.held_up.set),
        unplaced_s=settings.unplaced_after,
        run=aside(),
    )
    handover.follow(pods=allocating.sources.pods, claims=allocating.sources.claims)
    if settings.explain:
        telling = Telling(
            allocating.sources,
            allocating.books,
            shared.events,
            question_of=allocating.allocator.question,
            note_of=lambda found, single: note_of(found, single=single),
            again_s=settings.explain_again,
        )
    for watched in shared.wake:
        watched.subscribe(_wake(allocating, after_s=settings.handover_wait))
    return OwnAllocator(allocating=allocating, telling=telling)


def _lease(election: LeaderElection) -> Subject:
    names = election.settings
    return Subject(resource=LEASES, name=names.name, namespace=names.namespace, uid=election.uid)


def _placement(settings: Settings) -> PlacementPolicy:
    return PlacementPolicy.parse(
        {
            "nodes": settings.placement_nodes,
            "cards": settings.placement_cards,
            "topology": settings.placement_topology,
        }
    )


def _wake(allocating: Allocating, *, after_s: float) -> Handler[Any]:
    """A handler that looks again at what waits, now and when a change over to us is old enough."""

    def handler(key: str, before: object, after: object) -> None:
        if before != after:
            allocating.wake()
            allocating.queue.add(f"{WAKE}{key}", after_s=after_s + 1)

    return handler
