"""How an agent gets the vendors of its node, without loading what the node has no hardware of.

Flow: `NodeVendors` is asked at each look; it reads the PCI bus once and makes those vendors whose sign is
there. Everything else goes through the `Vendor` verbs. A vendor is added by one file in this folder, one line
here and one fixture; what documents need of all of them is in `driver.vendors.catalogue`.

Limits: NVIDIA is asked on every node, because NVML may know cards that the PCI bus does not show. A vendor's
module stays loaded when its last card is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from driver.host import Host
from driver.vendors.base import Vendor
from driver.vendors.pci import pci_vendors_present
from driver.vendors.reading import listing


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a vendor's code is, and the sign that a node has its hardware.

    Attributes:
        module: Name of its file in this folder.
        maker: Name of its class.
        pci_vendors: PCI vendor IDs, as in its facts.
        folder: A folder of sysfs that its driver makes, where no source tells its PCI vendor ID.
    """

    module: str
    maker: str
    pci_vendors: frozenset[int] = frozenset()
    folder: str = ""


ENTRIES: tuple[Entry, ...] = (
    Entry(module="amd", maker="Amd", pci_vendors=frozenset({0x1002})),
    Entry(module="ascend", maker="Ascend", pci_vendors=frozenset({0x19E5})),
    Entry(module="biren", maker="Biren", folder="/sys/class/biren"),
    Entry(module="cambricon", maker="Cambricon", pci_vendors=frozenset({0xCABC})),
    Entry(module="enflame", maker="Enflame", pci_vendors=frozenset({0x1E36})),
    Entry(module="hygon", maker="Hygon", pci_vendors=frozenset({0x1D94})),
    Entry(module="iluvatar", maker="Iluvatar", pci_vendors=frozenset({0x1E3E})),
    Entry(module="intel", maker="Intel", pci_vendors=frozenset({0x8086})),
    Entry(module="kunlunxin", maker="Kunlunxin", pci_vendors=frozenset({0x1D22, 0x2057})),
    Entry(module="metax", maker="Metax", pci_vendors=frozenset({0x9999})),
    Entry(module="mthreads", maker="MooreThreads", pci_vendors=frozenset({0x1ED5})),
    Entry(module="neuron", maker="Neuron", pci_vendors=frozenset({0x1D0F})),
    Entry(module="vastai", maker="Vastai", pci_vendors=frozenset({0x1EC6})),
)
"""All vendors but NVIDIA, by name."""


class NodeVendors:
    """The vendors to ask on a node, in one order for ever; each is made once.

    Args:
        driver_root: Root of NVIDIA's driver installation, as a path of the node.
        host: The node.
    """

    def __init__(self, *, driver_root: str, host: Host) -> None:
        self._driver_root = driver_root
        self._host = host
        self._made: dict[str, Vendor] = {}

    def __call__(self) -> tuple[Vendor, ...]:
        """Those that the node may have hardware of now; never raises."""
        on_bus = pci_vendors_present(self._host)
        return (self._nvidia(), *(self._of(entry) for entry in ENTRIES if self._shows(entry, on_bus)))

    def _shows(self, entry: Entry, on_bus: frozenset[int]) -> bool:
        if entry.folder:
            return bool(listing(entry.folder, host=self._host))
        return not entry.pci_vendors.isdisjoint(on_bus)

    def _nvidia(self) -> Vendor:
        if "nvidia" not in self._made:
            # Simulated nodes do not load it.
            from driver.vendors.nvidia import Nvidia  # noqa: PLC0415

            self._made["nvidia"] = Nvidia(driver_root=self._driver_root)
        return self._made["nvidia"]

    def _of(self, entry: Entry) -> Vendor:
        if entry.module not in self._made:
            self._made[entry.module] = make_vendor(entry)
        return self._made[entry.module]


def make_vendor(entry: Entry) -> Vendor:
    """Loads a vendor's file and makes its vendor."""
    made: Vendor = getattr(import_module(f"driver.vendors.{entry.module}"), entry.maker)()
    return made
