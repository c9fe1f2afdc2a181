"""Events of ours on objects of others (events.k8s.io/v1).

Flow: `tell` makes an Event the first time; the same again later only counts it up (`series`), so that a
pod which waits for a day has one Event for each reason and not a thousand.

Limits: a note has at most 1024 bytes (API validation). Nothing depends on Events: a refusal to write one is
logged, and whoever wants it said tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from controller.metrics import Metrics
from driver.kube.client import JSON, ApiError, ConflictError, KubeClient, NotFoundError
from driver.kube.resources import EVENTS, Resource

CONTROLLER = "dragoman.dev/controller"
_MAX_NOTE = 1024  # bytes, by API validation
_PATIENCE_S = 5.0
"""Seconds after which an Event is given up: others wait to be told."""
_FOR_GOOD = (400, 403, 413, 422)  # answers that trying again does not change
_CLUSTER_SCOPED = "default"  # where Events on cluster-scoped objects are kept

_log = structlog.get_logger("events")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What an Event is about."""

    resource: Resource
    name: str
    uid: str
    namespace: str = ""


class Events:
    """Writes Events."""

    def __init__(
        self,
        client: KubeClient,
        *,
        instance: str,
        metrics: Metrics,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepares a writer.

        Args:
            client: The API server.
            instance: Name of this replica.
            metrics: Counts what is written.
            wall_clock: The time that Events carry.
        """
        self._client = client
        self._instance = instance[:128]
        self._metrics = metrics
        self._wall_clock = wall_clock

    async def tell(
        self, subject: Subject, *, reason: str, note: str, times: int = 1, warning: bool = True
    ) -> bool:
        """Says something about an object.

        Returns:
            False if it was not written and trying again may help.

        Args:
            subject: The object.
            reason: CamelCase word.
            note: At most 1024 bytes.
            times: How often it was said by now, this time included.
            warning: Whether somebody should act.
        """
        namespace = subject.namespace or _CLUSTER_SCOPED
        name = _name(subject, reason, note)
        now = self._wall_clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        event: JSON = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": now,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Explain",
            "reason": reason,
            "regarding": {
                "apiVersion": subject.resource.api_version,
                "kind": subject.resource.kind,
                "name": subject.name,
                "namespace": subject.namespace,
                "uid": subject.uid,
            },
            "note": note,
            "type": "Warning" if warning else "Normal",
        }
        series = {"series": {"count": max(times, 2), "lastObservedTime": now}}
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._write(event, series, again=times > 1)
        except TimeoutError:
            _log.warning("event not written", reason=reason, subject=subject.name, error="no answer in time")
            return False
        except ApiError as refused:
            _log.warning("event not written", reason=reason, subject=subject.name, error=str(refused))
            return refused.status in _FOR_GOOD
        self._metrics.events_written.labels(reason=reason).inc()
        return True

    async def _write(self, event: JSON, series: JSON, *, again: bool) -> None:
        name, namespace = event["metadata"]["name"], event["metadata"]["namespace"]
        try:
            if again:
                await self._client.patch(EVENTS, series, name=name, namespace=namespace)
            else:
                await self._client.create(EVENTS, event, namespace=namespace)
        except ConflictError:
            # Told before by another replica, or by this one before it was restarted.
            await self._client.patch(EVENTS, series, name=name, namespace=namespace)
        except NotFoundError:
            # The first one has expired.
            await self._client.create(EVENTS, event, namespace=namespace)


def cut(text: str) -> str:
    """The text, in as many bytes as an Event's note may have."""
    # Users' selectors are quoted in it, and may hold half a surrogate pair.
    raw = text.encode("utf-8", "replace")
    if len(raw) <= _MAX_NOTE:
        return raw.decode()
    return f"{raw[: _MAX_NOTE - 3].decode(errors='ignore')}…"


def _name(subject: Subject, reason: str, note: str) -> str:
    digest = hashlib.sha256(f"{subject.uid}/{reason}/{note}".encode("utf-8", "replace")).hexdigest()[:16]
    return f"{subject.name[:200].rstrip('-.')}.{digest}"
