"""What an administrator decides about conversion; the defaults are those of HAMi's chart.

Limits: names are those of `driver.vendors`, as HAMi's chart has them by default; `renamed` says what a
cluster calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from driver.api.share_config import CorePolicy


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
        memory_factors: Units of a resource of memory that one of its own is, by its name (`memoryFactor`,
            Volcano's `gpuMemoryFactor`); 1 where nothing is said.
        core_policy: Whether caps on compute of NVIDIA shares hold, where the container does not say it
            (`gpuCorePolicy`; its `default` is `force` here).
        renamed: What this cluster calls a resource, by the name that it has by default
            (`resourceCountName` and its kin).
        left_alone: Default names of counting resources that are not converted, with all that belong to them:
            their device plugin serves them.
        schedulers: Schedulers that pods name and that may not be there -> whom the pod is given to; "" leaves
            it and says so.
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
