"""A quota's books: what stored claims take, and the reservations of claims on their way.

Purpose: no interleaving of webhooks, crashes, lost answers and leaders may ever let the claims of a namespace
take more than the quota has.

Flow: a `Ledger` is read from a quota's status and written back by compare-and-swap. `reserve` adds a claim;
`settle` counts the claims that somebody sees stored, and drops the reservations that are over.

What always holds: a claim that is stored, or may still be stored, is counted or has a reservation. So
* a reservation is written before the claim is stored, and no claim is admitted if that failed;
* it is dropped only by who counts the claim in the same write, who saw it deleted, or who asked the API
  server for it after it could not be stored any more, and found none: servers give a create request 34 s,
  and etcd some seconds more. Time alone is not enough: who sees claims late may not have seen this one yet;
* what is seen stored carries the resource version up to which it is complete. Nobody writes a count that is
  older than the one in the books, so a new leader, or a replica that lags behind, forgets nobody's claim.

Limits: pure. Times come from the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol

from driver.api.base import decode
from driver.api.quota import (
    MAX_RESERVATIONS,
    AcceleratorQuotaSpec,
    AcceleratorQuotaStatus,
    QuotaReservation,
)
from driver.quota.amounts import NOTHING, Charge, Excess, Limits, charge_of_document, document_of
from driver.quota.errors import QuotaExceededError, QuotaPerClaimError, QuotaUnavailableError

JSON = dict[str, Any]

HOLD_S = 50.0
"""How long a reservation waits for its claim: a create request has 34 s, etcd's own deadlines are shorter
than the rest, and what was asked for has to come back within 60 s."""
SKEW_S = 8.0
"""What is added where a clock of another machine wrote the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A claim that was admitted and is not counted yet.

    Attributes:
        uid: UID of the claim.
        name: Its name.
        charge: What it takes.
        expires: When it ends by the clock of who wrote it.
        request: UID of the admission request.
    """

    uid: str
    name: str
    charge: Charge
    expires: datetime
    request: str = ""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The books of one quota.

    Attributes:
        hard: The limits.
        per_claim: The limits for a single claim.
        counted: What the claims take that were counted.
        version: Resource version of the claims up to which they are counted; 0 if nobody counted yet.
        reservations: Claims on their way, by UID.
    """

    hard: Limits
    per_claim: Limits
    counted: Charge = NOTHING
    version: int = 0
    reservations: tuple[Reservation, ...] = ()

    @cached_property
    def waiting(self) -> Charge:
        """What reservations take."""
        return _sum(self.reservations)

    @cached_property
    def _uids(self) -> frozenset[str]:
        return frozenset(one.uid for one in self.reservations)

    @property
    def used(self) -> Charge:
        """All that is taken."""
        return self.counted + self.waiting

    def holds(self, uid: str) -> bool:
        """Whether a claim has a reservation."""
        return uid in self._uids

    def with_one_more(self, one: Reservation) -> Ledger:
        """The same with another reservation; sums are carried over, since hundreds may be added at once."""
        made = replace(self, reservations=(*self.reservations, one))
        made.__dict__.update(waiting=self.waiting + one.charge, _uids=self._uids | {one.uid})
        return made


class Seen(Protocol):
    """The claims of a namespace, as somebody sees them stored."""

    @property
    def version(self) -> int:
        """Resource version up to which nothing is missing."""

    @property
    def total(self) -> Charge:
        """What they take of the quota."""

    @property
    def uids(self) -> Collection[str]:
        """UIDs of those that are stored."""

    @property
    def gone(self) -> Collection[str]:
        """UIDs of those that were stored and are not any more; as far as that is remembered."""


def settle(ledger: Ledger, seen: Seen, *, over: Callable[[Reservation], bool]) -> Ledger:
    """Counts what is seen stored, and drops what is over.

    Args:
        ledger: The books.
        seen: The claims. Where they are seen as they were before the last count, nothing is counted.
        over: Whether the claim of a reservation is not stored and can never be any more.
    """
    if seen.version < ledger.version:
        kept = tuple(one for one in ledger.reservations if not over(one))
        return ledger if len(kept) == len(ledger.reservations) else replace(ledger, reservations=kept)
    kept = tuple(
        one
        for one in ledger.reservations
        if one.uid not in seen.uids and one.uid not in seen.gone and not over(one)
    )
    return replace(ledger, counted=seen.total, version=seen.version, reservations=kept)


def reserve(ledger: Ledger, wanted: Reservation, *, quota: str) -> Ledger:
    """Adds a claim.

    Args:
        ledger: The books.
        wanted: The claim; one that has a reservation keeps it.
        quota: Name of the quota, for sentences.

    Raises:
        QuotaPerClaimError: It is more than a single claim may ask for.
        QuotaExceededError: It is more than is left.
        QuotaUnavailableError: There are too many reservations at this moment.
    """
    check_claim(ledger, wanted.charge, quota=quota)
    if ledger.holds(wanted.uid):
        return ledger
    excess = ledger.hard.excess(wanted.charge, used=ledger.used)
    if excess:
        waiting = len(ledger.reservations)
        raise QuotaExceededError(
            f"Quota {quota} has not enough left: {_sentences(excess)}"
            + (f"; {waiting} of the claims that count are just being made" if waiting else ""),
            field="spec.devices.requests",
            remedy="Ask for less, delete claims that are not needed, or have the quota raised.",
        )
    if len(ledger.reservations) >= MAX_RESERVATIONS:
        raise QuotaUnavailableError(
            f"Quota {quota} has {MAX_RESERVATIONS} claims that are just being made, and holds no more.",
            remedy="Try again in a minute.",
        )
    return ledger.with_one_more(wanted)


def release(ledger: Ledger, uid: str) -> Ledger:
    """Takes a reservation back whose claim was refused before it was stored."""
    return replace(ledger, reservations=tuple(one for one in ledger.reservations if one.uid != uid))


def check_claim(ledger: Ledger, charge: Charge, *, quota: str) -> None:
    """Refuses what no single claim may ask for, or what the quota could not give even if it were unused.

    Raises:
        QuotaPerClaimError: It is more.
    """
    excess = ledger.per_claim.excess(charge)
    if excess:
        told = " and ".join(f"{one.name}: asked {one.asked}, at most {one.hard}" for one in excess)
        raise QuotaPerClaimError(
            f"Quota {quota} limits what a single claim may ask for ({told}).",
            field="spec.devices.requests",
            remedy="Ask for less, or for several claims.",
        )


def read_ledger(document: JSON) -> tuple[AcceleratorQuotaSpec, Ledger]:
    """Reads the books of a quota.

    Raises:
        ConfigError: Spec or status are not what an API server with our CRD stores.
    """
    spec = decode(AcceleratorQuotaSpec, document.get("spec") or {}, field="spec")
    raw = {key: value for key, value in (document.get("status") or {}).items() if key != "conditions"}
    status = decode(AcceleratorQuotaStatus, raw, field="status")
    reservations = tuple(_reservation(one) for one in status.reservations)
    version = status.counted_version or "0"
    return spec, Ledger(
        hard=Limits.of(spec.hard),
        per_claim=Limits.of(spec.max_per_claim),
        counted=charge_of_document(status.used) - _sum(reservations),
        version=int(version) if version.isdigit() else 0,
        reservations=reservations,
    )


def written_status(ledger: Ledger, document: JSON) -> JSON:
    """The status that holds the books; its conditions stay as they are."""
    status = document.get("status") or {}
    spec = document.get("spec") or {}
    made: JSON = {
        "hard": dict(spec.get("hard") or {}),
        "used": document_of(ledger.used),
        "reservations": [_document(one) for one in ledger.reservations],
    }
    if ledger.version:
        made["countedVersion"] = str(ledger.version)
    generation = (document.get("metadata") or {}).get("generation")
    if isinstance(generation, int):
        made["observedGeneration"] = generation
    if status.get("conditions"):
        made["conditions"] = status["conditions"]
    return made


def expires_at(now: datetime) -> datetime:
    """When a reservation that is made now ends."""
    return now.replace(microsecond=0) + timedelta(seconds=HOLD_S)


def written_left_s(reservation: Reservation, *, now: datetime) -> float:
    """Seconds until a reservation has ended, by a clock that may not be that of who wrote it."""
    return (reservation.expires - now).total_seconds() + SKEW_S


def _sentences(excess: tuple[Excess, ...]) -> str:
    return " and ".join(
        f"{one.name}: asked {one.asked}, used {one.used} of {one.hard}, left {one.left}" for one in excess
    )


def _sum(reservations: tuple[Reservation, ...]) -> Charge:
    total = NOTHING
    for one in reservations:
        total += one.charge
    return total


def _reservation(one: QuotaReservation) -> Reservation:
    return Reservation(
        uid=one.uid,
        name=one.name,
        charge=Charge(memory_mib=one.memory_mib, cores=one.cores, cards=one.cards),
        expires=_time(one.expires),
        request=one.request,
    )


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC) - timedelta(days=1)


def _document(one: Reservation) -> JSON:
    found: JSON = {
        "uid": one.uid,
        "name": one.name,
        "memoryMiB": one.charge.memory_mib,
        "cores": one.charge.cores,
        "cards": one.charge.cards,
        "expires": one.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if one.request:
        found["request"] = one.request
    return found
