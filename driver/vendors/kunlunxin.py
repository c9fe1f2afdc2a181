"""Kunlunxin XPUs: found by PCI, described by `xpu_smi -m`, given to containers by `/dev/xpu<N>`.

Source: the machine-readable lines (`-m`) that xpu_smi wrote on P800 cards, as other projects recorded them,
and the meaning of the columns as they read them; `/dev/xpu<N>` and `/dev/xpuctrl` as Baidu's instructions
give them to containers.

Limits: N is the card's number of today, asked anew at each prepare. Which cards belong together (2, 4, 8 of
one group) is not looked at. Instances of virtual XPUs are neither made nor recognised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import CO_PROCESSOR, PROCESSING_ACCELERATOR, PciFunction, normal_address
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone
from driver.vendors.reading import Program, UnreadableError, amount_of, clean, report_lines

_XPU_SMI = Program(
    names=("xpu_smi", "xpu-smi", "/usr/local/xpu/bin/xpu_smi"), library_dirs=("/usr/local/xpu/lib64",)
)
_WORD = re.compile(r'"([^"]{0,64})"|(\S{1,64})')
_NUMBER_COLUMN, _SERIAL_COLUMN, _TOTAL_COLUMN, _MODEL_COLUMN = 2, 3, 18, 21
_COLUMNS = 22

_ANNOTATIONS = (
    ("useUUID", "hami.io/use-xpu-uuid"),
    ("avoidUUID", "hami.io/no-use-xpu-uuid"),
    ("useUUID", "baidu.com/use-gpuuuid"),
    ("avoidUUID", "baidu.com/nouse-gpuuuid"),
)

FACTS = VendorFacts(
    name="kunlunxin",
    title="Kunlunxin",
    pci_vendors=frozenset({0x1D22, 0x2057}),
    identity=Identity.PCI,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "Lines of `xpu_smi -m` recorded on P800 cards by other projects; `/dev/xpu<N>`, `/dev/xpuctrl`.",
        "HAMi's configuration: names, steps of 24, 48 and 96 GiB.",
    ),
    guessed=(
        "Columns of `xpu_smi -m` are counted as other projects count them; no description of them was found.",
        "That number N of xpu_smi is `/dev/xpu<N>`.",
        "The PCI vendor ID 0x2057 of newer cards is other projects'; 0x1d22 is Baidu's in the public list.",
    ),
    offered_as=("kunlunxin.com/", "baidu.com/xpu"),
    legacy=(
        LegacyNames(
            count="kunlunxin.com/vxpu",
            memory="kunlunxin.com/vxpu-memory",
            memory_steps_mib=(24576, 49152, 98304),
            memory_most_mib=98304,
            annotations=_ANNOTATIONS,
            source="HAMi 2.9 and 2.10",
        ),
        LegacyNames(
            count="kunlunxin.com/xpu",
            whole=True,
            annotations=_ANNOTATIONS,
            source="HAMi 2.9 and 2.10",
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class _Told:
    number: int
    serial: str
    total: str
    model: str


class Kunlunxin(PciVendor):
    """Kunlunxin; implements `driver.vendors.base.Vendor`."""

    facts = FACTS
    classes = frozenset({CO_PROCESSOR, PROCESSING_ACCELERATOR})

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:  # noqa: ARG002
        """What xpu_smi says, by PCI address."""
        cards: dict[str, Described | UnreadableError] = {}
        for address, told in _asked(host).items():
            try:
                cards[address] = Described(
                    model=f"Kunlunxin {told.model}",
                    memory_bytes=amount_of(told.total, what="its memory", unit="m"),
                    uuid=told.serial,
                )
            except UnreadableError as unreadable:
                cards[address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The card's numbered node of today, and the one for control.

        Raises:
            UnreadableError: xpu_smi does not answer, or not for this card.
            DeviceGoneError: Another card is in its place.
        """
        told = _asked(host).get(function.address)
        if told is None:
            raise UnreadableError(f"xpu_smi does not list {function.address}.")
        if told.serial != card.uuid:
            raise gone(card)
        return Needs(nodes=(f"/dev/xpu{told.number}", "/dev/xpuctrl"))


def _asked(host: Host) -> dict[str, _Told]:
    found: dict[str, _Told] = {}
    for line in report_lines(_XPU_SMI.ask("-m", host=host)):
        cells = [quoted or bare for quoted, bare in _WORD.findall(line)]
        if len(cells) < _COLUMNS or not re.fullmatch(r"[0-9]{1,4}", cells[_NUMBER_COLUMN]):
            continue
        try:
            address = normal_address(cells[0])
        except InvalidInputError:
            continue
        found[address] = _Told(
            number=int(cells[_NUMBER_COLUMN]),
            serial=clean(cells[_SERIAL_COLUMN]),
            total=cells[_TOTAL_COLUMN],
            model=clean(cells[_MODEL_COLUMN]),
        )
    return found
