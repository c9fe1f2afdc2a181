"""The simulated cards of the node under test: what the examples ask for, and a few tests more.

Each test picks its card by UUID, so that what another example holds does not decide what it gets.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster.support.api import JSON


@dataclass(frozen=True, kw_only=True)
class SimulatedCard:
    """One card of the file that the agent is given."""

    vendor: str
    model: str
    memory_gib: int
    uuid: str
    pci: str
    architecture: str = ""

    @property
    def device(self) -> str:
        """Its name in slices: vendor and UUID, as the docs promise; written out here, not computed by us."""
        return f"{self.vendor}-{self.uuid.lower().removeprefix('gpu-')}"

    @property
    def memory_mib(self) -> int:
        """Memory in MiB."""
        return self.memory_gib * 1024

    def entry(self) -> JSON:
        """The card in the agent's file."""
        return {
            "vendor": self.vendor,
            "model": self.model,
            "memory": f"{self.memory_gib}Gi",
            "uuid": self.uuid,
            "pciBusID": self.pci,
            "architecture": self.architecture,
            "driverVersion": "575.51.03",
        }


NVIDIA_24 = SimulatedCard(
    vendor="nvidia",
    model="NVIDIA A30",
    memory_gib=24,
    uuid="GPU-a3000000-0000-4000-8000-000000000024",
    pci="0000:3b:00.0",
    architecture="Ampere",
)
NVIDIA_40 = SimulatedCard(
    vendor="nvidia",
    model="NVIDIA A100-PCIE-40GB",
    memory_gib=40,
    uuid="GPU-a1000000-0000-4000-8000-000000000040",
    pci="0000:86:00.0",
    architecture="Ampere",
)
ASCEND = SimulatedCard(
    vendor="ascend",
    model="Ascend910B4",
    memory_gib=32,
    uuid="910b4000-0000-4000-8000-000000000032",
    pci="0000:c1:00.0",
    architecture="910B",
)
AMD = SimulatedCard(
    vendor="amd",
    model="AMD Instinct MI210",
    memory_gib=64,
    uuid="a1d21000-0000-4000-8000-000000000064",
    pci="0000:e3:00.0",
    architecture="gfx90a",
)
ALL = (NVIDIA_24, NVIDIA_40, ASCEND, AMD)


def on(card: SimulatedCard) -> str:
    """The CEL selector that picks a card."""
    return f'device.attributes["dragoman.dev"].uuid == "{card.uuid}"'


def entries() -> list[JSON]:
    """All cards, for the chart's value `simulated.cards`."""
    return [card.entry() for card in ALL]
