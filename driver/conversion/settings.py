"""What an administrator decides about conversion; the defaults are those of HAMi's chart.

Limits: names are those of `driver.vendors`, as HAMi's chart has them by default; `renamed` says what a
cluster calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from driver.api.share_config import CorePolicy
from driver.conversion.amounts import MAX_MEMORY_MIB
from driver.conversion.names import Catalogue
from driver.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConversionSettings:
    """How amounts of before are read.

    Attributes:
        default_memory_mib: Memory of an NVIDIA share that asks for none, in MiB; 0 for the whole card's
            (HAMi: `defaultMemory`).
        default_cores: Cap on compute of an NVIDIA share that asks for none, in percent; 0 for none
            (`defaultCores`).
        default_count: Cards of an NVIDIA container that asks for amounts alone; 0 refuses it
            (`defaultGPUNum`).
        memory_factors: Units of a resource of memory that one of its own is, by its default name
            (`memoryFactor`, Volcano's `gpuMemoryFactor`); 1 where nothing is said.
        core_policy: Whether caps on compute of NVIDIA shares hold, where the container does not say it
            (`gpuCorePolicy`; the default of its chart is `default`).
        renamed: What this cluster calls a resource, by the name that it has by default
            (`resourceCountName` and its kin).
        left_alone: Default names of counting resources that are not converted, with all that belong to them:
            their device plugin serves them.
        schedulers: Schedulers that pods name and that may not be there -> whom the pod is given to; "" leaves
            it and says so.
        named_nodes: Whether pods that name their node are given cards: in mode controller they are, while
            kube-scheduler never sees them.
    """

    default_memory_mib: int = 0
    default_cores: int = 0
    default_count: int = 1
    memory_factors: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    core_policy: CorePolicy = CorePolicy.FORCE
    renamed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    left_alone: frozenset[str] = frozenset()
    schedulers: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({"hami-scheduler": "default-scheduler", "volcano": ""})
    )
    named_nodes: bool = False

    def __post_init__(self) -> None:
        numbers = {
            "defaultMemory": (self.default_memory_mib, 0, MAX_MEMORY_MIB),
            "defaultCores": (self.default_cores, 0, 100),
            "defaultCount": (self.default_count, 0, 32),
            **{
                f"memoryFactors[{name}]": (number, 1, 1 << 20) for name, number in self.memory_factors.items()
            },
        }
        for name, (number, least, most) in numbers.items():
            if not least <= number <= most:
                raise ConfigError(f"{number} is not between {least} and {most}.", field=name)
        memory = {family.entry.memory for family in self.catalogue.families}
        for name in self.memory_factors:
            if name not in memory:
                raise ConfigError(
                    f"{name!r} is no resource of memory that is converted.",
                    field="memoryFactors",
                    remedy="Write its default name, such as nvidia.com/gpumem.",
                )

    @cached_property
    def catalogue(self) -> Catalogue:
        """The names that are converted."""
        return Catalogue.build(renamed=self.renamed, left_alone=self.left_alone)
