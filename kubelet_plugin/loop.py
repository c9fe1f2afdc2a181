"""Small helpers for tasks that run for as long as the agent does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from driver.kube.backoff import Backoff
from kubelet_plugin.logs import operation

log = structlog.get_logger(__name__)


async def keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` again, after a growing pause, whenever it fails: no background part dies silently."""
    backoff = Backoff(base_s=1.0, cap_s=60.0)
    while True:
        try:
            with operation(name):
                await work()
        except Exception as failed:
            log.exception("background part failed; it is started again", part=name, error=str(failed))
            await asyncio.sleep(backoff.next_delay())
        else:
            return
