"""Events on pods: their claim is refused for good, or a card that they use is not well.

Purpose: the kubelet tells every refusal in the same words and tries for ever; this Event says when trying
cannot help and the pod has to be made anew. Refusals that pass by themselves get none.

Flow: the service tells of a refusal, the health watch of a card's fault; a task looks up the pods that
reserve the claim and writes one Event for each pod and reason, at most once in `AGAIN_AFTER_S`.

Limits: at most `BURST` events at once and one more each `REFILL_S`; what is above that is counted and
dropped. A refusal of a claim that does not exist names no pod and gets no Event; the kubelet's own says it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from driver.errors import DragomanError
from driver.kube.client import ApiError, KubeClient
from driver.kube.resources import EVENTS, RESOURCE_CLAIMS
from kubelet_plugin.logs import operation
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.engine import PreparedClaim

log = structlog.get_logger(__name__)

AGAIN_AFTER_S = 600.0
BURST = 10
REFILL_S = 2.0
_MAX_NOTE_BYTES = 1024
_MAX_PODS = 8
_MAX_REMEMBERED = 4096
_QUEUE = 64


@dataclass(frozen=True, kw_only=True)
class _Note:
    ref: ClaimRef
    reason: str
    action: str
    text: str
    warning: bool = True


class PodEvents:
    """Writes Events on the pods of claims; a listener of the DRA service.

    Args:
        client: The API server.
        node_name: Name of the node, for the reader.
        metrics: Where events are counted.
        clock: Monotonic seconds.
        now: The time of day.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        node_name: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._queue: asyncio.Queue[_Note] = asyncio.Queue(_QUEUE)
        self._told: dict[tuple[str, str], float] = {}
        self._tokens = float(BURST)
        self._filled_at = clock()

    def prepared(self, ref: ClaimRef, answer: PreparedClaim) -> None:
        """Nothing to tell."""

    def refused(self, ref: ClaimRef, error: DragomanError) -> None:
        """Notes a refusal that trying again does not change."""
        if not error.retriable:
            self._put(self._refusal(ref, error))

    def card_changed(self, ref: ClaimRef, *, reason: str, text: str, warning: bool) -> None:
        """Notes that a card of a claim became faulty, or well again."""
        self._put(_Note(ref=ref, reason=reason, action="Running", text=text, warning=warning))

    async def tell(self, ref: ClaimRef, error: DragomanError) -> None:
        """Writes an Event about a refusal on each pod that reserves the claim.

        Raises:
            ApiError: The API server refused or did not answer.
        """
        await self._tell(self._refusal(ref, error))

    def _refusal(self, ref: ClaimRef, error: DragomanError) -> _Note:
        text = f"Claim {ref.name} cannot be prepared on node {self._node_name}: {error}"
        return _Note(ref=ref, reason=error.reason, action="Preparing", text=text)

    def _put(self, note: _Note) -> None:
        if self._recent((note.ref.uid, note.reason)):
            return
        try:
            self._queue.put_nowait(note)
        except asyncio.QueueFull:
            self._metrics.count("events_total", result="suppressed")

    async def run(self) -> None:
        """Writes what is due until cancelled."""
        while True:
            note = await self._queue.get()
            with operation("event", claim=note.ref.uid):
                try:
                    await self._tell(note)
                except ApiError as failed:
                    self._metrics.count("events_total", result="failed")
                    log.warning("event cannot be written", error=str(failed))

    async def _tell(self, note: _Note) -> None:
        ref, key = note.ref, (note.ref.uid, note.reason)
        if self._recent(key):
            return
        claim = await self._client.get(RESOURCE_CLAIMS, ref.name, namespace=ref.namespace)
        consumers = (claim.get("status") or {}).get("reservedFor") or []
        pods = [consumer for consumer in consumers if consumer.get("resource") == "pods"]
        for pod in pods[:_MAX_PODS]:
            if not self._take():
                self._metrics.count("events_total", result="suppressed")
                continue
            await self._client.create(EVENTS, self._event(note, pod), namespace=ref.namespace)
            self._metrics.count("events_total", result="written")
        self._remember(key)

    def _event(self, note: _Note, pod: dict[str, Any]) -> dict[str, Any]:
        ref = note.ref
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"generateName": _name_of_event(str(pod["name"])), "namespace": ref.namespace},
            "eventTime": self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Warning" if note.warning else "Normal",
            "reason": note.reason,
            "action": note.action,
            "note": note.text.encode()[:_MAX_NOTE_BYTES].decode("utf-8", "ignore"),
            "reportingController": "dragoman.dev/kubelet-plugin",
            "reportingInstance": self._node_name,
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": ref.namespace,
                "name": pod["name"],
                "uid": pod.get("uid") or "",
            },
            "related": {
                "apiVersion": RESOURCE_CLAIMS.api_version,
                "kind": RESOURCE_CLAIMS.kind,
                "namespace": ref.namespace,
                "name": ref.name,
                "uid": ref.uid,
            },
        }

    def _recent(self, key: tuple[str, str]) -> bool:
        told = self._told.get(key)
        return told is not None and self._clock() - told < AGAIN_AFTER_S

    def _remember(self, key: tuple[str, str]) -> None:
        self._told.pop(key, None)
        self._told[key] = self._clock()
        while len(self._told) > _MAX_REMEMBERED:
            del self._told[next(iter(self._told))]

    def _take(self) -> bool:
        now = self._clock()
        self._tokens = min(float(BURST), self._tokens + (now - self._filled_at) / REFILL_S)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _name_of_event(pod: str) -> str:
    # Even the part before what the server adds has to be a DNS subdomain but for one dash at its end.
    return pod[:200].rstrip("-.") + "-"
