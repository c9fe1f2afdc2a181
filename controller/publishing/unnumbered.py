"""Cards that kube-scheduler must not see, because it would count wrongly what is held of them.

Purpose: an allocation without a shareID, such as our allocator writes where the API server drops the ID,
holds the card as a whole in kube-scheduler's books, and the first of two such claims to go frees all of it
there. So a card that can be shared stays out of the slices that kube-scheduler uses until the last such claim
is gone. Where kube-scheduler itself writes such an allocation for a card that can be shared, it knows no
shares: it is older than the API server, as in the middle of an upgrade, or its feature gate is off.

Flow: `unnumbered_view` projects claims; `Unnumbered.note` is a handler of their informer; `devices` gives the
cards of a node, `not_ours` those of them that our allocator did not give out.

Limits: of our driver only; results with adminAccess hold nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from driver.api.share_allocation import is_share_allocation
from driver.cards import DRIVER_NAME, node_of_pool
from driver.kube.client import JSON

Held = tuple[tuple[str, str, bool], ...]
"""Node and device of each result without a shareID, and whether our allocator gave it."""


def unnumbered_view(document: JSON) -> Held | None:
    """Projects a ResourceClaim; None if it holds no card of ours without a shareID."""
    allocation = (document.get("status") or {}).get("allocation") or {}
    devices = allocation.get("devices") or {}
    ours = any(map(is_share_allocation, devices.get("config") or []))
    found = tuple(
        (node_of_pool(str(one.get("pool"))), str(one.get("device")), ours)
        for one in devices.get("results") or []
        if one.get("driver") == DRIVER_NAME and not one.get("shareID") and not one.get("adminAccess")
    )
    return found or None


class Unnumbered:
    """How many claims hold each card without a shareID."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        """Starts empty.

        Args:
            changed: Told the name of each node of which a card came or went.
        """
        self._changed = changed
        self._claims: Counter[tuple[str, str, bool]] = Counter()

    def note(self, _key: str, before: Held | None, after: Held | None) -> None:
        """Takes over a change of a claim."""
        if before == after:
            return
        self._claims.subtract(before or ())
        self._claims.update(after or ())
        for place in {*(before or ()), *(after or ())}:
            if not self._claims[place]:
                del self._claims[place]
            self._changed(place[0])

    def devices(self, node: str) -> dict[str, int]:
        """Cards of a node that are held without a shareID, and by how many claims."""
        found: Counter[str] = Counter()
        for (name, device, _), count in self._claims.items():
            if name == node:
                found[device] += count
        return dict(found)

    def not_ours(self, node: str) -> frozenset[str]:
        """Those of them that somebody else than our allocator gave out."""
        return frozenset(device for name, device, ours in self._claims if name == node and not ours)
