"""The vendors that this version knows, and how an agent gets them.

Flow: the agent asks once at start; everything else goes through the `Vendor` verbs. A vendor is added by one
file in this folder, one entry here and one fixture.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.cards import DRIVER_NAME, IsolationLevel
from driver.vendors.base import Vendor


@dataclass(frozen=True, kw_only=True)
class VendorFacts:
    """What documents and DeviceClasses are generated from.

    Attributes:
        name: Short name; the attribute `vendor` of its cards.
        title: Name as people write it.
        isolation: Levels at which a share of its cards can be held.
    """

    name: str
    title: str
    isolation: tuple[IsolationLevel, ...]

    @property
    def device_class(self) -> str:
        """Name of its DeviceClass."""
        return f"{self.name}.{DRIVER_NAME}"


VENDORS: tuple[VendorFacts, ...] = (
    VendorFacts(name="nvidia", title="NVIDIA", isolation=(IsolationLevel.PRELOAD, IsolationLevel.NONE)),
)
"""Vendors whose hardware is supported, by name."""


def real_vendors(*, driver_root: str) -> tuple[Vendor, ...]:
    """All vendors of real hardware.

    Args:
        driver_root: Root of the vendor's driver installation, as a path of the node.
    """
    # Simulated nodes, and processes that need the facts above only, do not load it.
    from driver.vendors.nvidia import Nvidia  # noqa: PLC0415

    return (Nvidia(driver_root=driver_root),)
