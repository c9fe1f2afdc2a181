"""Cambricon MLUs: found by PCI, described by `cnmon info`, given to containers by their numbered nodes.

Source: device nodes of Cambricon's own device plugin (`/dev/cambricon_dev<N>`, `cambricon_ctl`,
`cambricon_ipcm<N>`, ...); the keys of `cnmon info` (`Product Name`, `UUID`, `Driver`, the PCI block, physical
memory) as scripts of Cambricon and of others read them.

Limits: N is the card's number as cnmon counts today, asked anew at each prepare. sMLU instances are neither
made nor recognised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.quantities import MIB
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, normal_address
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone
from driver.vendors.reading import Program, UnreadableError, amount_of, entries

_CNMON = Program(
    names=("cnmon", "/usr/local/neuware/bin/cnmon"), library_dirs=("/usr/local/neuware/lib64", "/usr/lib64")
)
_CARD = re.compile(r"Card\s+([0-9]{1,3})")

FACTS = VendorFacts(
    name="cambricon",
    title="Cambricon",
    pci_vendors=frozenset({0xCABC}),
    identity=Identity.UUID,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "Cambricon/cambricon-k8s-device-plugin: device nodes, CAMBRICON_VISIBLE_DEVICES.",
        "Scripts that read `cnmon info`: its keys. HAMi's configuration: names, units of 256 MB.",
        "The public list of PCI IDs.",
    ),
    guessed=(
        "How `cnmon info` indents its blocks: no whole answer of it was found; keys are found at any depth.",
        "That card N of cnmon is `/dev/cambricon_dev<N>`, as Cambricon's plugin takes it.",
        "That `CAMBRICON_VISIBLE_DEVICES=void` keeps Cambricon's runtime from adding cards, as others' do.",
    ),
    offered_as=("cambricon.com/",),
    legacy=(
        LegacyNames(
            count="cambricon.com/vmlu",
            memory="cambricon.com/mlu.smlu.vmemory",
            memory_unit=256 * MIB,
            cores="cambricon.com/mlu.smlu.vcore",
            type_prefix="MLU-",
            annotations=(
                ("useUUID", "cambricon.com/use-gpuuuid"),
                ("avoidUUID", "cambricon.com/nouse-gpuuuid"),
                ("useType", "cambricon.com/use-mlutype"),
                ("avoidType", "cambricon.com/nouse-mlutype"),
            ),
            source="HAMi 2.9 and 2.10",
        ),
        LegacyNames(count="cambricon.com/mlu", whole=True, source="Cambricon's device plugin"),
    ),
)


@dataclass
class _Told:
    number: int
    model: str = ""
    uuid: str = ""
    driver: str = ""
    memory: str = ""
    domain: str = "0"
    bus: str = ""
    device: str = ""
    function: str = ""


class Cambricon(PciVendor):
    """Cambricon; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:  # noqa: ARG002
        """What cnmon says, by PCI address."""
        cards: dict[str, Described | UnreadableError] = {}
        for address, told in _asked(host).items():
            try:
                cards[address] = Described(
                    model=f"Cambricon {told.model}",
                    memory_bytes=amount_of(told.memory, what="its memory", unit="m") if told.memory else None,
                    uuid=told.uuid,
                    driver_version=told.driver,
                )
            except UnreadableError as unreadable:
                cards[address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The card's numbered nodes of today, and the one for control.

        Raises:
            UnreadableError: cnmon does not answer, or not for this card.
            DeviceGoneError: Another card is in its place.
        """
        told = _asked(host).get(function.address)
        if told is None:
            raise UnreadableError(f"cnmon does not list {function.address}.")
        if told.uuid != card.uuid:
            raise gone(card)
        number = told.number
        return Needs(
            nodes=(f"/dev/cambricon_dev{number}",),
            optional_nodes=(
                "/dev/cambricon_ctl",
                "/dev/cambricon_gdr",
                f"/dev/cambricon_ipcm{number}",
                f"/dev/cmsg_ctrl{number}",
                f"/dev/commu{number}",
                f"/dev/cambr-msgq:{number}",
                f"/dev/cambr-rpc:{number}",
            ),
            mounts=("/usr/bin/cnmon",),
            env={"CAMBRICON_VISIBLE_DEVICES": "void"},
        )


def _asked(host: Host) -> dict[str, _Told]:
    found: dict[str, _Told] = {}
    current: _Told | None = None
    ended: list[_Told] = []
    for line in entries(_CNMON.ask("info", host=host)):
        number = next((match[1] for match in map(_CARD.fullmatch, (*line.path, line.key)) if match), "")
        if number and (current is None or current.number != int(number)):
            current = _Told(number=int(number))
            ended.append(current)
        if current is not None:
            _take(current, path=line.path, key=line.key, value=line.value)
    for told in ended:
        try:
            address = f"{_hex(told.domain)}:{_hex(told.bus)}:{_hex(told.device)}.{_hex(told.function)}"
            found[normal_address(address)] = told
        except (InvalidInputError, ValueError):
            continue
    return found


def _take(told: _Told, *, path: tuple[str, ...], key: str, value: str) -> None:
    block = path[-1] if path else ""
    simple = {
        "Product Name": "model",
        "UUID": "uuid",
        "Driver": "driver",
        "Domain ID": "domain",
        "Bus num": "bus",
    }
    in_pci = {"Device": "device", "Function": "function"}
    if key in simple and not getattr(told, simple[key]).strip("0"):
        setattr(told, simple[key], value.split(maxsplit=1)[0] if key != "Product Name" else value)
    elif "PCI" in block and key in in_pci:
        setattr(told, in_pci[key], value)
    elif key == "Total" and block.startswith("Physical Memory"):
        told.memory = value


def _hex(text: str) -> str:
    return f"{int(text, 16):x}"
