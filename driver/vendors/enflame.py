"""Enflame GCUs: found by PCI, described by `efsmi -q`, given to containers by `/dev/gcu<N>`.

Source: the blocks that `efsmi -q` wrote on T20 and S60 cards, as other projects recorded them (the key of the
memory changed from `Mem Size` to `Total Size`); `/dev/gcuctl` and `/dev/gcu<N>` as Enflame's and others'
instructions give them to containers.

Limits: N is the card's `DEV ID` of today, asked anew at each prepare. Named by PCI address, because not every
version of efsmi tells a UUID. DRS and shared instances are neither made nor recognised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, normal_address
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone
from driver.vendors.reading import Program, UnreadableError, amount_of, entries, report_lines

_EFSMI = Program(names=("efsmi", "/usr/bin/efsmi", "/usr/local/efsmi/efsmi"))
_CARD = re.compile(r"DEV ID\s*:?\s*([0-9]{1,4})", re.IGNORECASE)
_MEMORY_KEYS = ("total size", "mem size")
_ANNOTATIONS = (("useUUID", "enflame.com/use-gpuuuid"), ("avoidUUID", "enflame.com/nouse-gpuuuid"))

FACTS = VendorFacts(
    name="enflame",
    title="Enflame",
    pci_vendors=frozenset({0x1E36}),
    identity=Identity.PCI,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "Answers of `efsmi -q` recorded on cards by other projects; device nodes as they use them.",
        "HAMi's configuration: names; 2.9 sizes shares in percent, 2.10 in MiB.",
    ),
    guessed=(
        "That `DEV ID` N is `/dev/gcu<N>`.",
        "That `ENFLAME_VISIBLE_DEVICES=none` keeps Enflame's runtime from adding cards, as scripts use it.",
    ),
    offered_as=("enflame.com/",),
    legacy=(
        LegacyNames(
            count="enflame.com/drs-gcu",
            memory="enflame.com/gcu-memory",
            cores="enflame.com/gcu-core",
            size_of_one=True,
            annotations=_ANNOTATIONS,
            source="HAMi 2.10",
        ),
        LegacyNames(
            count="enflame.com/vgcu",
            memory_percent="enflame.com/vgcu-percentage",
            several_whole=True,
            annotations=_ANNOTATIONS,
            source="HAMi 2.9",
        ),
        LegacyNames(
            count="enflame.com/gcu",
            whole=True,
            annotations=_ANNOTATIONS,
            source="HAMi, Enflame's device plugin",
        ),
    ),
)


@dataclass
class _Told:
    number: int
    values: dict[str, str] = field(default_factory=dict)


class Enflame(PciVendor):
    """Enflame; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:  # noqa: ARG002
        """What efsmi says, by PCI address."""
        cards: dict[str, Described | UnreadableError] = {}
        for address, told in _asked(host).items():
            total = next((told.values[key] for key in _MEMORY_KEYS if key in told.values), "")
            try:
                cards[address] = Described(
                    model=f"Enflame {told.values.get('dev name', '')}".strip(),
                    memory_bytes=amount_of(total, what="its memory", unit="m") if total else None,
                    uuid=_uuid(told),
                    driver_version=told.values.get("ver", ""),
                )
            except UnreadableError as unreadable:
                cards[address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The card's numbered node of today, and the one for control.

        Raises:
            UnreadableError: efsmi does not answer, or not for this card.
            DeviceGoneError: Another card is in its place.
        """
        told = _asked(host).get(function.address)
        if told is None:
            raise UnreadableError(f"efsmi does not list {function.address}.")
        if card.uuid and _uuid(told) != card.uuid:
            raise gone(card)
        return Needs(nodes=(f"/dev/gcu{told.number}", "/dev/gcuctl"), env={"ENFLAME_VISIBLE_DEVICES": "none"})


def _uuid(told: _Told) -> str:
    return told.values.get("dev uuid", "") or told.values.get("dev sn", "")


def _asked(host: Host) -> dict[str, _Told]:
    ended: list[_Told] = []
    block: list[str] = []
    for line in report_lines(_EFSMI.ask("-q", host=host)):
        match = _CARD.fullmatch(line.strip())
        if match:
            _read(block, ended)
            ended.append(_Told(number=int(match[1])))
        elif ended:
            block.append(line)
    _read(block, ended)
    found: dict[str, _Told] = {}
    for told in ended:
        try:
            found[_address(told)] = told
        except (InvalidInputError, ValueError):
            continue
    return found


def _read(block: list[str], ended: list[_Told]) -> None:
    for entry in entries("\n".join(block)):
        # The first of a name counts: memory comes before what is used of it.
        ended[-1].values.setdefault(entry.key.lower(), entry.value)
    block.clear()


def _address(told: _Told) -> str:
    domain, bus, device, function = (
        int(told.values.get(key, ""), 16) for key in ("domain", "bus", "dev", "func")
    )
    return normal_address(f"{domain:x}:{bus:x}:{device:x}.{function:x}")
