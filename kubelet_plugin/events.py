"""Events on pods: their claim is refused for good, or a card that they use is not well.

Purpose: the kubelet tells every refusal in the same words and tries for ever; this Event says when trying
cannot help and the pod has to be made anew. Refusals that pass by themselves get none.

Flow: the service tells of a refusal, watches tell of a card's fault or a limit that is lost; a task looks up
the pods that reserve the claim and writes one Event for each pod, reason and card or share, at most once in
`AGAIN_AFTER_S`.

Limits: at most `BURST` events at once and one more each `REFILL_S`; what is above that waits, and what failed
because the API server was away is tried again for `AGAIN_AFTER_S`. Of refusals, which the kubelet's next try
brings again, few wait (`_REFUSALS`), of all else many (`_MOST`): it is told once by who saw it. More is
counted and dropped, and only what was written counts as told. A refusal of a claim that does not exist names
no pod and gets no Event; the kubelet's own says it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog

from driver.errors import DragomanError
from driver.kube.client import ApiError, KubeClient, UnreachableError
from driver.kube.resources import EVENTS, RESOURCE_CLAIMS
from kubelet_plugin.logs import operation
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.prepared import PreparedClaim

log = structlog.get_logger(__name__)

AGAIN_AFTER_S = 600.0
BURST = 10
REFILL_S = 2.0
_MAX_NOTE_BYTES = 1024
_MAX_PODS = 8
_MAX_REMEMBERED = 4096
_REFUSALS = 64
_MOST = 1024

_Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Note:
    ref: ClaimRef
    reason: str
    action: str
    text: str
    at: float
    of: str = ""
    warning: bool = True

    @property
    def key(self) -> _Key:
        return (self.ref.uid, self.reason, self.of)


class PodEvents:
    """Writes Events on the pods of claims; a listener of the DRA service.

    Args:
        client: The API server.
        node_name: Name of the node, for the reader.
        metrics: Where events are counted.
        clock: Monotonic seconds.
        now: The time of day.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        node_name: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._pause = pause
        self._waiting: dict[_Key, _Note] = {}
        self._wake = asyncio.Event()
        self._told: dict[_Key, float] = {}
        self._tokens = float(BURST)
        self._filled_at = clock()

    def prepared(self, ref: ClaimRef, answer: PreparedClaim) -> None:
        """Nothing to tell."""

    def refused(self, ref: ClaimRef, error: DragomanError) -> None:
        """Notes a refusal that trying again does not change."""
        if not error.retriable:
            self._put(self._refusal(ref, error), most=_REFUSALS)

    def card_changed(self, ref: ClaimRef, *, reason: str, text: str, warning: bool, of: str = "") -> None:
        """Notes that something about a card of a claim changed: a fault, a limit.

        Args:
            ref: The claim.
            reason: The Event's reason.
            text: The sentence.
            warning: Whether it is bad news.
            of: Which of the claim's cards or shares; "" where the reason says enough.
        """
        self._put(
            _Note(
                ref=ref, reason=reason, action="Running", text=text, at=self._clock(), of=of, warning=warning
            ),
            most=_MOST,
        )

    async def tell(self, ref: ClaimRef, error: DragomanError) -> None:
        """Writes an Event about a refusal on each pod that reserves the claim.

        Raises:
            ApiError: The API server refused or did not answer.
        """
        await self._tell(self._refusal(ref, error), waits=False)

    def _refusal(self, ref: ClaimRef, error: DragomanError) -> _Note:
        text = f"Claim {ref.name} cannot be prepared on node {self._node_name}: {error}"
        return _Note(ref=ref, reason=error.reason, action="Preparing", text=text, at=self._clock())

    def _put(self, note: _Note, *, most: int) -> None:
        if note.key in self._waiting or self._recent(note.key):
            return
        if len(self._waiting) >= most:
            self._metrics.count("events_total", result="suppressed")
            return
        self._waiting[note.key] = note
        self._wake.set()

    async def run(self) -> None:
        """Writes what is due until cancelled."""
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            key = next(iter(self._waiting))
            note = self._waiting.pop(key)
            with operation("event", claim=note.ref.uid):
                try:
                    await self._tell(note, waits=True)
                except ApiError as failed:
                    self._metrics.count("events_total", result="failed")
                    log.warning("event cannot be written", error=str(failed))
                    if _passes(failed) and self._clock() - note.at < AGAIN_AFTER_S:
                        self._waiting.setdefault(key, note)
                        await self._pause(REFILL_S)

    async def _tell(self, note: _Note, *, waits: bool) -> None:
        ref = note.ref
        if self._recent(note.key):
            return
        claim = await self._client.get(RESOURCE_CLAIMS, ref.name, namespace=ref.namespace)
        consumers = (claim.get("status") or {}).get("reservedFor") or []
        pods = [consumer for consumer in consumers if consumer.get("resource") == "pods"]
        for pod in pods[:_MAX_PODS]:
            key = (*note.key, str(pod["name"]))
            if self._recent(key):
                continue
            while not self._take():
                if not waits:
                    self._metrics.count("events_total", result="suppressed")
                    return
                await self._pause(REFILL_S)
            await self._client.create(EVENTS, self._event(note, pod), namespace=ref.namespace)
            self._metrics.count("events_total", result="written")
            self._remember(key)
        self._remember(note.key)

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

    def _recent(self, key: _Key) -> bool:
        told = self._told.get(key)
        return told is not None and self._clock() - told < AGAIN_AFTER_S

    def _remember(self, key: _Key) -> None:
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


def _passes(failed: ApiError) -> bool:
    """Whether the same request may succeed later: the API server is away, or has too much to do."""
    status = failed.status
    return isinstance(failed, UnreachableError) or status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500


def _name_of_event(pod: str) -> str:
    # Even the part before what the server adds has to be a DNS subdomain but for one dash at its end.
    return pod[:200].rstrip("-.") + "-"
