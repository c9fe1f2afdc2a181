"""Huawei Ascend NPUs: found by PCI and DCMI, given to containers by device nodes and the driver's files.

Flow: *discover* takes the accelerators of Huawei's PCI ID and what DCMI says about each; *edits* asks DCMI
again for the chip's number of today, finds its nodes, and gives the driver's libraries that every CANN
program needs; *health* is DCMI's.

Source: DCMI (`driver.vendors.dcmi`); nodes and files that Huawei's Ascend Docker Runtime mounts (its
`base.list`, and the table of its environment variables: `ASCEND_VISIBLE_DEVICES=void` keeps the runtime out);
template sizes from HAMi's configuration.

Limits:
* vNPUs, made by templates, are partitions (`ascend_vnpu`); without npu-smi nothing is known of them.
* The two chips of a 910C module are two cards; that HAMi hands them out in pairs is not imitated.
* Whoever names cards by DCMI needs it: without libdcmi.so the cards are reported and not offered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.errors import DeviceGoneError
from driver.host import Host
from driver.partitions.base import IN_PARTITION_MODE, Instance, PartitionTarget
from driver.places import card_of
from driver.vendors.ascend_vnpu import AscendVnpus, VnpusNotUnderstoodError
from driver.vendors.base import UNREADABLE, CardHealth, Discovery
from driver.vendors.dcmi import Dcmi, DcmiChip, load_dcmi
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames, LegacyTemplate
from driver.vendors.pci import PROCESSING_ACCELERATOR, PciFunction
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone, missing
from driver.vendors.reading import UnreadableError, clean, report_lines

_FAMILIES = {
    0xD100: "Ascend310",
    0xD500: "Ascend310P",
    0xD801: "Ascend910",
    0xD802: "Ascend910B",
    0xD803: "Ascend910C",
}
_INSTALLED = "/usr/local/Ascend/driver"
_MANAGER = "/dev/davinci_manager"
_MANAGER_FOR_CONTAINERS = "/dev/davinci_manager_docker"
_FILES = (
    f"{_INSTALLED}/lib64",
    f"{_INSTALLED}/include",
    f"{_INSTALLED}/topo",
    f"{_INSTALLED}/version.info",
    "/etc/ascend_install.info",
    "/etc/hccl_rootinfo.json",
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
)
_ALARMS = {
    0: "",
    1: "DCMI reports a minor alarm.",
    2: "DCMI reports a major alarm.",
    3: "DCMI reports a fault.",
}
_MAJOR = 2
_CHIP_NODE = re.compile(r"/dev/davinci[0-9]+")
_HAMI = "HAMi 2.10, hami-scheduler-device"


def _spellings(*names: str) -> Iterator[str]:
    """What people write for the model: the name of the resource, the chip's as npu-smi and HAMi have it."""
    for one in names:
        bare = one.removeprefix("Ascend").strip()
        yield from (f"Ascend{bare}", f"Ascend {bare}", bare)


def _legacy(
    word: str,
    *,
    models: tuple[str, ...],
    memory_most_mib: int,
    memory_whole_mib: int = 0,
    cores_of: int,
    templates: Sequence[tuple[str, int, int]],
    group: int = 1,
) -> LegacyNames:
    return LegacyNames(
        count=f"huawei.com/{word}",
        memory=f"huawei.com/{word}-memory",
        cores=f"huawei.com/{word}-core",
        models=tuple(dict.fromkeys((*models, *_spellings(word, *(one for one in models if " " in one))))),
        memory_most_mib=memory_most_mib,
        memory_whole_mib=memory_whole_mib,
        group=group,
        type_name=word,
        templates=tuple(
            LegacyTemplate(name=name, memory_mib=memory, cores=cores, cores_of=cores_of)
            for name, memory, cores in templates
        ),
        annotations=(
            ("useUUID", f"hami.io/use-{word}-uuid"),
            ("avoidUUID", f"hami.io/no-use-{word}-uuid"),
            ("useType", "hami.io/use-nputype"),
            ("mode", "huawei.com/vnpu-mode"),
        ),
        source=_HAMI,
    )


FACTS = VendorFacts(
    name="ascend",
    title="Huawei Ascend",
    pci_vendors=frozenset({0x19E5}),
    identity=Identity.UUID,
    # Its partitions, vNPUs, by hardware.
    isolation=(IsolationLevel.HARDWARE, IsolationLevel.NONE),
    brought=(IsolationLevel.PRELOAD,),
    sources=(
        "Huawei mind-cluster: dcmi_interface_api.h, and what its exporter and device plugin make of it.",
        "Huawei Ascend Docker Runtime: base.list, devices, ASCEND_VISIBLE_DEVICES=void.",
        "HAMi's hami-scheduler-device: chips, memory, AI cores, templates.",
        "HAMi-vnpu-core: the contract of its preload library.",
        "Huawei's npu-smi reference and Docker guide, for vNPUs.",
    ),
    guessed=(
        "That npu-smi lists vNPUs in a table of five columns, number first and template last.",
        "That a 310P has 7 AI CPUs, and its templates one for each AI core.",
        "That the health codes 1 to 3 mean a minor, major and critical alarm is what others cite of Huawei.",
        "That all functions of Huawei's with class 12 and a device ID 0xdNNN are NPUs.",
    ),
    attributes=(("aiCores", "int", 20, "AI cores of the chip."),),
    offered_as=("huawei.com/Ascend", "huawei.com/ascend", "huawei.com/npu"),
    legacy=(
        _legacy(
            "Ascend910A",
            models=("Ascend 910A",),
            memory_most_mib=32768,
            cores_of=30,
            templates=(("vir02", 2184, 2), ("vir04", 4369, 4), ("vir08", 8738, 8), ("vir16", 17476, 16)),
        ),
        _legacy(
            "Ascend910B2",
            models=("Ascend 910B2",),
            memory_most_mib=65536,
            cores_of=24,
            templates=(("vir03_1c_8g", 8192, 3), ("vir06_1c_16g", 16384, 6), ("vir12_3c_32g", 32768, 12)),
        ),
        _legacy(
            "Ascend910B3",
            models=("Ascend 910B3",),
            memory_most_mib=65536,
            cores_of=20,
            templates=(("vir05_1c_16g", 16384, 5), ("vir10_3c_32g", 32768, 10)),
        ),
        _legacy(
            "Ascend910B4",
            models=("Ascend 910B4",),
            memory_most_mib=32768,
            cores_of=20,
            templates=(("vir05_1c_8g", 8192, 5), ("vir10_3c_16g", 16384, 10)),
        ),
        _legacy(
            "Ascend910B4-1",
            models=("Ascend 910B4-1",),
            memory_most_mib=65536,
            cores_of=20,
            templates=(("vir05_1c_16g", 16384, 5), ("vir10_3c_32g", 32768, 10)),
        ),
        _legacy(
            "Ascend310P",
            models=("Ascend 310P3",),
            memory_most_mib=24576,
            memory_whole_mib=21527,
            cores_of=8,
            templates=(("vir01", 3072, 1), ("vir02", 6144, 2), ("vir04", 12288, 4)),
        ),
        _legacy(
            "Ascend910C",
            models=("Ascend910",),
            memory_most_mib=65536,
            group=2,
            cores_of=20,
            templates=(("vir05_1c_16g", 16384, 5), ("vir10_3c_32g", 32768, 10)),
        ),
    ),
)


class Ascend(PciVendor):
    """Huawei Ascend; implements `driver.vendors.base.Vendor`.

    Args:
        dcmi: DCMI; by default the driver's own library, looked for on the host when a verb is first called.
    """

    facts = FACTS

    def __init__(self, *, dcmi: Dcmi | None = None) -> None:
        super().__init__()
        self._dcmi = dcmi
        self._vnpus = AscendVnpus(lambda uuid, host: self._asked(host).chip(uuid), models=FACTS.legacy)
        self._parts: dict[str, tuple[Card, ...]] = {}

    @property
    def instances_outlive_boot(self) -> bool:
        """See `driver.partitions.Partitioner`."""
        return self._vnpus.instances_outlive_boot

    @property
    def numbers_used_again(self) -> bool:
        """See `Partitioner`."""
        return self._vnpus.numbers_used_again

    def discover(self, host: Host) -> Discovery:
        """All chips, and the vNPUs that they have or could have."""
        found = super().discover(host)
        cards: list[Card] = []
        problems = list(found.problems)
        for card in found.cards:
            try:
                self._parts[card.uuid] = self._vnpus.cards(card, host=host)
            except VnpusNotUnderstoodError as cut:
                cards += [_withheld(one, cut) for one in self._parts.get(card.uuid, (card,))]
                problems.append(f"Card {card.name}: {cut}")
                continue
            except (UnreadableError, DeviceGoneError):
                # Without npu-smi nobody cuts chips either; one bad answer takes no device away.
                self._parts.setdefault(card.uuid, (card,))
            cards += self._parts[card.uuid]
        return replace(found, cards=tuple(cards), problems=tuple(problems))

    def edits(self, card: Card, *, host: Host) -> ContainerEdits:
        """As for every vendor; a vNPU's container gets no node of the chip."""
        if card.partition is None:
            return super().edits(card, host=host)
        edits = super().edits(_chip_of(card), host=host)
        nodes = (node for node in edits.device_nodes if not _CHIP_NODE.fullmatch(node.path))
        return replace(edits, device_nodes=tuple(nodes))

    def health(self, cards: Sequence[Card], *, host: Host) -> tuple[CardHealth, ...]:
        """How each chip is; what is wrong with a chip is wrong with its vNPUs."""
        chips = {_chip_of(card).name: _chip_of(card) for card in cards}
        told = {one.name: one for one in super().health(tuple(chips.values()), host=host)}
        return tuple(replace(told[_chip_of(card).name], name=card.name) for card in cards)

    def find_instance(self, target: PartitionTarget, *, host: Host) -> Instance | None:
        """See `driver.partitions.Partitioner`."""
        return self._vnpus.find_instance(target, host=host)

    def make_instance(self, target: PartitionTarget, *, host: Host) -> Instance:
        """See `driver.partitions.Partitioner`."""
        return self._vnpus.make_instance(target, host=host)

    def remove_instance(self, instance: Instance, *, host: Host) -> None:
        """See `driver.partitions.Partitioner`."""
        self._vnpus.remove_instance(instance, host=host)

    def instance_edits(self, instance: Instance, *, host: Host) -> ContainerEdits:
        """See `driver.partitions.Partitioner`."""
        return self._vnpus.instance_edits(instance, host=host)

    def make_whole(self, card_uuid: str, *, host: Host) -> None:
        """See `driver.partitions.Partitioner`."""
        self._vnpus.make_whole(card_uuid, host=host)

    def accepts(self, function: PciFunction, *, host: Host) -> bool:  # noqa: ARG002
        """Accelerators with an NPU's device ID: Huawei also makes network, storage and display functions."""
        return function.base_class == PROCESSING_ACCELERATOR and function.device >> 12 == 0xD

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:
        """What DCMI says, by PCI address."""
        version = _driver_version(host)
        cards: dict[str, Described | UnreadableError] = {}
        silent: list[UnreadableError] = []
        families = {function.address: _FAMILIES.get(function.device, "") for function in functions}
        for chip in self._asked(host).chips():
            if isinstance(chip, UnreadableError):
                silent.append(chip)
                continue
            if chip.pci_address in cards:
                cards[chip.pci_address] = UnreadableError("DCMI reports several chips at this address.")
                continue
            cards[chip.pci_address] = Described(
                model=_model(chip),
                memory_bytes=chip.memory_bytes,
                uuid=chip.die_id,
                architecture=families.get(chip.pci_address, ""),
                driver_version=version,
                attributes={"aiCores": chip.ai_cores} if chip.ai_cores else {},
            )
        return Description(cards=cards, problem=str(silent[0]) if silent else "")

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The chip's node of today, the nodes that all chips share, and the driver's files.

        Raises:
            UnreadableError: DCMI does not answer.
            DeviceGoneError: DCMI has no such chip (any more).
        """
        chip = self._asked(host).chip(card.uuid)
        if chip is None:
            raise gone(card, "DCMI does not list it any more.")
        if chip.pci_address != function.address:
            raise gone(card)
        manager = _MANAGER_FOR_CONTAINERS if host.exists(_MANAGER_FOR_CONTAINERS) else _MANAGER
        return Needs(
            nodes=(f"/dev/davinci{chip.physical_id}", _MANAGER, "/dev/hisi_hdc"),
            # A 310 and boards with a processor of their own have no shared virtual memory.
            optional_nodes=("/dev/devmm_svm", "/dev/dvpp_cmdlist"),
            renamed={_MANAGER: manager},
            mounts=_FILES,
            env={"ASCEND_VISIBLE_DEVICES": "void"},
        )

    def state(self, card: Card, function: PciFunction, *, host: Host) -> CardHealth:  # noqa: ARG002
        """What DCMI says."""
        chip = self._asked(host).chip(card.uuid)
        if chip is None:
            return missing(card, "DCMI does not list the chip.")
        code = self._asked(host).health(chip)
        if code not in _ALARMS:
            return CardHealth(
                name=card.name, health="Unknown", message=f"DCMI reports {code:#x}.", reason=UNREADABLE
            )
        if code <= 1:
            return CardHealth(name=card.name, health="Healthy", message=_ALARMS[code])
        return CardHealth(
            name=card.name,
            health="Unhealthy",
            message=_ALARMS[code],
            reason="MajorAlarm" if code == _MAJOR else "ChipFault",
            certain=code > _MAJOR,
        )

    def _asked(self, host: Host) -> Dcmi:
        if self._dcmi is None:
            self._dcmi = Dcmi(partial(load_dcmi, host))
        return self._dcmi


def _withheld(card: Card, why: VnpusNotUnderstoodError) -> Card:
    # Known still, so that claims which hold it can be restored and undone.
    known = card.unpublished not in ("", IN_PARTITION_MODE)
    return card if known else replace(card, unpublished=str(why))


def _chip_of(card: Card) -> Card:
    """The chip that a device is, or is part of."""
    if card.partition is None:
        return card
    uuid = card.partition.card_uuid
    return replace(card, name=card_of(card.name), uuid=uuid, partition=None, unpublished="")


def _model(chip: DcmiChip) -> str:
    return chip.name if chip.name.lower().startswith("ascend") else f"Ascend {chip.name}".strip()


def _driver_version(host: Host) -> str:
    try:
        text = host.read_text(f"{_INSTALLED}/version.info", limit=4096)
    except OSError:
        return ""
    for line in report_lines(text):
        name, _, value = line.partition("=")
        if name.strip().lower() == "version":
            return clean(value)
    return ""
