"""The cards that may be given out, as the allocator reads them.

Purpose: slices as kube-scheduler would see them if it could give out shares. The slices in the API server are
fenced, and servers before 1.36 drop from them what makes shares; so they are made from the inventories here.

Flow: `refresh` looks at one node and says what changed; `slices` are all of them.

Limits: an inventory that cannot be read leaves its node as it was, as for publishing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from controller.allocating.sources import Sources
from driver.api.node import cards_of, decode_status
from driver.errors import DragomanError
from driver.kube.client import JSON
from driver.slices import publication_of, with_generation


@dataclass(frozen=True, slots=True)
class SliceChanges:
    """What changed of a node: slices that are new or different, and names of those that are gone."""

    changed: tuple[JSON, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.changed or self.removed)


class Cards:
    """Slices by node."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._read: dict[str, bytes] = {}
        self._slices: dict[str, dict[str, JSON]] = {}

    def refresh(self, node: str) -> SliceChanges:
        """Looks at a node again, and says what changed."""
        inventory = self._sources.inventories.get(node)
        status = inventory.status if inventory is not None and self._sources.nodes.get(node) else b""
        if status == self._read.get(node, b""):
            return SliceChanges()
        before = self._slices.get(node, {})
        if not status:
            self._read.pop(node, None)
            self._slices.pop(node, None)
            return SliceChanges(removed=tuple(before))
        try:
            cards = cards_of(decode_status(json.loads(status)))
        except DragomanError:
            return SliceChanges()
        self._read[node] = status
        made = (with_generation(one, 1) for one in publication_of(cards, node=node).slices)
        after = {str(one["metadata"]["name"]): one for one in made}
        self._slices[node] = after
        return SliceChanges(
            changed=tuple(one for name, one in after.items() if before.get(name) != one),
            removed=tuple(name for name in before if name not in after),
        )

    def slices(self) -> list[JSON]:
        """All slices, in the order of their nodes."""
        return [one for node in sorted(self._slices) for one in self._slices[node].values()]
