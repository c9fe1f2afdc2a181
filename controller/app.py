"""Puts the controller together: the only place where its parts meet.

Flow: the informers, the Lease and the health report run in every replica; publishing, the mode probe, the
policy check, and explaining or (in mode controller) allocating run in the one that holds the Lease. On
SIGTERM the work stops first, then the Lease is given back, then kopf and the connections are closed.

Limits: a task that must not end but does ends the process, so that Kubernetes starts it anew: half a
controller is worse than none.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from controller.allocating.allocator import Answer
from controller.allocating.part import WAKE, Allocating, Surroundings
from controller.allocating.telling import Telling
from controller.checks import not_ready, not_working
from controller.events import Events
from controller.explaining.classes import is_ours
from controller.explaining.explainer import Explainer, Sources
from controller.explaining.views import UNSCHEDULED, claim_view, class_view, pod_view
from controller.handover import handed_over, known_release
from controller.health import Health
from controller.lease import LeaderElection, LeaseSettings
from controller.metrics import Metrics
from controller.mode import ModeState, ModeWatch, Verdict
from controller.policies import PolicyCheck
from controller.publishing.publisher import Publisher, Rights
from controller.publishing.recreation import Recreation
from controller.publishing.stores import Stores
from controller.publishing.views import agent_view, inventory_view, node_view, slice_view
from controller.queue import WorkQueue
from controller.settings import CONTROLLER, Settings
from controller.shell import Shell, ShellSettings
from driver.allocation.placement import PlacementPolicy
from driver.cards import DRIVER_NAME
from driver.kube.aiohttp_transport import AiohttpTransport
from driver.kube.client import KubeClient
from driver.kube.config import ClusterConfig, load_config
from driver.kube.informer import Handler, Informer, Selection
from driver.kube.resources import (
    ACCELERATOR_NODES,
    DEVICE_CLASSES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)

_REPORT_S = 5.0
_REPORT_AGAIN_S = 0.5

_log = structlog.get_logger("controller")


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
    policies: PolicyCheck
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
    nodes = Informer(client, NODES, node_view, page_size=50)
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
        inventories=inventories, nodes=nodes, agents=agents, slices=slices, changed=publish_queue.add
    )

    events = Events(client, instance=identity, metrics=metrics)
    allocating = telling = None

    def mode_changed(state: ModeState) -> None:
        metrics.native_possible.set(_MODE_VALUES[state.verdict])
        for node in stores.nodes_of_interest():
            publish_queue.add(node)

    mode = ModeWatch(client, namespace=namespace, interval_s=settings.probe_interval, changed=mode_changed)
    publisher = Publisher(
        client,
        stores,
        rights=Rights(
            held=lambda: election.held,
            mode=lambda: mode.state,
            report_dropped=mode.report,
            fenced=settings.mode == CONTROLLER,
        ),
        metrics=metrics,
        recreation=Recreation(first_s=settings.recreate_after, cap_s=settings.recreate_cap),
    )
    informers: list[Informer[Any]] = [inventories, nodes, agents, slices]
    explainer = None
    if settings.mode == CONTROLLER:

        def answered(answer: Answer) -> None:
            if telling is not None and telling.note(answer):
                explain_queue.add(answer.pod, after_s=settings.explain_after)

        allocating = Allocating(
            client,
            inventories,
            Surroundings(
                held=lambda: election.held,
                offered=lambda node: (
                    stores.agent_ready(node)
                    and handed_over(stores.fenced_since(node), wait_s=settings.handover_wait)
                ),
                release=lambda: known_release(mode.state.release),
                amounts_kept=lambda: _AMOUNTS_KEPT[mode.state.verdict],
                is_ours=is_ours,
                answered=answered,
            ),
            policy=_placement(settings),
            orphaned_s=settings.orphaned_after,
        )
        telling = (
            Telling(allocating.sources, events, again_s=settings.explain_again) if settings.explain else None
        )
        for watched in (agents, slices):
            watched.subscribe(_wake(allocating, after_s=settings.handover_wait))
        informers += allocating.informers
    elif settings.explain:
        # A claim may have 320 KiB of configuration that is none of ours.
        claims = Informer(client, RESOURCE_CLAIMS, claim_view, page_size=50)
        classes = Informer(client, DEVICE_CLASSES, class_view)
        pods = Informer(
            client,
            PODS,
            pod_view,
            name="waiting pods",
            selection=Selection(field_selector=UNSCHEDULED),
            page_size=50,
        )
        informers += [claims, classes, pods]
        changes = _Changes()
        for informer in (claims, classes, slices):
            informer.subscribe(changes.note)
        explainer = Explainer(
            Sources(
                pods=pods,
                claims=claims,
                classes=classes,
                slices=stores.slice_specs,
                nodes=stores.nodes_with_slices,
                mode=lambda: mode.state,
                changes=changes.count,
            ),
            events,
            again_s=settings.explain_again,
            after_s=settings.explain_after,
        )
        pods.subscribe(lambda key, _before, _after: explain_queue.add(key, after_s=settings.explain_after))
    return Parts(
        informers=tuple(informers),
        publishing=(inventories, nodes, agents, slices),
        queues=(publish_queue, explain_queue, policy_queue, *([allocating.queue] if allocating else [])),
        election=election,
        mode=mode,
        publisher=publisher,
        explainer=explainer,
        allocating=allocating,
        telling=telling,
        policies=PolicyCheck(client, events, held=lambda: election.held),
        publish_queue=publish_queue,
        explain_queue=explain_queue,
        policy_queue=policy_queue,
        metrics=metrics,
    )


async def lead(parts: Parts, settings: Settings) -> None:
    """What the leader does, until cancelled."""
    # Without everything in view, what is merely unknown would look as if it were gone.
    await _synced(parts.publishing)
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.mode.run())
        # Before the first answer every node would be told that nothing is known, at every change of leaders.
        await parts.mode.asked.wait()
        group.create_task(
            parts.publish_queue.run(
                parts.publisher.reconcile, workers=settings.publish_workers, first=parts.publisher.begin
            )
        )
        if parts.explainer is not None:
            group.create_task(_explain(parts, parts.explainer))
        if parts.allocating is not None:
            group.create_task(_allocate(parts, parts.allocating, workers=settings.allocate_workers))
        if parts.telling is not None:
            group.create_task(parts.explain_queue.run(parts.telling.tell, workers=1, first=list))


async def _explain(parts: Parts, explainer: Explainer) -> None:
    await _synced(parts.informers)
    await parts.explain_queue.run(explainer.explain, workers=1, first=explainer.begin, rest=explainer.rest)


async def _allocate(parts: Parts, allocating: Allocating, *, workers: int) -> None:
    await _synced(parts.informers)
    await allocating.queue.run(allocating.reconcile, workers=workers, first=allocating.begin)


async def _synced(informers: Iterable[Informer[Any]]) -> None:
    for informer in informers:
        await informer.synced.wait()


async def run(settings: Settings, *, config: ClusterConfig | None = None) -> None:
    """Runs the controller until SIGTERM or SIGINT.

    Raises:
        ConfigError: The API server cannot be found.
        Exception: A part that must not end has ended.
    """
    config = config or load_config(settings.kubeconfig)
    namespace = settings.namespace or config.namespace
    name = settings.identity or socket.gethostname()
    # A restarted container has its pod's name again, but is not the process that holds the Lease.
    identity = f"{name}_{uuid.uuid4().hex[:8]}"
    transport = AiohttpTransport(config, user_agent="dragoman-controller")
    parts = assemble(KubeClient(transport), settings, namespace=namespace, identity=identity)
    health = Health()
    if settings.metrics_port:
        parts.metrics.serve(settings.metrics_port, address=settings.listen, not_ready=health.not_ready)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host = f"[{settings.listen}]" if ":" in settings.listen else settings.listen
    endpoint = f"http://{host}:{settings.health_port}/healthz" if settings.health_port else ""
    shell = Shell(
        ShellSettings(config=config, endpoint=endpoint), health=health, on_policy=parts.policy_queue.add
    )
    _log.info("starting", server=config.server, namespace=namespace, identity=identity, mode=settings.mode)
    try:
        async with shell.running() as kopf_ended:
            await work(parts, settings, health=health, stop=stop, ended=kopf_ended)
    finally:
        await transport.close()
    _log.info("stopped")


async def work(
    parts: Parts, settings: Settings, *, health: Health, stop: asyncio.Event, ended: asyncio.Future[None]
) -> None:
    """Runs all parts until `stop` is set.

    Args:
        parts: The parts.
        settings: The settings.
        health: Where what is wrong is reported.
        stop: Set when the process shall end.
        ended: Done when the shell has ended, which it must not do before.

    Raises:
        Exception: A part that must not end has ended.
    """
    tasks = [
        asyncio.create_task(informer.run(), name=f"informer of {informer.resource.kind}s")
        for informer in parts.informers
    ]
    tasks += [
        asyncio.create_task(parts.election.run(lambda: lead(parts, settings)), name="election"),
        asyncio.create_task(
            parts.policy_queue.run(parts.policies.check, workers=1, first=list), name="policies"
        ),
        asyncio.create_task(_report(parts, settings, health), name="report"),
    ]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    watched: list[asyncio.Future[Any]] = [*tasks, stopping, ended]
    done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    for task in (*tasks, stopping):
        task.cancel()
    await asyncio.gather(*tasks, stopping, return_exceptions=True)
    for one in done:
        if one is not stopping:
            one.result()
            raise RuntimeError(f"A part of the controller ended: {one!r}.")


async def _report(parts: Parts, settings: Settings, health: Health) -> None:
    metrics = parts.metrics
    while True:
        found = not_ready(parts.informers, queues=parts.queues, settings=settings)
        dead = not_working(
            parts.publishing, others=parts.informers, queue=parts.publish_queue, settings=settings
        )
        health.report(dead, not_ready=found)
        metrics.leading.set(1 if parts.election.held else 0)
        for informer in parts.informers:
            metrics.informer_age.labels(informer=informer.name).set(informer.age_s)
            metrics.informer_objects.labels(informer=informer.name).set(len(informer))
        for queue in parts.queues:
            metrics.queue_depth.labels(queue=queue.name).set(queue.depth)
            metrics.queue_stalled.labels(queue=queue.name).set(queue.stalled_s)
            metrics.queue_failures.labels(queue=queue.name).set(queue.failed)
        # Whoever waits for a start (a rollout) waits for the first report without problems.
        await asyncio.sleep(_REPORT_AGAIN_S if found else _REPORT_S)


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


class _Changes:
    """Counts changes of several stores."""

    def __init__(self) -> None:
        self._count = 0

    def note(self, _key: str, _before: object, _after: object) -> None:
        self._count += 1

    def count(self) -> int:
        return self._count


_AMOUNTS_KEPT: dict[Verdict, bool | None] = {
    Verdict.POSSIBLE: True,
    Verdict.IMPOSSIBLE: False,
    Verdict.UNKNOWN: None,
}
_MODE_VALUES: dict[Verdict, int] = {Verdict.POSSIBLE: 1, Verdict.IMPOSSIBLE: 0, Verdict.UNKNOWN: -1}
