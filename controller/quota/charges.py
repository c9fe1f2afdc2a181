"""What claims are charged, worked out beside the event loop and kept.

Purpose: a charge may take a tenth of a second to work out where somebody's selectors are made for that, and
is the same for all claims of one template.

Flow: `known` gives what is kept; `of` works out what is not, some at a time.

Limits: what is kept is bounded in number and bytes, and forgotten when the cluster's cards or classes change.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from controller.by_turns import AtOnce, Beside
from controller.shared_text import SharedText
from driver.quota.asks import unpacked
from driver.quota.charging import Counted, Scope, charge_of
from driver.quota.stock import Stock
from driver.selection.recent import Recent

_MAX_KEPT = 4096
_MAX_KEPT_BYTES = 4 << 20
_SLICE_S = 0.02

Key: TypeAlias = tuple[SharedText, int | None, Scope]
"""A packed ask; once it is allocated, which of its requests were given cards of ours; and a quota's scope."""


class Charges:
    """The charges of claims."""

    def __init__(self, stock: Stock, *, beside: Beside | None = None) -> None:
        """Prepares.

        Args:
            stock: The cluster's cards and classes; changed by `beside.change` only.
            beside: Where charges are worked out.
        """
        self._stock = stock
        self._beside = beside or AtOnce()
        self._version = -1
        self._kept: Recent[Key, Counted] = _nothing()

    @property
    def version(self) -> int:
        """Grows whenever charges may be others than before."""
        return self._stock.version

    def known(self, key: Key) -> Counted | None:
        """A charge, if it is kept."""
        if self._version != self._stock.version:
            self._kept, self._version = _nothing(), self._stock.version
        return self._kept.find(key)

    async def of(self, namespace: str, keys: Iterable[Key]) -> dict[Key, Counted]:
        """Some charges.

        Raises:
            NamespaceBusyError: Too much is to be worked out for the namespace.
        """
        found: dict[Key, Counted] = {}
        left: list[Key] = []
        for key in dict.fromkeys(keys):
            known = self.known(key)
            if known is None:
                left.append(key)
            else:
                found[key] = known
        while left:
            worked_out = await self.some(namespace, left)
            found |= worked_out
            left = left[len(worked_out) :]
        return found

    async def some(self, namespace: str, keys: Sequence[Key]) -> dict[Key, Counted]:
        """The first of some charges: as many as take no longer than a moment, one at least.

        Raises:
            NamespaceBusyError: Too much is to be worked out for the namespace.
        """
        version, found = await self._beside.run(namespace, lambda: self._worked_out(keys))
        for key, counted in found.items():
            if self.known(key) is None and version == self._version:
                self._kept.keep(key, counted, weight=len(key[0].text))
        return found

    def _worked_out(self, keys: Sequence[Key]) -> tuple[int, dict[Key, Counted]]:
        found: dict[Key, Counted] = {}
        end = time.thread_time() + _SLICE_S
        for key in keys:
            found[key] = charged(key, self._stock)
            if time.thread_time() >= end:
                break
        return self._stock.version, found


def charged(key: Key, stock: Stock) -> Counted:
    """Works a charge out."""
    packed, bits, scope = key
    ask, given = unpacked(packed.text), None
    if bits is not None:
        given = {one.name: bool(bits >> number & 1) for number, one in enumerate(ask.requests)}
    return charge_of(ask, scope=scope, stock=stock, given=given)


def _nothing() -> Recent[Key, Counted]:
    return Recent(count=_MAX_KEPT, weight=_MAX_KEPT_BYTES)
