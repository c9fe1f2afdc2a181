"""The vendors that this version knows, and how an agent gets them.

Flow: the agent asks `real_vendors` once, and `present_vendors` at each look; everything else goes through the
`Vendor` verbs. A vendor is added by one file in this folder, its two entries here and one fixture.

Limits: NVIDIA is asked on every node, because NVML may know cards that the PCI bus does not show.
"""

from __future__ import annotations

from collections.abc import Sequence

from driver.host import Host
from driver.vendors import (
    amd,
    ascend,
    biren,
    cambricon,
    enflame,
    hygon,
    iluvatar,
    intel,
    kunlunxin,
    metax,
    mthreads,
    neuron,
    nvidia_facts,
    vastai,
)
from driver.vendors.base import Vendor
from driver.vendors.facts import VendorFacts
from driver.vendors.pci import pci_vendors_present
from driver.vendors.pci_vendor import PciVendor

__all__ = ["VENDORS", "VendorFacts", "present_vendors", "real_vendors"]

_PCI_VENDORS: tuple[type[PciVendor], ...] = (
    amd.Amd,
    ascend.Ascend,
    biren.Biren,
    cambricon.Cambricon,
    enflame.Enflame,
    hygon.Hygon,
    iluvatar.Iluvatar,
    intel.Intel,
    kunlunxin.Kunlunxin,
    metax.Metax,
    mthreads.MooreThreads,
    neuron.Neuron,
    vastai.Vastai,
)

VENDORS: tuple[VendorFacts, ...] = (nvidia_facts.FACTS, *(vendor.facts for vendor in _PCI_VENDORS))
"""Vendors whose hardware is supported: NVIDIA, then by name."""


def real_vendors(*, driver_root: str) -> tuple[Vendor, ...]:
    """All vendors of real hardware, in the order of `VENDORS`.

    Args:
        driver_root: Root of NVIDIA's driver installation, as a path of the node.
    """
    # Simulated nodes, and processes that need the facts above only, do not load it.
    from driver.vendors.nvidia import Nvidia  # noqa: PLC0415

    return (Nvidia(driver_root=driver_root), *(vendor() for vendor in _PCI_VENDORS))


def present_vendors(vendors: Sequence[Vendor], *, host: Host) -> tuple[Vendor, ...]:
    """Those whose hardware this node may have now: the others need not be asked.

    Args:
        vendors: What `real_vendors` gave.
        host: The node; its PCI bus is read once.
    """
    on_bus = pci_vendors_present(host)
    return tuple(
        vendor for vendor in vendors if not isinstance(vendor, PciVendor) or vendor.present(on_bus, host=host)
    )
