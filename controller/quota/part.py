"""Quotas, wired: what the controller starts for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from controller.queue import WorkQueue
from controller.quota.quotas import Quotas
from controller.quota.store import MemoryStore
from driver.kube.client import KubeClient
from driver.kube.informer import Informer
from driver.quota.stock import Stock


class Quoting:
    """Quotas of one replica.

    Attributes:
        informers: To be run in every replica, and synced before admission answers.
        quotas: What the webhook asks.
        queue: Quotas that the leader looks at; its workers call `settle`.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        inventories: Informer[Any],
        inventory_status: Callable[[Any], bytes],
        carried: bool,
        registry: CollectorRegistry,
    ) -> None:
        """Makes all parts; starts nothing.

        Args:
            client: The API server.
            inventories: AcceleratorNodes.
            inventory_status: Gives the status, as JSON text, of what `inventories` keeps.
            carried: Whether amounts that stand in a ShareConfig count (mode controller).
            registry: Where the metrics go.
        """
        del client, inventories, inventory_status, registry
        self.informers: tuple[Informer[Any], ...] = ()
        self.queue = WorkQueue(name="quotas")
        self.quotas = Quotas(MemoryStore(), stock=Stock(), carried=carried)

    def begin(self) -> list[str]:
        """All quotas, for whoever begins to lead."""
        return []

    async def settle(self, key: str) -> float | None:
        """Counts what a quota's namespace has stored, and takes away reservations that are over."""
        del key
        return None
