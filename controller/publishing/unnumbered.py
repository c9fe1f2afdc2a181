"""Cards that kube-scheduler must not see, because it would count wrongly what is held of them.

Purpose: an allocation without a shareID, such as our allocator writes where the API server drops the ID,
holds the card as a whole in kube-scheduler's books, and the first of two such claims to go frees all of it
there. So a card that can be shared stays out of the slices that kube-scheduler uses until the last such claim
is gone.

Flow: `unnumbered_view` projects claims; `Unnumbered.note` is a handler of their informer; `devices` gives the
cards of a node.

Limits: of our driver only; results with adminAccess hold nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from driver.cards import DRIVER_NAME, node_of_pool
from driver.kube.client import JSON

Held = tuple[tuple[str, str], ...]
"""Node and device of each result without a shareID."""


def unnumbered_view(document: JSON) -> Held | None:
    """Projects a ResourceClaim; None if it holds no card of ours without a shareID."""
    allocation = (document.get("status") or {}).get("allocation") or {}
    found = tuple(
        (node_of_pool(str(one.get("pool"))), str(one.get("device")))
        for one in (allocation.get("devices") or {}).get("results") or []
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
        self._claims: Counter[tuple[str, str]] = Counter()

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
        return {device: count for (name, device), count in self._claims.items() if name == node}
