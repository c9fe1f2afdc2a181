"""The cards that may be given out, as the allocator reads them.

Purpose: slices as kube-scheduler would see them if it could give out shares. The slices in the API server are
fenced, and servers before 1.36 drop from them what makes shares; so they are made from the inventories here.

Flow: `refresh` looks at one node; `slices` are all of them, `version` grows with each change.

Limits: an inventory that cannot be read leaves its node as it was, as for publishing.
"""

from __future__ import annotations

import json

from controller.allocating.sources import Sources
from driver.api.node import cards_of, decode_status
from driver.errors import DragomanError
from driver.kube.client import JSON
from driver.slices import publication_of, with_generation


class Cards:
    """Slices by node."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._read: dict[str, bytes] = {}
        self._slices: dict[str, tuple[JSON, ...]] = {}
        self.version = 0

    def refresh(self, node: str) -> bool:
        """Looks at a node again; whether its slices changed."""
        inventory = self._sources.inventories.get(node)
        status = inventory.status if inventory is not None and self._sources.nodes.get(node) else b""
        if status == self._read.get(node, b""):
            return False
        if not status:
            self._read.pop(node, None)
            changed = self._slices.pop(node, None) is not None
        else:
            try:
                cards = cards_of(decode_status(json.loads(status)))
            except DragomanError:
                return False
            self._read[node] = status
            made = tuple(with_generation(one, 1) for one in publication_of(cards, node=node).slices)
            changed = made != self._slices.get(node, ())
            self._slices[node] = made
        self.version += changed
        return changed

    def slices(self) -> list[JSON]:
        """All slices, in the order of their nodes."""
        return [one for node in sorted(self._slices) for one in self._slices[node]]
