"""Iluvatar CoreX cards: found by PCI, described by ixsmi, given to containers by `/dev/iluvatar<N>`.

Source: ixsmi answers as nvidia-smi does (`--query-gpu=... --format=csv`); its fields, and that it needs
CoreX's own library folder, were recorded on cards by other projects; `/dev/iluvatar<N>` and `/dev/itrctl` are
what Iluvatar's device plugin and others give to containers.

Limits: N is the card's index as ixsmi counts today, asked anew at each prepare. Programs bring CoreX in their
image; of the host's installation its library folder is mounted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.quantities import MIB
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, normal_address
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor, gone
from driver.vendors.reading import Program, UnreadableError, amount_of, rows

_COREX = "/usr/local/corex"
_IXSMI = Program(names=("ixsmi", f"{_COREX}/bin/ixsmi"), library_dirs=(f"{_COREX}/lib64", f"{_COREX}/lib"))
_COLUMNS = ("index", "name", "uuid", "pci.bus_id", "memory.total", "driver_version")
_MODELS = ("MR-V100", "MR-V50", "BI-V150", "BI-V100")

FACTS = VendorFacts(
    name="iluvatar",
    title="Iluvatar",
    pci_vendors=frozenset({0x1E3E}),
    identity=Identity.UUID,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "Answers and fields of ixsmi recorded on MR-V100 cards by other projects.",
        "Deep-Spark/ix-device-plugin: `/dev/iluvatar<N>`. HAMi's configuration: names, units of 256 MB.",
        "The public list of PCI IDs.",
    ),
    guessed=(
        "That card N of ixsmi is `/dev/iluvatar<N>`: Iluvatar's plugin says minor number, others say index.",
        "That `/dev/itrctl` is optional.",
        "That `ILUVATAR_COREX_VISIBLE_DEVICES=none` keeps Iluvatar's runtime from adding cards.",
    ),
    offered_as=("iluvatar.com/", "iluvatar.ai/"),
    legacy=tuple(
        LegacyNames(
            count=f"iluvatar.ai/{model}-vgpu",
            memory=f"iluvatar.ai/{model}.vMem",
            memory_unit=256 * MIB,
            cores=f"iluvatar.ai/{model}.vCore",
            models=(model, f"Iluvatar {model}"),
            annotations=(
                ("useUUID", f"hami.io/use-{model}-uuid"),
                ("avoidUUID", f"hami.io/no-use-{model}-uuid"),
            ),
            source="HAMi 2.9 and 2.10",
        )
        for model in _MODELS
    ),
)


class Iluvatar(PciVendor):
    """Iluvatar; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:  # noqa: ARG002
        """What ixsmi says, by PCI address."""
        cards: dict[str, Described | UnreadableError] = {}
        for address, row in _asked(host).items():
            try:
                cards[address] = Described(
                    model=row["name"],
                    memory_bytes=amount_of(row["memory.total"], what="its memory", unit="m"),
                    uuid=row["uuid"],
                    driver_version=row["driver_version"],
                )
            except UnreadableError as unreadable:
                cards[address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:
        """The card's numbered node of today, the one for control, and CoreX's libraries.

        Raises:
            UnreadableError: ixsmi does not answer, or not for this card.
            DeviceGoneError: Another card is in its place.
        """
        row = _asked(host).get(function.address)
        if row is None or not row["index"].isdigit():
            raise UnreadableError(f"ixsmi does not list {function.address}.")
        if row["uuid"] != card.uuid:
            raise gone(card)
        return Needs(
            nodes=(f"/dev/iluvatar{int(row['index'])}",),
            optional_nodes=("/dev/itrctl",),
            mounts=(f"{_COREX}/lib64", f"{_COREX}/bin"),
            env={"ILUVATAR_COREX_VISIBLE_DEVICES": "none"},
        )


def _asked(host: Host) -> dict[str, Mapping[str, str]]:
    text = _IXSMI.ask(f"--query-gpu={','.join(_COLUMNS)}", "--format=csv,noheader,nounits", host=host)
    found: dict[str, Mapping[str, str]] = {}
    for row in rows(text, columns=_COLUMNS, what="ixsmi"):
        try:
            found[normal_address(row["pci.bus_id"])] = row
        except InvalidInputError:
            continue
    return found
