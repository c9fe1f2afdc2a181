"""Cards that were there and are not listed any more.

Purpose: a card that falls off the bus, or whose driver is being replaced, drops out of its vendor's list. It
stays in the inventory for a while, with a fault, so that its claims are told and it does not come and go in
the slices; what does not come back is let go.

Limits: pure, with times handed in. After a restart of the agent nobody knows what was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driver.cards import Card
from driver.vendors.base import Vendor

KEPT_FOR_S = 900.0
"""For so long a missing card is waited for: a driver is upgraded in less."""


@dataclass(frozen=True)
class Found:
    """A card as its vendor listed it."""

    card: Card
    vendor: Vendor
    final: bool
    """Whether its vendor says of its lists that what they lack was taken away on purpose."""


class MissingCards:
    """Remembers what was there."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Found, float]] = {}

    def update(self, found: Mapping[str, Found], *, now: float) -> dict[str, Found]:
        """Takes a look's cards; those that are missing from it and still waited for.

        Args:
            found: All listed cards by name.
            now: Monotonic seconds.
        """
        for name, one in found.items():
            self._seen[name] = (one, now)
        for name, (one, last) in list(self._seen.items()):
            if name not in found and (one.final or now - last >= KEPT_FOR_S):
                del self._seen[name]
        return {name: one for name, (one, _) in self._seen.items() if name not in found}
