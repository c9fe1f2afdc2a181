"""Simulated cards that fall ill and recover, by a file on the node, and what slices and claims say of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.cluster.support import cards
from tests.cluster.support.api import JSON
from tests.cluster.support.cards import SimulatedCard
from tests.cluster.support.installation import Installation

CARD = cards.NVIDIA_24
TAINT = "dragoman.dev/unhealthy"
LOST = b"Unhealthy CardLost! It fell off the bus.\n"


def device_of(slices: list[JSON], card: SimulatedCard = CARD) -> JSON | None:
    """What is published of a card; None where it is not."""
    found = [one for each in slices for one in each["spec"].get("devices") or []]
    return next((one for one in found if one["name"] == card.device), None)


def taint_of(slices: list[JSON], card: SimulatedCard = CARD) -> JSON | None:
    """The taint of a card, by which it is kept from new claims; None without one."""
    device = device_of(slices, card)
    taints = (device or {}).get("taints") or []
    return next((dict(one) for one in taints if one["key"] == TAINT), None)


def fall_ill(
    installed: Installation,
    done: Callable[[list[JSON]], object],
    *,
    what: str,
    card: SimulatedCard = CARD,
) -> float:
    """Makes the card sick; seconds until the slices say so."""
    began = time.monotonic()
    installed.target.node.write_file(installed.health_file(card.uuid), LOST)
    installed.wait_slices(done, what=what)
    return time.monotonic() - began


def recover(
    installed: Installation,
    done: Callable[[list[JSON]], object],
    *,
    what: str,
    card: SimulatedCard = CARD,
) -> float:
    """Makes the card well; seconds until the slices say so."""
    began = time.monotonic()
    installed.target.node.remove_files(installed.health_file(card.uuid))
    installed.wait_slices(done, what=what)
    return time.monotonic() - began


def healthy_of(claim: JSON) -> JSON | None:
    """The condition by which a claim is told of its card."""
    for entry in claim["status"].get("devices") or []:
        for condition in entry.get("conditions") or []:
            if condition["type"] == "Healthy":
                return dict(condition)
    return None
