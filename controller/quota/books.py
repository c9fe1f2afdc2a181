"""The claims of each namespace as they are stored, and what they take of a quota.

Flow: `note` is a handler of the claims' informer; `seen` gives what a quota's ledger is settled with. Sums
are kept up to date with each change, so that asking costs nothing however many claims there are; they are
made anew when the cluster's cards or classes change.

Limits: mutable, with one owner, in one event loop. UIDs of deleted claims are remembered for two minutes,
which is longer than a reservation lasts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from controller.shared_text import SharedText, shared
from driver.kube.client import JSON
from driver.quota.amounts import NOTHING, Charge
from driver.quota.asks import ask_of, drivers_of, packed, unpacked
from driver.quota.charging import Scope, charge_of
from driver.quota.stock import Stock
from driver.selection.recent import Recent

_REMEMBER_S = 120.0
_MAX_REMEMBERED = 50_000
_MAX_KEPT = 4096
_MAX_KEPT_BYTES = 4 << 20
_MAX_SUMS = 64


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
    version: int
    total: Charge


class Books:
    """All claims, by namespace."""

    def __init__(self, stock: Stock, *, version: Callable[[], int], clock: Callable[[], float]) -> None:
        """Makes empty books.

        Args:
            stock: The cluster's cards and classes.
            version: Resource version up to which no claim is missing; 0 while that is not known.
            clock: Seconds that only grow.
        """
        self._stock = stock
        self._version = version
        self._clock = clock
        self._claims: dict[str, dict[str, ClaimView]] = {}
        self._sums: dict[str, dict[Scope, _Sum]] = {}
        self._charges = _no_charges()
        self._charged_at = -1
        self._gone: OrderedDict[str, float] = OrderedDict()

    def note(self, _key: str, before: ClaimView | None, after: ClaimView | None) -> None:
        """Takes over a change of a claim."""
        if before is not None:
            self._claims.get(before.namespace, {}).pop(before.uid, None)
            self._add(before, sign=-1)
            if after is None or after.uid != before.uid:
                self._forget(before.uid)
        if after is not None:
            self._claims.setdefault(after.namespace, {})[after.uid] = after
            self._add(after, sign=1)
        elif before is not None and not self._claims.get(before.namespace):
            self._claims.pop(before.namespace, None)
            self._sums.pop(before.namespace, None)

    def seen(self, namespace: str, scope: Scope) -> Counted | None:
        """The claims of a namespace and what they take; None while they are not known."""
        version = self._version()
        if not version:
            return None
        sums = self._sums.setdefault(namespace, {})
        kept = sums.get(scope)
        if kept is None or kept.version != self._stock.version:
            total = NOTHING
            for claim in self._claims.get(namespace, {}).values():
                total += self._charge(claim, scope)
            if len(sums) >= _MAX_SUMS:
                # Scopes of quotas that were changed or deleted since.
                sums.clear()
            kept = sums[scope] = _Sum(self._stock.version, total)
        return Counted(
            version=version,
            total=kept.total,
            uids=self._claims.get(namespace, {}).keys(),
            gone=self._gone.keys(),
        )

    def _add(self, claim: ClaimView, *, sign: int) -> None:
        for scope, kept in self._sums.get(claim.namespace, {}).items():
            if kept.version == self._stock.version:
                kept.total += self._charge(claim, scope).times(sign)

    def _charge(self, claim: ClaimView, scope: Scope) -> Charge:
        if self._charged_at != self._stock.version:
            self._charges = _no_charges()
            self._charged_at = self._stock.version
        key = (claim.ask, claim.given, scope)
        found = self._charges.find(key)
        if found is None:
            ask, given = unpacked(claim.ask.text), None
            if claim.given is not None:
                given = {one.name: bool(claim.given >> number & 1) for number, one in enumerate(ask.requests)}
            found = charge_of(ask, scope=scope, stock=self._stock, given=given).charge
            self._charges.keep(key, found, weight=len(claim.ask.text))
        return found

    def _forget(self, uid: str) -> None:
        now = self._clock()
        self._gone[uid] = now
        while self._gone:
            oldest = next(iter(self._gone))
            if len(self._gone) <= _MAX_REMEMBERED and self._gone[oldest] + _REMEMBER_S > now:
                break
            del self._gone[oldest]


def _no_charges() -> Recent[tuple[SharedText, int | None, Scope], Charge]:
    return Recent(count=_MAX_KEPT, weight=_MAX_KEPT_BYTES)
