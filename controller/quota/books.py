"""The claims of each namespace as they are stored, and what they take of a quota.

Flow: `note` is a handler of the claims' informer; `seen` gives what a quota's ledger is settled with, once
`complete` has worked out what claims are charged that came since. Sums are kept up to date with each change,
so that asking costs little however many claims there are; they are made anew when the cluster's cards or
classes change.

A claim that was deleted under its running pod is counted until `ended` says that the pod is over.

Limits: mutable, with one owner, in one event loop. UIDs of deleted claims are remembered for two minutes,
which is longer than a reservation lasts.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice

from controller.quota.charges import Charges
from controller.shared_text import SharedText, shared
from driver.kube.client import JSON
from driver.quota.amounts import NOTHING, Charge
from driver.quota.asks import ask_of, drivers_of, packed
from driver.quota.charging import Scope

_REMEMBER_S = 120.0
_MAX_REMEMBERED = 50_000
_MAX_SUMS = 64
_AT_ONCE = 256
"""Claims that are looked at before others have their turn in the event loop."""


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A stored claim.

    Attributes:
        namespace: Its namespace.
        uid: Its UID.
        ask: What it asks for, packed; the same object for equal asks.
        given: Once it is allocated, the numbers of those of its requests that were given cards of ours, as a
            bitmap.
    """

    namespace: str
    uid: str
    ask: SharedText
    given: int | None = None


def claim_view(document: JSON, *, carried: bool) -> ClaimView:
    """What is kept of a claim; never raises, since a claim that is passed over would not count."""
    metadata = document.get("metadata") or {}
    try:
        drivers = drivers_of(document)
    except (AttributeError, TypeError):
        drivers = None
    ask = ask_of(document, carried=carried)
    given = None
    if drivers is not None:
        given = sum(1 << number for number, one in enumerate(ask.requests) if drivers.get(one.name))
    return ClaimView(
        namespace=str(metadata.get("namespace") or ""),
        uid=str(metadata.get("uid") or ""),
        # Thousands of claims come from one template.
        ask=shared(packed(ask)),
        given=given,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What is seen stored of a namespace; implements `driver.quota.ledger.Seen`."""

    version: int
    total: Charge
    uids: Collection[str]
    gone: Collection[str]


@dataclass(slots=True)
class _Sum:
    """Of a namespace: what its claims take, but for those of which that is not known yet."""

    version: int
    left: dict[str, None]
    total: Charge = NOTHING
    charges: dict[str, Charge] = field(default_factory=dict)

    def add(self, uid: str, charge: Charge) -> None:
        del self.left[uid]
        self.charges[uid] = charge
        self.total += charge

    def remove(self, uid: str) -> None:
        self.left.pop(uid, None)
        charge = self.charges.pop(uid, None)
        if charge is not None:
            self.total += charge.times(-1)


class Books:
    """All claims, by namespace."""

    def __init__(
        self,
        charges: Charges,
        *,
        version: Callable[[], int],
        clock: Callable[[], float],
        in_use: Callable[[str], bool] = lambda _uid: False,
    ) -> None:
        """Makes empty books.

        Args:
            charges: What claims are charged.
            version: Resource version up to which no claim is missing; 0 while that is not known.
            clock: Seconds that only grow.
            in_use: Whether pods use the cards of a claim (a UID) that is gone.
        """
        self._charges = charges
        self._version = version
        self._clock = clock
        self._in_use = in_use
        self._kept: dict[str, ClaimView] = {}
        self._claims: dict[str, dict[str, ClaimView]] = {}
        self._sums: dict[str, dict[Scope, _Sum]] = {}
        self._gone: OrderedDict[str, float] = OrderedDict()

    def note(self, _key: str, before: ClaimView | None, after: ClaimView | None) -> None:
        """Takes over a change of a claim."""
        if before is not None and (after is None or after.uid != before.uid) and self._in_use(before.uid):
            self._kept[before.uid] = before
            before = None
        if before is not None:
            self._claims.get(before.namespace, {}).pop(before.uid, None)
            if before != after:
                for kept in self._sums.get(before.namespace, {}).values():
                    kept.remove(before.uid)
            if after is None or after.uid != before.uid:
                self._forget(before.uid)
        if after is not None:
            self._claims.setdefault(after.namespace, {})[after.uid] = after
            if before != after:
                for kept in self._sums.get(after.namespace, {}).values():
                    # What an event says again is not counted again.
                    kept.remove(after.uid)
                    kept.left[after.uid] = None
        elif before is not None and not self._claims.get(before.namespace):
            self._claims.pop(before.namespace, None)
            self._sums.pop(before.namespace, None)

    def ended(self, uid: str) -> str:
        """Counts a claim no more that is gone; gives its namespace, "" if it was not counted."""
        kept = self._kept.pop(uid, None)
        if kept is None:
            return ""
        self.note("", kept, None)
        return kept.namespace

    async def complete(self, namespace: str, scope: Scope) -> None:
        """Works out what `seen` needs, so that it answers until the next change.

        Raises:
            NamespaceBusyError: Too much is to be worked out for the namespace; what was is kept.
        """
        while self._version() and (kept := self._sum(namespace, scope)).left:
            claims = self._claims.get(namespace, {})
            unknown: dict[tuple[SharedText, int | None, Scope], list[str]] = {}
            for uid in list(islice(kept.left, _AT_ONCE)):
                key = (claims[uid].ask, claims[uid].given, scope)
                known = self._charges.known(key)
                if known is None:
                    unknown.setdefault(key, []).append(uid)
                else:
                    kept.add(uid, known.charge)
            if not unknown:
                await asyncio.sleep(0)
                continue
            version = self._charges.version
            found = await self._charges.some(namespace, list(unknown))
            if version != self._charges.version:
                continue
            claims = self._claims.get(namespace, {})
            for key, counted in found.items():
                for uid in unknown[key]:
                    view = claims.get(uid)
                    if view is not None and uid in kept.left and (view.ask, view.given) == key[:2]:
                        kept.add(uid, counted.charge)

    def seen(self, namespace: str, scope: Scope) -> Counted | None:
        """The claims of a namespace and what they take; None while that is not known."""
        version = self._version()
        if not version:
            return None
        kept = self._sum(namespace, scope)
        if kept.left:
            return None
        return Counted(
            version=version,
            total=kept.total,
            uids=self._claims.get(namespace, {}).keys(),
            gone=self._gone.keys(),
        )

    def _sum(self, namespace: str, scope: Scope) -> _Sum:
        sums = self._sums.setdefault(namespace, {})
        kept = sums.get(scope)
        if kept is None or kept.version != self._charges.version:
            if kept is None and len(sums) >= _MAX_SUMS:
                # Scopes of quotas that were changed or deleted since.
                sums.clear()
            left = dict.fromkeys(self._claims.get(namespace, ()))
            kept = sums[scope] = _Sum(self._charges.version, left)
        return kept

    def _forget(self, uid: str) -> None:
        now = self._clock()
        self._gone[uid] = now
        while self._gone:
            oldest = next(iter(self._gone))
            if len(self._gone) <= _MAX_REMEMBERED and self._gone[oldest] + _REMEMBER_S > now:
                break
            del self._gone[oldest]
