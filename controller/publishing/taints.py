"""Whether the API server keeps device taints, and shared counters.

Purpose: where it drops taints, a card with a fault has to be left out of the slices; where it drops counters,
partitions that would be made on demand have to. Neither must be on offer even for the moment in which a write
shows what is gone. So a slice with the fields is sent as a dry run first, and what comes back is read.

Limits: asked only when a card has a fault, or is partitioned on demand, and again after `AGAIN_S`, since API
servers are upgraded. Of several API servers one is asked: every real write is read back all the same
(`lost`).
"""

from __future__ import annotations

import asyncio

import structlog

from driver.cards import Card, Fault
from driver.kube.client import JSON, ApiError, KubeClient
from driver.kube.resources import RESOURCE_SLICES
from driver.slices import FENCE, DroppedField, dropped_fields, publication_of, with_generation

TAINTS_GATE = "DRADeviceTaints"
COUNTERS_GATE = "DRAPartitionableDevices"
AGAIN_S = 600.0
_PROBE = "dragoman-probe"
_REFUSALS = (400, 403, 422)

_log = structlog.get_logger("publishing")


class Support:
    """Knows whether fields behind a feature gate are kept.

    Args:
        client: The API server.
        gate: The feature gate.
        what: What the fields are, for the log.
    """

    def __init__(self, client: KubeClient, *, gate: str, what: str) -> None:
        self._client = client
        self._gate = gate
        self._what = what
        self._kept = False
        self._asked_at = float("-inf")

    async def kept(self) -> bool:
        """Whether the fields are stored when they are written.

        Raises:
            ApiError: The API server refused or did not answer.
        """
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= AGAIN_S:
            kept = await self._ask()
            if kept is not self._kept:
                _log.info(self._what, kept=kept, gate=self._gate)
            self._kept, self._asked_at = kept, now
        return self._kept

    def lost(self) -> None:
        """Takes note that a real write lost the fields."""
        self._kept, self._asked_at = False, asyncio.get_running_loop().time()

    def slices(self) -> list[JSON]:
        """Slices with the fields, from which nobody could allocate."""
        raise NotImplementedError

    async def _ask(self) -> bool:
        try:
            for one in self.slices():
                item = with_generation({**one, "metadata": {"generateName": "dragoman.dev-probe-"}}, 1)
                stored = await self._client.create(RESOURCE_SLICES, item, dry_run=True)
                if any(lost.gate == self._gate for lost in dropped_fields(item, stored)):
                    return False
        except ApiError as refused:
            if refused.status not in _REFUSALS:
                raise
            # A release that has the fields in another form, or an admission policy that nobody thought of:
            # without them nothing may be on offer that needs them.
            _log.warning(f"{self._what} cannot be tried", error=str(refused))
            return False
        return True


class TaintSupport(Support):
    """Knows whether taints are kept.

    Args:
        client: The API server.
    """

    def __init__(self, client: KubeClient) -> None:
        super().__init__(client, gate=TAINTS_GATE, what="device taints")

    def slices(self) -> list[JSON]:
        """One with a taint; fenced, so that API servers before 1.36 drop nothing but the taint."""
        fault = Fault(reason="Probe", message="", since="2000-01-01T00:00:00Z")
        card = Card(name="probe", vendor="probe", model="probe", memory_bytes=1 << 30, fault=fault)
        return list(publication_of([card], node=_PROBE, fenced=True).slices)


class CounterSupport(Support):
    """Knows whether counters are kept, in the form that Kubernetes has since 1.35.

    Args:
        client: The API server.
    """

    def __init__(self, client: KubeClient) -> None:
        super().__init__(client, gate=COUNTERS_GATE, what="shared counters")

    def slices(self) -> list[JSON]:
        """One with devices that draw on counters, and one with the counters."""
        card = Card(
            name="probe",
            vendor="probe",
            model="probe",
            memory_bytes=1 << 30,
            shareable=False,
            counters={"slot-0": 1},
        )
        found = publication_of([card], node=_PROBE).slices
        return [{**item, "spec": {**_elsewhere(item["spec"]), "nodeSelector": FENCE}} for item in found]


def _elsewhere(spec: JSON) -> JSON:
    return {key: value for key, value in spec.items() if key != "nodeName"}


def taints_of(dropped: tuple[DroppedField, ...]) -> tuple[DroppedField, ...]:
    """Those of the dropped fields that are taints."""
    return tuple(one for one in dropped if one.gate == TAINTS_GATE)


def counters_of(dropped: tuple[DroppedField, ...]) -> tuple[DroppedField, ...]:
    """Those of the dropped fields that are counters."""
    return tuple(one for one in dropped if one.gate == COUNTERS_GATE)
