"""Runs the controller.

Flow: the informers, the Lease, the mode probe, admission and the health report run in every replica;
publishing, the policy check, the rollout of policies, the templates of converted pods, the counting of
quotas, and explaining or (in mode controller) allocating run in the one that holds the Lease. On SIGTERM the
work stops first and the Lease is given back; webhooks are answered for some seconds more; then kopf and the
connections are closed.

Limits: a task that must not end but does ends the process, so that Kubernetes starts it anew: half a
controller is worse than none.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import uuid
from collections.abc import Iterable
from typing import Any

import structlog

from controller.admitting import Admitting
from controller.allocating.part import Allocating
from controller.app import Parts, assemble
from controller.checks import not_ready, not_working
from controller.explaining.explainer import Explainer
from controller.health import Health
from controller.memory import settle
from controller.rolling import Rolling
from controller.servers import Servers, connecting
from controller.settings import Settings
from controller.shell import Shell, ShellSettings
from driver.kube.aiohttp_transport import AiohttpTransport
from driver.kube.client import KubeClient
from driver.kube.config import ClusterConfig, load_config
from driver.kube.informer import Informer

_REPORT_S = 5.0
_REPORT_AGAIN_S = 0.5

_log = structlog.get_logger("controller")


async def lead(parts: Parts, settings: Settings) -> None:
    """What the leader does, until cancelled."""
    # Without everything in view, what is merely unknown would look as if it were gone.
    await _synced(parts.publishing)
    async with asyncio.TaskGroup() as group:
        # Before the first answer every node would be told that nothing is known, at every change of leaders.
        await parts.mode.asked.wait()
        group.create_task(
            parts.publish_queue.run(
                parts.publisher.reconcile, workers=settings.publish_workers, first=parts.publisher.begin
            )
        )
        group.create_task(_roll_out(parts.rolling))
        if parts.explainer is not None:
            group.create_task(_explain(parts, parts.explainer))
        if parts.allocating is not None:
            group.create_task(_allocate(parts, parts.allocating, workers=settings.allocate_workers))
        if parts.admitting is not None:
            group.create_task(_follow_up(parts, parts.admitting, group))
        if parts.telling is not None:
            group.create_task(
                parts.explain_queue.run(parts.telling.tell, workers=1, first=list, rest=parts.telling.rest)
            )


async def _roll_out(rolling: Rolling) -> None:
    await rolling.policies.synced.wait()
    await rolling.queue.run(rolling.rollouts.reconcile, workers=1, first=rolling.rollouts.begin)


async def _explain(parts: Parts, explainer: Explainer) -> None:
    await _synced(parts.informers)
    await parts.explain_queue.run(explainer.explain, workers=1, first=explainer.begin, rest=explainer.rest)


async def _admit(parts: Parts, admits: Admitting) -> None:
    await _synced(parts.informers)
    await admits.admission.run()


async def _follow_up(parts: Parts, admits: Admitting, group: asyncio.TaskGroup) -> None:
    """What admission leaves to the leader: templates of pods that were let in, and what quotas hold."""
    await _synced(parts.informers)
    if admits.templates is not None:
        group.create_task(
            admits.template_queue.run(admits.templates.reconcile, workers=4, first=admits.templates.begin)
        )
    group.create_task(admits.quoting.queue.run(admits.quoting.settle, workers=2, first=admits.quoting.begin))


async def _allocate(parts: Parts, allocating: Allocating, *, workers: int) -> None:
    await _synced(parts.informers)
    settle()
    await allocating.work(workers=workers)


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
    client = KubeClient(transport)
    parts = assemble(client, settings, namespace=namespace, identity=identity)
    parts.mode.ask_each(Servers(client, connecting(config, user_agent="dragoman-controller")))
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
    tasks.append(asyncio.create_task(parts.mode.run(), name="mode"))
    working = [
        asyncio.create_task(parts.election.run(lambda: lead(parts, settings)), name="election"),
        asyncio.create_task(
            parts.policy_queue.run(parts.policies.check, workers=1, first=list), name="policies"
        ),
        asyncio.create_task(_report(parts, settings, health), name="report"),
    ]
    serving = []
    if parts.admitting is not None:
        # Before the classes are known, every claim would look like one of another driver.
        serving.append(asyncio.create_task(_admit(parts, parts.admitting), name="admission"))
    stopping = asyncio.create_task(stop.wait(), name="stop")
    watched: list[asyncio.Future[Any]] = [*tasks, *working, *serving, stopping, ended]
    done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in working:
        task.cancel()
    if done == {stopping} and parts.admitting is not None and parts.admitting.admission.ready:
        health.report((), not_ready=("The controller is ending.",))
        # API servers learn that this replica goes only after it does, and each in its own time.
        parts.admitting.admission.drain()
        others = [*tasks, *serving, ended]
        await asyncio.wait(others, timeout=settings.webhook_drain, return_when=asyncio.FIRST_COMPLETED)
    # What is being answered is answered from what the informers know.
    for ending in (serving, [*tasks, *working]):
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
    for one in done:
        if one is not stopping:
            one.result()
            raise RuntimeError(f"A part of the controller ended: {one!r}.")


async def _report(parts: Parts, settings: Settings, health: Health) -> None:
    metrics = parts.metrics
    while True:
        found = not_ready(parts.informers, queues=parts.queues, settings=settings)
        if parts.admitting is not None and not parts.admitting.admission.ready:
            found.append("Admission has no certificate yet, or the API server does not trust it yet.")
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
