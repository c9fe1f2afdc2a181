"""What is known of NVIDIA beside its code, in a file of its own: whoever needs it does not load NVML.

Source of the names: HAMi's device plugin, scheduler and webhook; Volcano's vgpu device plugin; NVIDIA's own.
"""

from __future__ import annotations

from driver.cards import IsolationLevel
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames

_ANNOTATIONS = (
    ("useUUID", "nvidia.com/use-gpuuuid"),
    ("avoidUUID", "nvidia.com/nouse-gpuuuid"),
    ("useType", "nvidia.com/use-gputype"),
    ("avoidType", "nvidia.com/nouse-gputype"),
    ("mode", "nvidia.com/vgpu-mode"),
    ("numaBind", "nvidia.com/numa-bind"),
)

_MODES = ("hami-core", "mps", "mig")

FACTS = VendorFacts(
    name="nvidia",
    title="NVIDIA",
    pci_vendors=frozenset({0x10DE}),
    identity=Identity.UUID,
    # Its partitions, MIG instances, by hardware; shares of a card by the others.
    isolation=(IsolationLevel.HARDWARE, IsolationLevel.PRELOAD, IsolationLevel.NONE),
    offered_by_node=(IsolationLevel.KERNEL, IsolationLevel.SERVICE),
    sources=(
        "NVML's documentation and nvidia-ml-py; the driver's file lists; the Container Toolkit's CDI specs.",
        "HAMi-core: the contract of its preload library.",
        "NVIDIA's MIG user guide, for profiles and placements.",
    ),
    # MIG instances, and NVIDIA's own shares under a name of theirs.
    plugin_prefixes=("nvidia.com/mig-", "nvidia.com/gpu.shared"),
    # Not all of the domain: other devices of NVIDIA's (network, passed-through cards) are offered under it.
    offered_as=("nvidia.com/gpu", "volcano.sh/vgpu"),
    legacy=(
        LegacyNames(
            count="nvidia.com/gpu",
            memory="nvidia.com/gpumem",
            memory_percent="nvidia.com/gpumem-percentage",
            cores="nvidia.com/gpucores",
            priority="nvidia.com/priority",
            defaults=True,
            type_prefix="NVIDIA-",
            modes=_MODES,
            annotations=_ANNOTATIONS,
            source="HAMi 2.9 and 2.10; without amounts also NVIDIA's device plugin",
        ),
        LegacyNames(
            count="volcano.sh/vgpu-number",
            memory="volcano.sh/vgpu-memory",
            memory_percent="volcano.sh/vgpu-memory-percentage",
            cores="volcano.sh/vgpu-cores",
            type_prefix="NVIDIA-",
            modes=_MODES,
            annotations=(
                ("useUUID", "volcano.sh/vgpu-use-gpuuuid"),
                ("avoidUUID", "volcano.sh/vgpu-nouse-gpuuuid"),
                ("useType", "nvidia.com/use-gputype"),
                ("avoidType", "nvidia.com/nouse-gputype"),
                ("mode", "volcano.sh/vgpu-mode"),
            ),
            source="Volcano's vgpu device plugin",
        ),
    ),
)
