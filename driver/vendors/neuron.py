"""AWS Neuron devices (Inferentia, Trainium): found by PCI, described by neuron-ls, given by `/dev/neuron<N>`.

Flow: *discover* asks neuron-ls for address, cores and memory, and sysfs for the name; *edits* asks for N
again.

Source: AWS' documentation of neuron-ls (`--json-output`) with its keys, and of the driver's sysfs tree
(`/sys/devices/virtual/neuron_device/neuron<N>/info/architecture`); device IDs of AWS' open driver.

Limits: named by PCI address: an instance has no serial numbers that programs could read. A device is given
out whole; the cores that a program uses are its own choice (`NEURON_RT_VISIBLE_CORES`). Other devices of
Amazon's on the bus (network, storage) are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from driver.cards import Card, IsolationLevel
from driver.errors import InvalidInputError
from driver.host import Host
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.legacy import LegacyNames
from driver.vendors.pci import PciFunction, normal_address
from driver.vendors.pci_vendor import Described, Description, Needs, PciVendor
from driver.vendors.reading import Program, UnreadableError, amount_of, optional, text_of

_NEURON_LS = Program(names=("/opt/aws/neuron/bin/neuron-ls", "neuron-ls"))
_FAMILIES = {
    0x7064: "Inferentia",
    0x7065: "Inferentia",
    0x7066: "Inferentia",
    0x7067: "Inferentia",
    0x7164: "Trainium",
    0x7264: "Inferentia2",
    0x7364: "Trainium2",
    0x7564: "Trainium3",
}
_ANNOTATIONS = (
    ("useUUID", "aws.amazon.com/use-neuron-uuid"),
    ("avoidUUID", "aws.amazon.com/nouse-neuron-uuid"),
)

FACTS = VendorFacts(
    name="neuron",
    title="AWS Neuron",
    pci_vendors=frozenset({0x1D0F}),
    identity=Identity.PCI,
    isolation=(IsolationLevel.NONE,),
    sources=(
        "AWS' documentation: `neuron-ls --json-output`, the driver's sysfs tree, `/dev/neuron<N>`.",
        "AWS' Neuron driver: PCI device IDs. HAMi's configuration: names.",
    ),
    guessed=("The PCI device ID of Trainium3.",),
    attributes=(("neuronCores", "int", 2, "NeuronCores of the device."),),
    offered_as=("aws.amazon.com/neuron",),
    legacy=(
        LegacyNames(
            count="aws.amazon.com/neuron",
            whole=True,
            annotations=_ANNOTATIONS,
            source="AWS' device plugin, HAMi 2.9 and 2.10",
        ),
        LegacyNames(
            count="aws.amazon.com/neuroncore",
            parts=2,
            parts_fill=True,
            annotations=_ANNOTATIONS,
            source="HAMi 2.9 and 2.10",
        ),
    ),
)


class Neuron(PciVendor):
    """AWS Neuron; implements `driver.vendors.base.Vendor`."""

    facts = FACTS

    def accepts(self, function: PciFunction, *, host: Host) -> bool:  # noqa: ARG002
        """By device ID: most of Amazon's functions are network cards and disks."""
        return function.device in _FAMILIES

    def describe(self, functions: Sequence[PciFunction], *, host: Host) -> Description:
        """What neuron-ls and sysfs say, by PCI address."""
        version = optional("/sys/module/neuron/version", host=host)
        families = {function.address: _FAMILIES[function.device] for function in functions}
        cards: dict[str, Described | UnreadableError] = {}
        for address, told in _asked(host).items():
            number, size, cores = (text_of(told, key) for key in ("neuron_device", "memory_size", "nc_count"))
            about = f"/sys/devices/virtual/neuron_device/neuron{number}/info/architecture"
            name = optional(f"{about}/device_name", host=host) if number.isdecimal() else ""
            architecture = optional(f"{about}/arch_type", host=host) if number.isdecimal() else ""
            try:
                cards[address] = Described(
                    model=f"AWS {name or families.get(address, '')}",
                    memory_bytes=amount_of(size, what="its memory") if size else None,
                    architecture=architecture,
                    driver_version=version,
                    attributes={"neuronCores": int(cores)} if re.fullmatch("[0-9]{1,4}", cores) else {},
                )
            except UnreadableError as unreadable:
                cards[address] = unreadable
        return Description(cards=cards)

    def reach(self, card: Card, function: PciFunction, *, host: Host) -> Needs:  # noqa: ARG002
        """The device's node of today.

        Raises:
            UnreadableError: neuron-ls does not answer, or not for this device.
        """
        number = text_of(_asked(host).get(function.address), "neuron_device")
        if not number.isdecimal():
            raise UnreadableError(f"neuron-ls does not list {function.address}.")
        return Needs(nodes=(f"/dev/neuron{int(number)}",))


def _asked(host: Host) -> dict[str, Mapping[str, Any]]:
    listed = _NEURON_LS.ask_json("--json-output", host=host)
    if not isinstance(listed, list):
        raise UnreadableError("neuron-ls wrote no list of devices.")
    found: dict[str, Mapping[str, Any]] = {}
    for told in listed:
        try:
            found[normal_address(text_of(told, "bdf"))] = told
        except InvalidInputError:
            continue
    return found
