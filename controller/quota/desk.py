"""One quota, as one replica changes it: everything that waits goes into one write.

Purpose: a thousand claims at once must not become a thousand writes of one object that exclude each other.

Flow: operations wait in line; while a write is under way others gather, and the next write carries all of
them. A write that loses to another replica's is decided anew on what is stored, after a moment left to
chance. Each write also counts the claims that are seen stored, so that reservations go as soon as possible.

Limits: nobody is refused by what was known a moment ago: before a refusal the quota is read. An operation
that is not done at its deadline fails closed; what was written for it meanwhile ends by itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from controller.quota.books import Counted as Seen
from controller.quota.charges import Charges
from controller.quota.conditions import with_conditions
from controller.quota.store import QuotaStore
from controller.shared_text import SharedText
from driver.errors import ConfigError, DragomanError
from driver.kube.client import JSON, ApiError, ConflictError, NotFoundError
from driver.quota.charging import Counted, Scope, check_known
from driver.quota.errors import QuotaExceededError, QuotaUnavailableError
from driver.quota.ledger import (
    Ledger,
    Reservation,
    check_claim,
    expires_at,
    read_ledger,
    release,
    reserve,
    settle,
    written_status,
)

_MAX_BATCH = 256
_FIRST_WAIT_S = 0.01
_LONGEST_WAIT_S = 0.5

_log = structlog.get_logger("quota")


class Overdue(Protocol):
    """Knows which reservations are over."""

    def note(self, document: JSON) -> None:
        """Takes note of the reservations that a quota has."""

    def over(self, reservation: Reservation) -> bool:
        """Whether the claim of a reservation is not stored and can never be any more."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a desk needs.

    Attributes:
        store: Where quotas are kept.
        charges: What claims are charged.
        complete: Works out what `seen` needs.
        seen: The claims of a namespace that are stored, for a scope; None while they are not known.
        counts: Whether claims are counted at all; where not, what a quota's status says is used.
        overdue: Which reservations are over.
        now: The time.
        source: Where jitter comes from.
    """

    store: QuotaStore
    charges: Charges
    complete: Callable[[str, Scope], Awaitable[None]]
    seen: Callable[[str, Scope], Seen | None]
    counts: bool
    overdue: Overdue
    now: Callable[[], datetime]
    source: random.Random


@dataclass(kw_only=True, eq=False)
class Operation:
    """Something to be done to a quota's books.

    Attributes:
        deadline: When it has failed, by the loop's clock.
        done: Its outcome: what is written now, or None if the quota is gone.
        ask: What a claim asks for, packed, to be reserved; None to count only.
        uid: UID of the claim.
        name: Name of the claim.
        request: UID of the admission request.
        dry_run: Whether nothing may be written for it.
        released: Whether the claim's reservation is to be taken back.
        anew: Whether the count may be older than the one that is stored, which is not of this cluster.
    """

    deadline: float
    done: asyncio.Future[JSON | None]
    ask: SharedText | None = None
    uid: str = ""
    name: str = ""
    request: str = ""
    dry_run: bool = False
    released: bool = False
    anew: bool = False


@dataclass(kw_only=True)
class _Decision:
    ledger: Ledger
    written: bool
    refused: dict[Operation, DragomanError] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Attempt:
    document: JSON | None
    fresh: bool = False
    failures: int = 0


class Desk:
    """The operations on one quota."""

    def __init__(self, around: Surroundings, *, namespace: str, name: str) -> None:
        """Prepares a desk for a quota."""
        self._around = around
        self._namespace = namespace
        self._name = name
        self._waiting: list[Operation] = []
        self._latest: JSON | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._waiting and (self._task is None or self._task.done())

    def put(self, operation: Operation) -> None:
        """Puts an operation into the line."""
        # Nobody may be there any more to hear of it.
        operation.done.add_done_callback(_heard)
        self._waiting.append(operation)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name=f"quota {self._namespace}/{self._name}")

    async def ask(self, operation: Operation) -> JSON | None:
        """Waits for an operation; gives what is stored afterwards, None if the quota is gone.

        Raises:
            DragomanError: The quota refuses it, or could not be asked in time.
        """
        self.put(operation)
        try:
            async with asyncio.timeout_at(operation.deadline):
                return await operation.done
        except TimeoutError:
            raise self._too_late() from None

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            try:
                await self._commit(batch)
            except DragomanError as failed:
                _fail(batch, failed)
            except Exception as failed:  # noqa: BLE001
                # Whatever it is, the claim must not be admitted by it, and the line must go on.
                _log.exception("quota failed", namespace=self._namespace, quota=self._name)
                _fail(batch, QuotaUnavailableError(f"Quota {self._name} failed: {type(failed).__name__}."))

    async def _commit(self, batch: list[Operation]) -> None:
        attempt = _Attempt(document=self._newest())
        while batch := self._alive(batch):
            deadline = max(one.deadline for one in batch)
            try:
                decision = await self._try(attempt, batch, deadline=deadline)
            except NotFoundError:
                self._latest = None
                _succeed(batch, None)
                return
            except (ApiError, TimeoutError) as failed:
                await self._pause(attempt, failed, deadline=deadline)
                continue
            if decision is None:
                continue
            for operation, refused in decision.refused.items():
                _fail([operation], refused)
            _succeed(batch, attempt.document)
            return

    async def _try(self, attempt: _Attempt, batch: list[Operation], *, deadline: float) -> _Decision | None:
        """Decides and writes; None where it has to be decided anew on what is stored."""
        if attempt.document is None:
            attempt.document, attempt.fresh = await self._read(deadline), True
        try:
            charges = await self._charges(attempt.document, batch, deadline)
            # Nothing may come between: what is seen is complete for this turn of the loop only.
            decision = self._decide(attempt.document, batch, charges)
        except ConfigError:
            if attempt.fresh:
                raise
            attempt.document = None
            return None
        if decision.refused and not attempt.fresh:
            attempt.document = None
            return None
        if decision.written:
            attempt.document = await self._write(attempt.document, decision.ledger, deadline)
        return decision

    async def _pause(self, attempt: _Attempt, failed: BaseException, *, deadline: float) -> None:
        """Waits before the next try.

        Raises:
            QuotaUnavailableError: There is no time for one.
        """
        attempt.document = None
        attempt.failures += 1
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt.failures)
        if not isinstance(failed, ConflictError) and asyncio.get_running_loop().time() + wait_s >= deadline:
            raise self._unavailable(failed) from None
        await asyncio.sleep(wait_s * self._around.source.random())

    def _alive(self, batch: list[Operation]) -> list[Operation]:
        now = asyncio.get_running_loop().time()
        _fail([one for one in batch if one.deadline <= now], self._too_late())
        return [one for one in batch if not one.done.done()]

    def _newest(self) -> JSON | None:
        known = [
            one for one in self._around.store.known(self._namespace) if one["metadata"]["name"] == self._name
        ]
        candidates = [one for one in (*known, self._latest) if one is not None]
        return max(candidates, key=_version) if candidates else None

    async def _read(self, deadline: float) -> JSON:
        async with asyncio.timeout_at(deadline):
            found = await self._around.store.read(namespace=self._namespace, name=self._name)
        self._around.overdue.note(found)
        self._latest = found
        return found

    async def _write(self, document: JSON, ledger: Ledger, deadline: float) -> JSON:
        status = with_conditions(written_status(ledger, document), ledger, now=self._around.now())
        async with asyncio.timeout_at(deadline):
            written = await self._around.store.write_status({**document, "status": status})
        self._around.overdue.note(written)
        self._latest = written
        return written

    async def _charges(
        self, document: JSON, batch: list[Operation], deadline: float
    ) -> Mapping[SharedText, Counted]:
        """What the operations' claims are charged; what is stored is counted by then as well.

        Raises:
            ConfigError: The quota cannot be read.
            NamespaceBusyError: Too much is to be worked out for the namespace.
        """
        scope = Scope.of(read_ledger(document)[0])
        asks = {one.ask for one in batch if one.ask is not None}
        async with asyncio.timeout_at(deadline):
            found = await self._around.charges.of(self._namespace, [(one, None, scope) for one in asks])
            await self._around.complete(self._namespace, scope)
        return {ask: counted for (ask, _, _), counted in found.items()}

    def _decide(
        self, document: JSON, batch: list[Operation], charges: Mapping[SharedText, Counted]
    ) -> _Decision:
        """What becomes of the books, and who is refused.

        Raises:
            ConfigError: The quota cannot be read.
        """
        around = self._around
        spec, before = read_ledger(document)
        scope = Scope.of(spec)
        ledger = before
        if around.counts:
            seen = around.seen(self._namespace, scope)
            if seen is None:
                raise QuotaUnavailableError(
                    f"Quota {self._name} cannot be asked yet: the claims of {self._namespace} are not known.",
                    remedy="Try again in a moment.",
                )
            if any(one.anew for one in batch) and seen.version < ledger.version:
                ledger = Ledger(
                    hard=ledger.hard, per_claim=ledger.per_claim, reservations=ledger.reservations
                )
            ledger = settle(ledger, seen, over=around.overdue.over)
        decision = _Decision(ledger=ledger, written=False)
        for one in batch:
            try:
                self._apply(one, decision, charges, spec_limits_memory=_limits_memory(ledger))
            except DragomanError as refused:
                decision.refused[one] = refused
        counting = any(one.ask is None for one in batch)
        decision.written = decision.ledger.reservations != ledger.reservations or (
            counting and _differs(decision.ledger, document, now=around.now())
        )
        return decision

    def _apply(
        self,
        one: Operation,
        decision: _Decision,
        charges: Mapping[SharedText, Counted],
        *,
        spec_limits_memory: bool,
    ) -> None:
        if one.released:
            decision.ledger = release(decision.ledger, one.uid)
        if one.ask is None:
            return
        counted = charges[one.ask]
        if not counted.charge:
            return
        check_known(counted, limits_memory=spec_limits_memory, quota=self._name)
        check_claim(decision.ledger, counted.charge, quota=self._name)
        wanted = Reservation(
            uid=one.uid,
            name=one.name,
            charge=counted.charge,
            expires=expires_at(self._around.now()),
            request=one.request,
        )
        try:
            after = reserve(decision.ledger, wanted, quota=self._name)
        except QuotaExceededError as refused:
            if not counted.everything:
                raise
            raise QuotaExceededError(
                refused.message,
                field=f"spec.devices.requests[{counted.everything}]",
                remedy="allocationMode All counts 32 cards. Ask for a number of cards by count.",
            ) from None
        if not one.dry_run:
            decision.ledger = after

    def _too_late(self) -> QuotaUnavailableError:
        return QuotaUnavailableError(
            f"Quota {self._name} could not be asked in time.", remedy="Try again in a moment."
        )

    def _unavailable(self, failed: BaseException) -> QuotaUnavailableError:
        if isinstance(failed, TimeoutError):
            return self._too_late()
        return QuotaUnavailableError(
            f"Quota {self._name} could not be read or written: {failed}", remedy="Try again in a moment."
        )


def _limits_memory(ledger: Ledger) -> bool:
    return ledger.hard.memory_mib is not None or ledger.per_claim.memory_mib is not None


def _differs(ledger: Ledger, document: JSON, *, now: datetime) -> bool:
    """Whether the status that is stored says something else; up to where it counts alone is no reason."""
    status = with_conditions(written_status(ledger, document), ledger, now=now)
    stored = document.get("status") or {}
    return {**status, "countedVersion": ""} != {**stored, "countedVersion": ""}


def _version(document: JSON) -> int:
    text = str(document["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0


def _succeed(batch: list[Operation], document: JSON | None) -> None:
    for one in batch:
        if not one.done.done():
            one.done.set_result(document)


def _fail(batch: list[Operation], failed: DragomanError) -> None:
    for one in batch:
        if not one.done.done():
            one.done.set_exception(failed)


def _heard(done: asyncio.Future[JSON | None]) -> None:
    if not done.cancelled():
        done.exception()
