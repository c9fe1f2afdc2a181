"""A vendor on its fixture, and how far a run on it tries each feature.

Flow: `shown` does what a feature is about and looks at what came of it: cards, edits, health, what a preload
library or the kernel's hook is told of a share's limits, who is asked for a partition.

Limits: that a limit was told is not that it holds; that partitions are made and removed has tests of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from driver.cards import Card, IsolationLevel
from driver.host import CommandResult
from driver.isolation.base import Availability, ShareContext
from driver.isolation.kernel import Kernel, KernelSettings
from driver.isolation.preload import PreloadSettings
from driver.isolation.preload_amd import PreloadAmd
from driver.isolation.preload_ascend import PreloadAscend
from driver.isolation.preload_by_vendor import PreloadByVendor
from driver.isolation.preload_one_card import OneCardPreload
from driver.partitions.base import Partitioner, PartitionTarget
from driver.places import Place
from driver.shares import Share
from driver.vendors.base import Vendor
from driver.vendors.facts import VendorFacts
from tests.driver.vendors.fixture_node import FixtureNode
from tests.driver.vendors.tried import Feature, Tried
from tests.support.folder_host import FolderHost


@dataclass
class OnFixture:
    """A vendor on its fixture."""

    facts: VendorFacts
    node: FixtureNode
    host: FolderHost
    vendor: Vendor

    def cards(self) -> tuple[Card, ...]:
        found = self.vendor.discover(self.host)
        assert found.problems == ()
        return found.cards


def shown(tested: OnFixture) -> dict[Feature, Tried]:
    """How far this run tries each feature: nothing is said that was not done just now."""
    shown = dict.fromkeys(Feature, Tried.ABSENT)
    by_vendor = Tried.MOCK if tested.node.library else Tried.FIXTURE
    cards = tested.cards()
    fallback = re.compile(f"{tested.facts.title} [0-9a-f]{{4}}")
    if cards:
        shown |= dict.fromkeys((Feature.DISCOVERY, Feature.IDENTITY, Feature.MEMORY), by_vendor)
    if not any(fallback.fullmatch(card.model) for card in cards):
        shown[Feature.MODEL] = by_vendor
    if all(card.pcie_root and card.numa_node is not None for card in cards):
        # Of every vendor's cards it is the kernel that tells.
        shown[Feature.PLACE] = Tried.FIXTURE
    if all(tested.vendor.edits(card, host=tested.host).device_nodes for card in cards):
        shown[Feature.EDITS] = by_vendor
    if all(one.health != "Unknown" for one in tested.vendor.health(cards, host=tested.host)):
        shown[Feature.HEALTH] = by_vendor
    if isinstance(tested.vendor, Partitioner):
        shown[Feature.PARTITIONS] = _partitions(tested, tested.vendor)
    if _hook_for(tested, IsolationLevel.KERNEL in tested.facts.offered_by_node):
        shown[Feature.MEMORY_LIMIT] = Tried.FIXTURE
    can, told = preloaded(tested), set(_limits_told(tested).values())
    if can.memory and told & {"3072", "3072m"}:
        shown[Feature.MEMORY_LIMIT] = Tried.MOCK
    if can.cores and "37" in told:
        shown[Feature.CORES_LIMIT] = Tried.MOCK
    return shown


def preloaded(tested: OnFixture) -> Availability:
    """What a node's preload libraries hold of the vendor's cards, where all of them are there."""
    return _preload(tested).available(card=tested.cards()[0], host=tested.host)


def _preload(tested: OnFixture) -> PreloadByVendor:
    common = PreloadSettings(library="/libvgpu.so", files_dir="/files", region_dir="/regions")
    libraries = {"ascend": "/libvnpu.so", "amd": "/libamvgpu.so"}
    for path in (common.library, *libraries.values()):
        tested.host.add(path)
    tested.host.add("/proc/sys/kernel/random/boot_id", "boot-1\n")
    kin: dict[str, OneCardPreload] = {
        "ascend": PreloadAscend(replace(common, library=libraries["ascend"])),
        "amd": PreloadAmd(replace(common, library=libraries["amd"])),
    }
    return PreloadByVendor(common, kin=kin)


def _partitions(tested: OnFixture, partitioner: Partitioner) -> Tried:
    """Who is asked for a partition that is not there: the library, or files and a program."""
    card, asked = tested.cards()[0], list[str]()

    def none_there(argv: Sequence[str]) -> CommandResult:
        asked.append(argv[0])
        return CommandResult(returncode=0, stdout=_NO_VNPU, stderr="")

    tested.host.programs["npu-smi"] = none_there
    target = PartitionTarget(place=_PLACES[tested.facts.name](card.name), card_uuid=card.uuid)
    assert partitioner.find_instance(target, host=tested.host) is None
    return Tried.MOCK if tested.node.library and not asked else Tried.FIXTURE


_NO_VNPU = "| Total number of vnpu: 0 |\n"

_PLACES = {
    "nvidia": lambda card: Place(card=card, kind="mig", profile=19, start=0, size=1),
    "ascend": lambda card: Place(card=card, kind="vnpu", profile=0, start=0, size=1),
    "amd": lambda card: Place(card=card, kind="xcp", profile=1, start=0, size=4),
}
"""A partition that a card of this vendor could have."""


def _share(card: Card) -> Share:
    return Share(claim_uid="uid-1", request="gpu", device=card.name, memory_mib=3072, cores_percent=37)


def _context(card: Card, can: Availability) -> ShareContext:
    return ShareContext(
        card=card,
        index=0,
        core_policy="force",
        claim_uid="uid-1",
        holds_memory=can.memory,
        holds_cores=can.cores,
    )


def _hook_for(tested: OnFixture, driver_counts: bool) -> bool:
    """Whether the kernel's hook is told the share's limit, where the driver counts memory by cgroup."""
    card = tested.cards()[0]
    drivers = {"nvidia": "nvidia/{}/vidmem", "amd": "drm/{}/vram"}
    region = drivers.get(tested.facts.name, "drm/{}/vram0").format(card.pci_bus_id)
    tested.host.add("/cgroup/cgroup.controllers", "cpu dmem memory\n")
    tested.host.add("/cgroup/dmem.capacity", f"{region} {card.memory_bytes}\n" if driver_counts else "")
    tested.host.add("/hook")
    kernel = Kernel(KernelSettings(hook="/hook", cgroup_root="/cgroup"))
    can = kernel.available(card=card, host=tested.host)
    if not can.memory:
        return False
    (hook,) = kernel.edits(_share(card), context=_context(card, can), host=tested.host).hooks
    return {f"--region={region}", f"--bytes={3072 << 20}"} <= set(hook.args)


def _limits_told(tested: OnFixture) -> Mapping[str, str]:
    """What a preload library in the container is told, in its environment."""
    card, can = tested.cards()[0], preloaded(tested)
    if not can.memory:
        return {}
    return _preload(tested).edits(_share(card), context=_context(card, can), host=tested.host).env
