"""What the probe program in a container printed about its limits, devices and mounts.

The probe asks the preloaded library in its own process, as a CUDA program would: a number here was seen from
inside, and the environment alone counts as nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True)
class Limit:
    """A card in the container's own view; None where nothing limits."""

    card: str
    memory_mib: int | None
    cores: int | None


@dataclass(frozen=True)
class Seen:
    """What one container saw; `raw` is the probe's document."""

    raw: dict[str, Any]

    @property
    def library(self) -> bool:
        """Whether the preload library is in the process."""
        return bool(self.raw["library"])

    @property
    def limits(self) -> list[Limit]:
        """The cards in the order of the container's view, with their limits."""
        assert not self.raw["stray"], f"limits without a card: {self.raw['stray']}"
        assert not self.raw["conflict"], "an earlier process had fixed other limits"
        found = []
        for card in self.raw["cards"]:
            memory = card["memoryBytes"]
            assert memory is None or memory % MIB == 0
            found.append(Limit(card["card"], memory and memory // MIB, card["cores"]))
        return found

    @property
    def cards(self) -> list[str]:
        """UUIDs of the cards that the container can see, in the order of its view."""
        return [limit.card for limit in self.limits]

    def memory_mib(self, index: int) -> int | None:
        """Memory limit at a position of the view."""
        return self.limits[index].memory_mib

    def cores(self, index: int) -> int | None:
        """Cap on compute at a position of the view."""
        return self.limits[index].cores

    @property
    def devices(self) -> list[str]:
        """Device nodes beside those of every container."""
        return list(self.raw["devices"])

    def mount(self, target: str) -> dict[str, str] | None:
        """The mount at a path of the container."""
        return next((one for one in self.raw["mounts"] if one["target"] == target), None)


def parse(log: str) -> Seen | None:
    """The last document that the probe wrote, None before it has."""
    for line in reversed(log.splitlines()):
        if line.startswith("{") and line.endswith("}"):
            return Seen(json.loads(line))
    return None
