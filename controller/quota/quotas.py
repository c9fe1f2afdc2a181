"""Holds claims against the quotas of their namespace.

Flow: `reserve` asks the desk of each quota of the namespace; all of them must have what the claim asks for.
`count` looks at one quota without a claim, which the leader does when claims come and go.

A claim that can get no card of ours is held against none, whatever state they are in.

Limits: a namespace without quotas costs one look into a dictionary, and needs no API server. Where there are
quotas and they cannot be read or written, claims are refused.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.by_turns import NamespaceBusyError
from controller.quota.books import Books
from controller.quota.charges import Charges
from controller.quota.desk import Desk, Operation, Surroundings
from controller.quota.overdue import SeenSince
from controller.quota.store import QuotaStore
from controller.shared_text import SharedText, shared
from driver.errors import DragomanError
from driver.kube.client import JSON
from driver.quota.amounts import NOTHING
from driver.quota.asks import Ask, ask_of, packed
from driver.quota.charging import Scope
from driver.quota.errors import QuotaUnavailableError
from driver.quota.ledger import check_claim, read_ledger

_MAX_DESKS = 1024
_COUNT_S = 10.0
_GRACE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """Times and chance.

    Attributes:
        now: The time.
        clock: Seconds that only grow; None for the event loop's.
        source: Where jitter comes from.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] | None = None
    source: random.Random = random.Random()  # noqa: S311, RUF009 - jitter, no secret; shared on purpose


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    deadline: float
    ask: SharedText
    uid: str
    name: str
    request: str

    def operation(self, *, dry_run: bool = False) -> Operation:
        return Operation(
            deadline=self.deadline,
            done=asyncio.get_running_loop().create_future(),
            ask=self.ask,
            uid=self.uid,
            name=self.name,
            request=self.request,
            dry_run=dry_run,
        )

    def release(self) -> Operation:
        loop = asyncio.get_running_loop()
        return Operation(
            deadline=loop.time() + _COUNT_S, done=loop.create_future(), uid=self.uid, released=True
        )


class Quotas:
    """All quotas, as one replica (or a replay) holds claims against them."""

    def __init__(
        self,
        store: QuotaStore,
        *,
        charges: Charges,
        carried: bool,
        books: Books | None = None,
        ready: Callable[[str, Callable[[], Awaitable[bool]]], Awaitable[None]] | None = None,
        budget_s: float = 4.0,
        clocks: Clocks | None = None,
    ) -> None:
        """Prepares.

        Args:
            store: Where quotas are kept.
            charges: What claims are charged.
            carried: Whether amounts that stand in a ShareConfig count (mode controller).
            books: The claims that are stored; None where a quota's status is taken as it is, as in a replay.
            ready: Awaited with the namespace before its quotas are looked at, and with what says whether the
                claim asks for cards of ours at all; may raise a DragomanError where quotas are not known yet.
            budget_s: Time that a reservation may take; less than the webhook's timeout.
            clocks: Times and chance.
        """
        clocks = clocks or Clocks()
        self._store = store
        self._charges = charges
        self._carried = carried
        self._ready = ready
        self._budget_s = budget_s
        self.overdue = SeenSince(clock=clocks.clock or _loop_time, now=clocks.now)
        self._around = Surroundings(
            store=store,
            charges=charges,
            complete=books.complete if books is not None else _nothing_to_do,
            seen=books.seen if books is not None else lambda _namespace, _scope: None,
            counts=books is not None,
            overdue=self.overdue,
            now=clocks.now,
            source=clocks.source,
        )
        self._desks: dict[tuple[str, str], Desk] = {}

    async def reserve(
        self,
        *,
        namespace: str,
        uid: str,
        name: str,
        claim: Mapping[str, Any],
        dry_run: bool,
        request: str = "",
    ) -> None:
        """Takes what a claim asks for out of all quotas of its namespace.

        Args:
            namespace: Of the claim.
            uid: Of the claim.
            name: Of the claim.
            claim: The claim.
            dry_run: Whether nothing may be written.
            request: UID of the admission request.

        Raises:
            QuotaExceededError: A quota does not have it.
            QuotaPerClaimError: It is more than a single claim may ask for.
            QuotaCardsUnknownError: It cannot be said how much a whole card is.
            QuotaUnavailableError: A quota could not be asked in time.
            ConfigError: A quota cannot be read.
        """
        if self._ready is not None:
            await self._ready(namespace, lambda: self._is_ours(namespace, claim))
        names = [one["metadata"]["name"] for one in self._store.known(namespace)]
        ask = ask_of(claim, carried=self._carried) if names else Ask()
        if not ask.requests or not await self._is_ours(namespace, claim):
            # No quota counts it, so none that cannot be asked may keep it out.
            return
        if not name and not dry_run and self._around.counts:
            # Without it nobody could ask for the claim later, if it never comes.
            raise QuotaUnavailableError("The claim has no name yet, so its reservation could not be kept.")
        await self._ask_all(
            [self._desk(namespace, one) for one in names],
            _Wanted(
                deadline=asyncio.get_running_loop().time() + self._budget_s,
                ask=shared(packed(ask)),
                uid=uid,
                name=name,
                request=request,
            ),
            dry_run=dry_run,
        )

    async def _is_ours(self, namespace: str, claim: Mapping[str, Any]) -> bool:
        """Whether a claim could get a card of ours, so that a quota may be about it."""
        key = (shared(packed(ask_of(claim, carried=self._carried))), None, Scope())
        return (await self._charges.of(namespace, [key]))[key].charge != NOTHING

    async def _ask_all(self, desks: list[Desk], wanted: _Wanted, *, dry_run: bool) -> None:
        if dry_run or len(desks) > 1:
            # So that one quota holds no reservation that another one refuses.
            for desk in desks:
                await desk.ask(wanted.operation(dry_run=True))
        if dry_run:
            return
        for number, desk in enumerate(desks):
            try:
                await desk.ask(wanted.operation())
            except QuotaUnavailableError:
                # Nobody knows who heard of it in time; what was reserved ends by itself.
                raise
            except DragomanError:
                for earlier in desks[:number]:
                    earlier.put(wanted.release())
                raise

    async def count(self, *, namespace: str, name: str, anew: bool = False) -> JSON | None:
        """Brings the status of a quota up to date; gives the quota, None if it is gone.

        Args:
            namespace: Of the quota.
            name: Of the quota.
            anew: Whether the count that is stored is not of this cluster.

        Raises:
            DragomanError: It could not be read or written.
        """
        loop = asyncio.get_running_loop()
        operation = Operation(deadline=loop.time() + _COUNT_S, done=loop.create_future(), anew=anew)
        return await self._desk(namespace, name).ask(operation)

    def next_look_s(self, document: JSON) -> float | None:
        """Seconds until the first reservation of a quota is over; None if it has none."""
        left = [self.overdue.left_s(one) for one in read_ledger(document)[1].reservations]
        return min(left) + _GRACE_S if left else None

    async def advise(self, *, namespace: str, specs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """What somebody should know whose pods will make claims of these specs, from what is known here.

        Args:
            namespace: Of the pod or template.
            specs: `spec` of each claim, such as `spec.spec` of a template.

        Returns:
            Sentences; empty where the quotas have room.
        """
        found: dict[str, None] = {}
        documents = self._store.known(namespace)
        asks = [shared(packed(ask_of({"spec": spec}, carried=self._carried))) for spec in specs if documents]
        for document in documents if asks else ():
            name = document["metadata"]["name"]
            try:
                spec, ledger = read_ledger(document)
                scope, total = Scope.of(spec), NOTHING
                charges = await self._charges.of(namespace, [(ask, None, scope) for ask in asks])
                for ask in asks:
                    charge = charges[ask, None, scope].charge
                    check_claim(ledger, charge, quota=name)
                    total += charge
            except NamespaceBusyError:
                # It will hear when the claims come.
                return tuple(found)
            except DragomanError as refused:
                found[f"Its claims will be refused: {refused}"] = None
                continue
            for one in ledger.hard.excess(total, used=ledger.used):
                found[
                    f"Its claims will be refused while quota {name} has {one.left} of {one.hard} {one.name} "
                    f"left: they ask for {one.asked}."
                ] = None
        return tuple(found)

    def _desk(self, namespace: str, name: str) -> Desk:
        key = (namespace, name)
        found = self._desks.get(key)
        if found is None:
            if len(self._desks) >= _MAX_DESKS:
                # Most are of quotas that are gone; what they know is read again where it is needed.
                self._desks = {one: desk for one, desk in self._desks.items() if not desk.idle}
            found = self._desks[key] = Desk(self._around, namespace=namespace, name=name)
        return found


async def _nothing_to_do(_namespace: str, _scope: Scope) -> None:
    pass


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
