"""What the probes tell: whether the process works, and whether it is ready.

Purpose: a failing `/healthz` restarts the process, so it asks only what a restart may mend and what concerns
publishing. A failing `/readyz` keeps a rollout waiting; it tells everything that is not as it should be.

Limits: explaining is a service to people who wait. However many pods wait, and whatever their claims ask
for, it is never a reason to restart the process that publishes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from controller.queue import WorkQueue
from controller.settings import Settings
from driver.kube.informer import Informer

_SERVER_ANSWERS_S = 75.0  # an informer of a quiet kind hears something every 70 s


def not_working(
    informers: Sequence[Informer[Any]],
    *,
    others: Sequence[Informer[Any]],
    queue: WorkQueue,
    settings: Settings,
) -> list[str]:
    """What keeps the publisher from its work although a new process might do it, as sentences.

    Args:
        informers: Those that the publisher needs.
        others: More of them, any of which shows that the server answers.
        queue: The publisher's.
        settings: How long is too long.
    """
    return _silent(informers, others=others, settings=settings) + _stuck([queue], settings)


def not_ready(
    informers: Sequence[Informer[Any]], *, queues: Sequence[WorkQueue], settings: Settings
) -> list[str]:
    """Everything that is not as it should be, as sentences."""
    found = [
        f"The list of {informer.name} is not complete yet."
        for informer in informers
        if not informer.synced.is_set()
    ]
    return found + _silent(informers, others=(), settings=settings) + _stuck(queues, settings)


def _silent(
    informers: Sequence[Informer[Any]], *, others: Sequence[Informer[Any]], settings: Settings
) -> list[str]:
    """Informers that alone hear nothing; from a server that is silent altogether nobody would hear more."""
    if min(informer.age_s for informer in (*informers, *others)) >= _SERVER_ANSWERS_S:
        return []
    return [
        f"Nothing was heard about {informer.name} for {informer.age_s:.0f} s."
        for informer in informers
        if informer.synced.is_set() and informer.age_s > settings.stale_after
    ]


def _stuck(queues: Iterable[WorkQueue], settings: Settings) -> list[str]:
    return [
        f"The queue {queue.name!r} is stuck: no key was finished for {queue.stalled_s:.0f} s."
        for queue in queues
        if queue.stalled_s > settings.stuck_after
    ]
