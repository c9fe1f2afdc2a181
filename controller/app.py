"""Puts the controller together: the only place where its parts meet.

Flow: `assemble` makes informers, queues and parts from a client and the settings, and connects them;
`controller.running` runs them.

Limits: starts nothing. Which parts there are depends on the mode: explaining where kube-scheduler allocates
(`controller.mode_native`), allocating where this controller does (`controller.mode_controller`). Admission's
parts are put together by `controller.admitting`, those that roll policies out by `controller.rolling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller import mode_controller, mode_native
from controller.admitting import Admitting, Around, admitting
from controller.allocating.part import Allocating
from controller.allocating.pod_fit import NodeFacts, node_facts
from controller.allocating.telling import Telling
from controller.allocating.vanished import Vanished
from controller.claim_parts import ClaimParts, claims_informer
from controller.class_parts import ClassParts
from controller.events import Events
from controller.explaining.classes import is_ours, is_standard_name
from controller.explaining.explainer import Explainer
from controller.handover import Handover, known_release
from controller.lease import LeaderElection, LeaseSettings
from controller.metrics import Metrics
from controller.mode import ModeState, ModeWatch, Verdict
from controller.mode_controller import OwnAllocator, own_allocator
from controller.mode_native import explaining
from controller.policies import PolicyCheck
from controller.publishing.publisher import Publisher, Rights
from controller.publishing.recreation import Recreation
from controller.publishing.stores import Stores
from controller.publishing.unnumbered import Unnumbered
from controller.publishing.views import Inventory, NodeView, agent_view, inventory_view, slice_view
from controller.queue import WorkQueue
from controller.rolling import Rolling, rolling
from controller.settings import CONTROLLER, Settings
from driver.api.policy import NamedPolicy
from driver.cards import DRIVER_NAME
from driver.kube.client import KubeClient
from driver.kube.informer import Informer, Selection
from driver.kube.resources import (
    ACCELERATOR_NODES,
    DEVICE_CLASSES,
    NODES,
    PODS,
    RESOURCE_SLICES,
)
from driver.kube.store import Part, Watched


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The controller's parts, wired."""

    informers: tuple[Informer[Any], ...]
    publishing: tuple[Informer[Any], ...]
    queues: tuple[WorkQueue, ...]
    election: LeaderElection
    mode: ModeWatch
    publisher: Publisher
    explainer: Explainer | None
    allocating: Allocating | None
    telling: Telling | None
    admitting: Admitting | None
    policies: PolicyCheck
    rolling: Rolling
    publish_queue: WorkQueue
    explain_queue: WorkQueue
    policy_queue: WorkQueue
    metrics: Metrics


def assemble(client: KubeClient, settings: Settings, *, namespace: str, identity: str) -> Parts:
    """Makes all parts and connects them; starts nothing."""
    metrics = Metrics()
    publish_queue, explain_queue, policy_queue = (
        WorkQueue(name=name) for name in ("publish", "explain", "policies")
    )
    election = LeaderElection(
        client,
        LeaseSettings(
            name=settings.lease_name,
            namespace=namespace,
            identity=identity,
            duration_s=settings.lease_duration,
            renew_deadline_s=settings.lease_renew_deadline,
            retry_s=settings.lease_retry,
        ),
    )
    # A page is held in memory as a whole, and Nodes are large: they list the images that they hold.
    inventories = Informer(client, ACCELERATOR_NODES, inventory_view, page_size=100)
    nodes = Informer(client, NODES, node_facts, page_size=50)
    agents = Informer(
        client,
        PODS,
        agent_view,
        name="agents",
        page_size=100,
        selection=Selection(namespace=namespace, label_selector=settings.agent_selector),
    )
    slices = Informer(
        client,
        RESOURCE_SLICES,
        slice_view,
        selection=Selection(field_selector=f"spec.driver={DRIVER_NAME}"),
        page_size=50,
    )
    stores = Stores(
        inventories=inventories,
        nodes=Part(nodes, lambda facts: NodeView(facts.uid)),
        agents=agents,
        slices=slices,
        changed=publish_queue.add,
    )

    events = Events(client, instance=identity, metrics=metrics)
    ours: OwnAllocator | None = None

    def mode_changed(state: ModeState) -> None:
        metrics.native_possible.set(_MODE_VALUES[state.verdict])
        for node in stores.nodes_of_interest():
            publish_queue.add(node)
        if ours is not None:
            # Pods wait while it is not known whether the server keeps amounts.
            ours.allocating.wake()

    def handover_changed(node: str) -> None:
        publish_queue.add(node)
        if ours is not None:
            ours.allocating.wake()

    handover = Handover(
        fenced_since=stores.fenced_since,
        wait_s=settings.handover_wait,
        bind_s=settings.handover_bind,
        changed=handover_changed,
    )
    unnumbered = Unnumbered(publish_queue.add)
    native = settings.mode != CONTROLLER
    claims = claims_informer(
        client, native=native, explained=settings.explain, charged=bool(settings.webhook_port)
    )
    Part(claims, lambda one: one.unnumbered).subscribe(unnumbered.note)
    classes: Informer[ClassParts] = Informer(client, DEVICE_CLASSES, ClassParts.of(ours=is_ours))
    mode = ModeWatch(client, namespace=namespace, interval_s=settings.probe_interval, changed=mode_changed)
    publisher = Publisher(
        client,
        stores,
        rights=Rights(
            held=lambda: election.held,
            mode=lambda: mode.state,
            report_dropped=mode.report,
            fenced=settings.mode == CONTROLLER,
            unnumbered=unnumbered.devices,
            unshared=unnumbered.not_ours,
            rest=handover.rest if settings.mode == CONTROLLER else lambda _node: None,
        ),
        metrics=metrics,
        recreation=Recreation(first_s=settings.recreate_after, cap_s=settings.recreate_cap),
    )
    rolls = rolling(client, stores=stores, nodes=nodes, publisher=publisher, held=lambda: election.held)
    informers: list[Informer[Any]] = [inventories, nodes, agents, slices, claims, rolls.policies]
    if not native or settings.explain or settings.webhook_port:
        informers.append(classes)
    explainer = None
    if settings.mode == CONTROLLER:
        ours = own_allocator(
            client,
            settings,
            mode_controller.Shared(
                stores=stores,
                nodes=nodes,
                claims=Part(claims, lambda one: one.allocatable),
                claims_version=lambda: claims.version,
                classes=Part(classes, lambda one: one.allocatable),
                wake=(agents, slices),
                handover=handover,
                election=election,
                mode=mode,
                tell=explain_queue,
                events=events,
                metrics=metrics,
            ),
        )
        informers += ours.allocating.informers
    elif settings.explain:
        explainer, pods = explaining(
            client,
            settings,
            mode_native.Shared(
                stores=stores,
                claims=Part(claims, lambda one: one.explained),
                classes=Part(classes, lambda one: one.explained),
                mode=lambda: mode.state,
                queue=explain_queue,
                events=events,
            ),
        )
        informers.append(pods)
    admits = _admits(
        client,
        settings,
        namespace=namespace,
        inventories=inventories,
        policies=Part(rolls.policies, lambda one: one.policy),
        nodes=nodes,
        claims=claims,
        classes=classes,
        election=election,
        mode=mode,
        events=events,
        metrics=metrics,
        vanished=ours.allocating.vanished if ours else None,
    )
    informers += admits.informers if admits else ()
    return Parts(
        informers=tuple(informers),
        publishing=(inventories, nodes, agents, slices, *((claims,) if native else ())),
        queues=(
            publish_queue,
            explain_queue,
            policy_queue,
            rolls.queue,
            *([ours.allocating.queue] if ours else []),
            *([admits.template_queue, admits.quoting.queue] if admits else []),
        ),
        election=election,
        mode=mode,
        publisher=publisher,
        explainer=explainer,
        allocating=ours.allocating if ours else None,
        telling=ours.telling if ours else None,
        admitting=admits,
        policies=PolicyCheck(client, events, held=lambda: election.held),
        rolling=rolls,
        publish_queue=publish_queue,
        explain_queue=explain_queue,
        policy_queue=policy_queue,
        metrics=metrics,
    )


def _admits(
    client: KubeClient,
    settings: Settings,
    *,
    namespace: str,
    inventories: Informer[Inventory],
    policies: Watched[NamedPolicy],
    nodes: Informer[NodeFacts],
    claims: Informer[ClaimParts],
    classes: Informer[ClassParts],
    election: LeaderElection,
    mode: ModeWatch,
    events: Events,
    metrics: Metrics,
    vanished: Vanished | None,
) -> Admitting | None:
    if not settings.webhook_port:
        return None
    around = Around(
        inventories=inventories,
        policies=policies,
        claims=Part(claims, lambda one: one.charged),
        claims_version=lambda: claims.version,
        classes=Part(classes, lambda one: one.document),
        held=lambda: election.held,
        release=lambda: known_release(mode.state.release),
        amounts_kept=lambda: mode.state.amounts_kept,
        class_is_ours=lambda one: is_ours(dict(one)),
        standard=is_standard_name,
        events=events,
        metrics=metrics,
        offered=lambda resource: any(resource in node.extended for node in nodes.values()),
        in_use=vanished.in_use if vanished else lambda _uid: False,
    )
    admits = admitting(client, settings, namespace=namespace, around=around)
    if vanished:
        vanished.subscribe(admits.quoting.ended)
    return admits


_MODE_VALUES: dict[Verdict, int] = {Verdict.POSSIBLE: 1, Verdict.IMPOSSIBLE: 0, Verdict.UNKNOWN: -1}
