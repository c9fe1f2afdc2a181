"""What a claim was really given, written into its `status.devices`.

Flow: the service tells of a prepared claim; a task reads the claim, compares our entries, and writes them
beside those of other drivers if they differ. The kubelet does not wait for it.

By JSON patch, since the API server compares the allocation's opaque parameters byte by byte with what
somebody once sent, and takes a key that moved for an attempt to change the allocation: server-side apply and
strategic patches sort the keys (tried on 1.36.3).

Each entry has two conditions: `Ready` (the container runtime can use the share) and `Limited` (which limits
were set, by which method; False where the share has none or runs without a limit that it asked for), and the
same as data for programs. A third, `Healthy`, comes when the card has a fault, and tells when that is over;
a fourth, `InForce`, tells what is seen of the limits in the running containers (`kubelet_plugin.in_force`).

A write costs the API server several times what a prepare does, and nobody's start waits for it: so writes
wait until no claim was prepared for a moment, and while that does not happen they go slowly (measured by
`hack/bench prepare`: written at once, they slowed the prepares behind them down by half).

Limits: a claim whose status cannot be written is tried again with growing pauses for as long as it is
prepared; prepare itself never fails for it. Opaque parameters that were
sent with blanks between their tokens (as Python's json.dumps does) are written back without them by every
JSON client: the status of such a claim cannot be written, which is logged once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog

from driver.api.share_config import CorePolicy, Priority
from driver.cards import DRIVER_NAME, Fault, IsolationLevel
from driver.errors import DragomanError
from driver.kube.backoff import Backoff
from driver.kube.client import JSON_PATCH, ApiError, KubeClient, NotFoundError
from driver.kube.resources import RESOURCE_CLAIMS
from driver.read_back import differing_fields
from kubelet_plugin.logs import operation
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.node_status import FIELD_MANAGER
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.prepared import PreparedClaim
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord

log = structlog.get_logger(__name__)

CALM_S = 0.3
"""Writes wait until no claim was prepared for so long."""

LATEST_S = 5.0
"""A claim that waited for so long is written all the same, but then one every `PACE_S`."""

PACE_S = 0.1

_KEYS = ("driver", "pool", "device", "shareID")
_GATES = {"shareID": "DRAConsumableCapacity", "": "DRAResourceClaimDeviceStatus"}


class ClaimStatusWriter:
    """Writes `status.devices` of prepared claims; a listener of the DRA service.

    Args:
        client: The API server.
        record_of: The record of a prepared claim; None if it is not prepared (any more).
        metrics: Where writes are counted.
        now: The time of day.
        fault_of: What is wrong with a card, by device name; None if nothing is.
        in_force_of: The condition `InForce` of a share; None to leave it as it is.
        priority_of: The condition `Priority` of a share of high priority; None to leave it as it is.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        record_of: Callable[[str], ClaimRecord | None],
        metrics: Metrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        fault_of: Callable[[str], Fault | None] = lambda _device: None,
        in_force_of: Callable[[ShareRecord], dict[str, str] | None] = lambda _record: None,
        priority_of: Callable[[ShareRecord], dict[str, str] | None] = lambda _record: None,
    ) -> None:
        self._priority_of = priority_of
        self._client = client
        self._in_force_of = in_force_of
        self._fault_of = fault_of
        self._record_of = record_of
        self._metrics = metrics
        self._now = now
        self._pending: dict[str, ClaimRef] = {}
        self._wake = asyncio.Event()
        self._last_prepared = float("-inf")
        self._waiting_since = 0.0

    def prepared(self, ref: ClaimRef, answer: PreparedClaim) -> None:
        """Notes that a claim's status is due."""
        if answer.devices:
            self._last_prepared = asyncio.get_running_loop().time()
            self.card_changed(ref)

    def card_changed(self, ref: ClaimRef) -> None:
        """Notes that something changed that a prepared claim's status tells: a card's fault, a limit."""
        if not self._pending:
            self._waiting_since = asyncio.get_running_loop().time()
        self._pending[ref.uid] = ref
        self._wake.set()

    def refused(self, ref: ClaimRef, error: DragomanError) -> None:
        """Nothing to write: events tell of refusals."""

    async def run(self) -> None:
        """Writes what is due, one claim at a time, until cancelled."""
        backoff = Backoff(base_s=0.5, cap_s=60.0)
        while True:
            while self._pending:
                await self._calm()
                uid, ref = next(iter(self._pending.items()))
                del self._pending[uid]
                try:
                    with operation("claim-status", claim=uid):
                        await self.write(ref)
                    backoff.reset()
                except ApiError as failed:
                    self._metrics.count("status_writes_total", object="claim", result="failed")
                    pause = backoff.next_delay()
                    log.warning(
                        "claim status cannot be written",
                        claim=uid,
                        error=str(failed),
                        retry_s=round(pause, 1),
                    )
                    self._pending.setdefault(uid, ref)
                    await asyncio.sleep(pause)
            self._wake.clear()
            await self._wake.wait()

    async def _calm(self) -> None:
        """Waits until no claim is being prepared, or it is this one's turn in spite of that."""
        loop = asyncio.get_running_loop()
        while (calm := self._last_prepared + CALM_S - loop.time()) > 0:
            late = self._waiting_since + LATEST_S - loop.time()
            if late <= 0:
                await asyncio.sleep(PACE_S)
                return
            await asyncio.sleep(min(calm, late))

    async def write(self, ref: ClaimRef) -> bool:
        """Writes one claim's status if it does not say already what it should.

        Returns:
            Whether it was written.

        Raises:
            ApiError: The API server refused or did not answer.
        """
        record = self._record_of(ref.uid)
        if record is None:
            return False
        try:
            claim = await self._client.get(RESOURCE_CLAIMS, ref.name, namespace=ref.namespace)
            if claim["metadata"].get("uid") != ref.uid:
                return False
            present = (claim.get("status") or {}).get("devices") or []
            now = _rfc3339(self._now())
            wanted = entries_of(
                record,
                present=present,
                now=now,
                fault_of=self._fault_of,
                in_force_of=self._in_force_of,
                priority_of=self._priority_of,
            )
            if not _missing(wanted, present):
                return False
            stored = await self._client.patch(
                RESOURCE_CLAIMS,
                _patch(wanted, claim=claim),
                name=ref.name,
                namespace=ref.namespace,
                subresource="status",
                content_type=JSON_PATCH,
                query={"fieldManager": FIELD_MANAGER},
            )
        except NotFoundError:
            return False
        except ApiError as refused:
            if refused.status != HTTPStatus.UNPROCESSABLE_ENTITY:
                raise
            # It would be refused again: see this module's limits.
            self._metrics.count("status_writes_total", object="claim", result="refused")
            log.warning("claim status cannot ever be written", claim=ref.uid, error=str(refused))
            return False
        self._metrics.count("status_writes_total", object="claim", result="ok")
        self._look_for_drops(wanted, (stored.get("status") or {}).get("devices") or [])
        return True

    def _look_for_drops(self, wanted: list[dict[str, Any]], stored: list[dict[str, Any]]) -> None:
        missing = _missing(wanted, stored)
        if missing:
            gate = _GATES["shareID" if all(path.endswith(".shareID") for path in missing) else ""]
            self._metrics.count("dropped_fields_total", object="ResourceClaim", gate=gate)
            log.error("the API server dropped fields of a claim's status", fields=missing, gate=gate)


def _patch(wanted: list[dict[str, Any]], *, claim: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Puts our entries beside those of other drivers, unless the claim changed since it was read."""
    present = (claim.get("status") or {}).get("devices") or []
    ours = {_key(entry) for entry in wanted}
    others = [entry for entry in present if _key(entry) not in ours]
    version = claim["metadata"]["resourceVersion"]
    return [
        # With its version a claim that was made anew under this name is not written to either.
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/status/devices", "value": [*others, *wanted]},
    ]


def entries_of(
    record: ClaimRecord,
    *,
    present: list[dict[str, Any]],
    now: str,
    fault_of: Callable[[str], Fault | None] = lambda _device: None,
    in_force_of: Callable[[ShareRecord], dict[str, str] | None] = lambda _record: None,
    priority_of: Callable[[ShareRecord], dict[str, str] | None] = lambda _record: None,
) -> list[dict[str, Any]]:
    """The entries of `status.devices` that say what a record's shares were given.

    Args:
        record: The prepared claim.
        present: The entries that are there; conditions that say the same keep their transition time.
        now: RFC 3339 time for conditions that changed.
        fault_of: What is wrong with a card, by device name.
        in_force_of: The condition `InForce` of a share; None to leave it as it is.
        priority_of: The condition `Priority` of a share of high priority; None to leave it as it is.
    """
    entries: dict[tuple[str, ...], dict[str, Any]] = {}
    for item in record.shares:
        entry: dict[str, Any] = {"driver": DRIVER_NAME, "pool": item.pool, "device": item.share.device}
        if item.share.share_id:
            entry["shareID"] = item.share.share_id
        before = _find(entry, present) or {}
        entry["conditions"] = [
            _condition(condition, before=before, now=now)
            for condition in (
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Prepared",
                    "message": f"CDI device {item.cdi_id}.",
                },
                _limited(item, record),
                *_healthy(fault_of(item.share.device), before=before),
                *_in_force(in_force_of(item), before=before, since=record.prepared),
                *_priority(item, priority_of=priority_of, before=before),
            )
        ]
        entry["data"] = _data(item)
        entries.setdefault(_key(entry), entry)
    return list(entries.values())


def _limited(item: ShareRecord, record: ClaimRecord) -> dict[str, str]:
    share = item.share
    if item.memory_level is IsolationLevel.HARDWARE and not share.admin:
        return {
            "type": "Limited",
            "status": "True",
            "reason": "LimitsSet",
            "message": f"A partition of {share.memory_mib} MiB, kept apart by the card.",
        }
    told = []
    if share.limits_memory:
        told.append((f"{share.memory_mib} MiB of memory", item.memory_level))
    if share.limits_cores:
        relieved = " while others compute on the card" if item.core_policy == CorePolicy.DEFAULT else ""
        told.append((f"{share.cores_percent} percent of compute{relieved}", item.cores_level))
    if not told:
        what = "Administrative access" if share.admin else "The whole card"
        return {
            "type": "Limited",
            "status": "False",
            "reason": "NoLimit",
            "message": f"{what}, without a limit.",
        }
    message = "; ".join(f"{what}, {_held(level)}" for what, level in told)
    warnings = "".join(f" {warning}" for warning in record.warnings)
    wanted = [level for _, level in told if level is not None]
    held = all(level is not IsolationLevel.NONE for level in wanted)
    return {
        "type": "Limited",
        "status": "True" if held and wanted else "False",
        "reason": "NotHeld" if not held else "LimitsSet" if wanted else "NoLimit",
        "message": f"{message}.{warnings}",
    }


def _healthy(fault: Fault | None, *, before: Mapping[str, Any]) -> list[dict[str, str]]:
    if fault is not None:
        message = f"{fault.message} (since {fault.since})"
        return [{"type": "Healthy", "status": "False", "reason": fault.reason, "message": message}]
    if any(one.get("type") == "Healthy" for one in before.get("conditions") or []):
        message = "What was wrong with the card is over."
        return [{"type": "Healthy", "status": "True", "reason": "Recovered", "message": message}]
    # Nobody needs to read of every share that its card is well.
    return []


def _in_force(said: dict[str, str] | None, *, before: Mapping[str, Any], since: str) -> list[dict[str, str]]:
    if said is not None:
        return [said]
    # An agent that has just started has not looked yet; what was seen before it stands until then. Not what
    # was seen of another pod, before the claim was given back and prepared again for this one.
    return _said_before("InForce", before, since=since)


def _priority(
    item: ShareRecord,
    *,
    priority_of: Callable[[ShareRecord], dict[str, str] | None],
    before: Mapping[str, Any],
) -> list[dict[str, str]]:
    # Low is what everybody has.
    if item.priority != Priority.HIGH:
        return []
    said = priority_of(item)
    return [said] if said is not None else _said_before("Priority", before)


def _said_before(kind: str, before: Mapping[str, Any], *, since: str = "") -> list[dict[str, str]]:
    return [
        {key: str(one.get(key) or "") for key in ("type", "status", "reason", "message")}
        for one in before.get("conditions") or []
        if one.get("type") == kind and str(one.get("lastTransitionTime") or "") >= since
    ]


def _held(level: IsolationLevel | None) -> str:
    if level is None:
        # Only a cap on compute can be given and not be wanted.
        return f"not capped (corePolicy: {CorePolicy.DISABLE})"
    return "held by nothing" if level is IsolationLevel.NONE else f"held by {level}"


def _data(item: ShareRecord) -> dict[str, Any]:
    share = item.share
    return {
        "memoryMiB": share.memory_mib,
        "coresPercent": share.cores_percent,
        "wholeCard": share.whole,
        "adminAccess": share.admin,
        "memoryIsolation": str(item.memory_level or ""),
        "coresIsolation": str(item.cores_level or ""),
    }


def _condition(condition: dict[str, str], *, before: Mapping[str, Any], now: str) -> dict[str, str]:
    for old in before.get("conditions") or []:
        if old.get("type") == condition["type"] and old.get("status") == condition["status"]:
            return {**condition, "lastTransitionTime": old.get("lastTransitionTime") or now}
    return {**condition, "lastTransitionTime": now}


def _key(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(entry.get(key) or "") for key in _KEYS)


def _find(entry: Mapping[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((other for other in entries if _key(other) == _key(entry)), None)


def _missing(wanted: list[dict[str, Any]], present: list[dict[str, Any]]) -> list[str]:
    found = []
    for entry in wanted:
        where = f"status.devices[{entry['device']}]"
        other = _find(entry, present)
        if other is None:
            bare = {**entry, "shareID": ""}
            other = _find(bare, present) if entry.get("shareID") else None
        found += differing_fields(entry, other, path=where)
    return found


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
