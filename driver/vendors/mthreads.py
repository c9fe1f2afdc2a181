"""Moore Threads cards: found by PCI, described by mthreads-gmi, given to containers by `/dev/mtgpu.<N>`.

Source: the JSON that `mthreads-gmi --query --json` wrote on MTT S5000 cards, as other projects recorded it;
`/dev/mtgpu.<N>` and the DRM nodes as they hand them to containers.

Limits: N is the card's index as mthreads-gmi counts today, asked anew at each prepare. Moore Threads' own
container runtime is not told to stay out of the way: the value for that is not documented. sGPU instances are
neither made nor recognised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.quantities import MIB
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, drm_nodes, normal_address
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone
from driver.vendors.reading import Program, UnreadableError, amount_of, text_of

_GMI = Program(names=("mthreads-gmi", "/usr/bin/mthreads-gmi"))

FACTS = VendorFacts(
    name="mthreads",
    title="Moore Threads",
    pci_vendors=frozenset({0x1ED5}),
    identity=Identity.UUID,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "Answers of mthreads-gmi recorded on MTT S5000 cards by other projects; device nodes they use.",
        "HAMi's configuration: names, units of 512 MiB, 16 units of compute a card.",
    ),
    guessed=(
        "Which value of `MTHREADS_VISIBLE_DEVICES` keeps Moore Threads' runtime out: none is set.",
        "That card N of mthreads-gmi is `/dev/mtgpu.<N>`.",
        "That programs need the card's DRM nodes beside it.",
    ),
    offered_as=("mthreads.com/",),
    legacy=(
        LegacyNames(
            count="mthreads.com/vgpu",
            memory="mthreads.com/sgpu-memory",
            memory_unit=512 * MIB,
            cores="mthreads.com/sgpu-core",
            cores_of=16,
            several_whole=True,
            annotations=(
                ("useUUID", "mthreads.ai/use-gpuuuid"),
                ("avoidUUID", "mthreads.ai/nouse-gpuuuid"),
            ),
            source="HAMi 2.9 and 2.10",
        ),
    ),
)


class MooreThreads(PciVendor):
    """Moore Threads; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:  # noqa: ARG002
        """What mthreads-gmi says, by PCI address."""
        document = _GMI.ask_json("--query", "--json", host=host)
        version = text_of(document, "Driver Version")
        cards: dict[str, Described | UnreadableError] = {}
        for address, told in _by_address(document).items():
            total = text_of(told, "FB Memory Usage", "Total")
            try:
                cards[address] = Described(
                    model=text_of(told, "Product Name"),
                    memory_bytes=amount_of(total, what="its memory", unit="m") if total else None,
                    uuid=text_of(told, "GPU UUID"),
                    driver_version=version,
                )
            except UnreadableError as unreadable:
                cards[address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The card's numbered node of today, and its DRM nodes.

        Raises:
            UnreadableError: mthreads-gmi does not answer, or not for this card.
            DeviceGoneError: Another card is in its place.
        """
        told = _by_address(_GMI.ask_json("--query", "--json", host=host)).get(function.address)
        number = text_of(told, "Index")
        if not number.isdecimal():
            raise UnreadableError(f"mthreads-gmi does not list {function.address}.")
        if text_of(told, "GPU UUID") != card.uuid:
            raise gone(card)
        return Needs(nodes=(f"/dev/mtgpu.{int(number)}",), optional_nodes=drm_nodes(function, host=host))


def _by_address(document: Any) -> dict[str, Mapping[str, Any]]:
    listed = document.get("GPU") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise UnreadableError("mthreads-gmi wrote no list of cards.")
    found: dict[str, Mapping[str, Any]] = {}
    for told in listed:
        try:
            found[normal_address(text_of(told, "PCI", "Bus ID"))] = told
        except InvalidInputError:
            continue
    return found
