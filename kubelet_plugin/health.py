"""The health of the cards, told to the kubelet.

Flow: the inventory puts the cards' health on the `HealthBoard` after each look; every open stream gets the
whole list at once, again when it changes, and again before the kubelet would hold it for stale.

Limits: a card that leaves the inventory drops out of the list, which the kubelet shows as Unknown after its
time-out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from driver.vendors.base import CardHealth
from kubelet_plugin.api import (
    health_v1_pb2,
    health_v1_pb2_grpc,
    health_v1alpha1_pb2,
    health_v1alpha1_pb2_grpc,
)

HEARTBEAT_S = 10.0
"""A third of the kubelet's time-out of 30 s: two heartbeats may be lost."""

TIMEOUT_S = 30
"""After how many seconds without news the kubelet shows a card's health as Unknown."""

_CODES = {"Unknown": 0, "Healthy": 1, "Unhealthy": 2}


class HealthBoard:
    """The cards' latest health, and who waits for news of it."""

    def __init__(self, *, pool: str, clock: Callable[[], float] = time.time) -> None:
        self._pool = pool
        self._clock = clock
        self._cards: tuple[CardHealth, ...] = ()
        self._seen_at = 0.0
        self._changed = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Ends all streams: a server that stops would wait for them, and they have no end of their own."""
        self._closed = True
        self._changed.set()

    def post(self, cards: Sequence[CardHealth]) -> None:
        """Puts up the health of all cards; streams hear at once if it differs."""
        self._seen_at = self._clock()
        if tuple(cards) != self._cards:
            self._cards = tuple(cards)
            self._changed.set()
            self._changed = asyncio.Event()

    async def messages(self, *, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[list[dict[str, Any]]]:
        """The fields of each `DeviceHealth` of a message; a message at once, on change and as heartbeat."""
        while not self._closed:
            changed = self._changed
            yield [
                {
                    "device": {"pool_name": self._pool, "device_name": card.name},
                    "health": _CODES.get(card.health, 0),
                    "last_updated_time": int(self._seen_at),
                    "health_check_timeout_seconds": TIMEOUT_S,
                    "message": card.message,
                }
                for card in self._cards
            ]
            try:
                await asyncio.wait_for(changed.wait(), heartbeat_s)
            except TimeoutError:
                continue


class HealthV1(health_v1_pb2_grpc.DRAResourceHealthServicer):
    """The health service as Kubernetes 1.37 calls it."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board

    async def NodeWatchResources(  # noqa: N802 - the contract's name
        self,
        request: health_v1_pb2.NodeWatchResourcesRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002 - the contract's signature
    ) -> AsyncIterator[health_v1_pb2.NodeWatchResourcesResponse]:
        """Streams the health of all cards until the kubelet goes."""
        async for devices in self._board.messages():
            yield health_v1_pb2.NodeWatchResourcesResponse(
                devices=[health_v1_pb2.DeviceHealth(**fields) for fields in devices]
            )


class HealthV1Alpha1(health_v1alpha1_pb2_grpc.DRAResourceHealthServicer):
    """The same service as Kubernetes 1.34 to 1.36 call it."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board

    async def NodeWatchResources(  # noqa: N802 - the contract's name
        self,
        request: health_v1alpha1_pb2.NodeWatchResourcesRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002 - the contract's signature
    ) -> AsyncIterator[health_v1alpha1_pb2.NodeWatchResourcesResponse]:
        """Streams the health of all cards until the kubelet goes."""
        async for devices in self._board.messages():
            yield health_v1alpha1_pb2.NodeWatchResourcesResponse(
                devices=[health_v1alpha1_pb2.DeviceHealth(**fields) for fields in devices]
            )


def add_health_services(server: grpc.aio.Server, board: HealthBoard) -> None:
    """Serves the health of the cards in both versions."""
    health_v1_pb2_grpc.add_DRAResourceHealthServicer_to_server(HealthV1(board), server)
    health_v1alpha1_pb2_grpc.add_DRAResourceHealthServicer_to_server(HealthV1Alpha1(board), server)
