"""The cluster's cards, as far as validation asks about them.

Flow: whoever watches AcceleratorNodes calls `put` for each node whose cards changed and `remove` for one that
is gone; ResourceSlices do as well (`put_devices`).

Limits: mutable, with one owner, in one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from driver.cards import DRIVER_NAME, Card


class KnownCards:
    """All cards of the cluster, by node."""

    def put(self, node: str, cards: Sequence[Card]) -> None:
        """Takes note of all cards of a node, also those that are not offered now."""

    def put_devices(
        self, key: str, devices: Sequence[Mapping[str, Any]], *, driver: str = DRIVER_NAME, node: str = ""
    ) -> None:
        """Takes note of the devices of a ResourceSlice.

        Args:
            key: Stands for the slice, such as its name.
            devices: Its `spec.devices`.
            driver: Its driver.
            node: Its node, "" if it names none.
        """

    def remove(self, key: str) -> None:
        """Forgets a node or slice; one that is not known is no mistake."""
