"""The cluster's cards and classes, as far as charging asks about them: which card could a request get?

Flow: whoever watches AcceleratorNodes calls `put` for each node whose cards changed and `remove` for one that
is gone, and `put_class` and `remove_class` for DeviceClasses; `kinds` answers.

Limits: mutable, with one owner, in one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.cards import DRIVER_NAME, Card


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKind:
    """What charging tells cards apart by."""

    vendor: str
    model: str
    memory_mib: int
    shareable: bool


class Stock:
    """All cards of the cluster, and all classes.

    Attributes:
        version: Grows whenever an answer may be another one than before.
    """

    def __init__(self) -> None:
        self.version = 0

    def put(self, node: str, cards: Sequence[Card]) -> None:
        """Takes note of all cards of a node, also those that are not offered now."""

    def put_devices(
        self, key: str, devices: Sequence[Mapping[str, Any]], *, driver: str = DRIVER_NAME, node: str = ""
    ) -> None:
        """Takes note of the devices of a ResourceSlice, for whoever has slices and no inventories."""

    def remove(self, key: str) -> None:
        """Forgets a node or slice; one that is not known is no mistake."""

    def put_class(self, document: Mapping[str, Any]) -> None:
        """Takes note of a DeviceClass."""

    def remove_class(self, name: str) -> None:
        """Forgets a DeviceClass."""
