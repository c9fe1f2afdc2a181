"""Whether the API server keeps device taints.

Purpose: where it drops them, a card with a fault has to be left out of the slices, and it must not be on
offer even for the moment in which a write shows that its taint is gone. So a slice with a taint is sent as a
dry run first, and what comes back is read.

Limits: asked only when a card has a fault, and again after `AGAIN_S`, since API servers are upgraded. Of
several API servers one is asked: every real write is read back all the same (`lost`).
"""

from __future__ import annotations

import asyncio

import structlog

from driver.cards import Card, Fault
from driver.kube.client import ApiError, KubeClient
from driver.kube.resources import RESOURCE_SLICES
from driver.slices import DroppedField, dropped_fields, publication_of, with_generation

TAINTS_GATE = "DRADeviceTaints"
AGAIN_S = 600.0
_REFUSALS = (400, 403, 422)

_log = structlog.get_logger("publishing")


class TaintSupport:
    """Knows whether taints are kept.

    Args:
        client: The API server.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._kept = False
        self._asked_at = float("-inf")

    async def kept(self) -> bool:
        """Whether a taint that is written is stored.

        Raises:
            ApiError: The API server refused or did not answer.
        """
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= AGAIN_S:
            kept = await self._ask()
            if kept is not self._kept:
                _log.info("device taints", kept=kept, gate=TAINTS_GATE)
            self._kept, self._asked_at = kept, now
        return self._kept

    def lost(self) -> None:
        """Takes note that a real write lost its taints."""
        self._kept, self._asked_at = False, asyncio.get_running_loop().time()

    async def _ask(self) -> bool:
        try:
            return not taints_of(await self._drops())
        except ApiError as refused:
            if refused.status not in _REFUSALS:
                raise
            # An admission policy that nobody thought of: without a taint the card must not be on offer.
            _log.warning("device taints cannot be tried", error=str(refused))
            return False

    async def _drops(self) -> tuple[DroppedField, ...]:
        fault = Fault(reason="Probe", message="", since="2000-01-01T00:00:00Z")
        card = Card(name="probe", vendor="probe", model="probe", memory_bytes=1 << 30, fault=fault)
        # Fenced, so that API servers before 1.36 drop nothing but the taint.
        (item,) = publication_of([card], node="dragoman-probe", fenced=True).slices
        item = with_generation({**item, "metadata": {"generateName": "dragoman.dev-probe-"}}, 1)
        return dropped_fields(item, await self._client.create(RESOURCE_SLICES, item, dry_run=True))


def taints_of(dropped: tuple[DroppedField, ...]) -> tuple[DroppedField, ...]:
    """Those of the dropped fields that are taints."""
    return tuple(one for one in dropped if one.gate == TAINTS_GATE)
