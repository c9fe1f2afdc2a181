"""What sysfs says about the PCI functions of a node.

Flow: `pci_functions` lists those of a vendor; `drm_nodes` and `own_nodes` say which device nodes belong to
one, by what the kernel itself links to it, never by counting.

Source of paths and formats: the kernel's documentation (Documentation/ABI/testing/sysfs-bus-pci, the driver
model's class folders and `uevent` files).

Limits: a function that vanishes while it is read is left out; PCI domains are written as the kernel does.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from driver.errors import InvalidInputError
from driver.host import Host
from driver.vendors.reading import UnreadableError, attribute, listing, optional, whole_number

PCI_DEVICES = "/sys/bus/pci/devices"

DISPLAY = 0x03
CO_PROCESSOR = 0x0B
PROCESSING_ACCELERATOR = 0x12

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_ANY_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])")
_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_DRM = re.compile(r"(card|renderD)\d{1,6}")
_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}(/[A-Za-z0-9][A-Za-z0-9_.:-]{0,63})?")
_MOST_FUNCTIONS = 4096
_MOST_NODES = 64


@dataclass(frozen=True, kw_only=True)
class PciFunction:
    """One function of a PCI device.

    Attributes:
        address: `0000:3b:00.0`.
        vendor: PCI vendor ID.
        device: PCI device ID.
        class_code: Base class, subclass and interface: 0x030200.
        virtual: It is a virtual function of another one on this node.
        virtual_functions: How many virtual functions of it are active.
    """

    address: str
    vendor: int
    device: int
    class_code: int
    virtual: bool = False
    virtual_functions: int = 0

    @property
    def path(self) -> str:
        """Its folder in sysfs."""
        return f"{PCI_DEVICES}/{self.address}"

    @property
    def base_class(self) -> int:
        """What kind of device it is, such as `DISPLAY`."""
        return self.class_code >> 16


def pci_vendors_present(host: Host) -> frozenset[int]:
    """The vendor IDs of all functions of the node."""
    found = set()
    for address in _addresses(host):
        try:
            found.add(whole_number(attribute(f"{PCI_DEVICES}/{address}/vendor", host=host), what="vendor"))
        except UnreadableError:
            continue
    return frozenset(found)


def pci_functions(host: Host, *, vendors: Collection[int]) -> tuple[list[PciFunction], list[str]]:
    """The functions of these vendors in PCI order, and sentences about those that cannot be read."""
    functions = []
    problems = []
    for address in _addresses(host):
        try:
            found = _function(address, vendors=vendors, host=host)
        except UnreadableError as unreadable:
            problems.append(f"The PCI device {address} is left out: {unreadable}")
            continue
        if found is not None:
            functions.append(found)
    return functions, problems


def pci_function(address: str, *, vendors: Collection[int] | None, host: Host) -> PciFunction | None:
    """The function at an address, None if there is none of these vendors (any more).

    Args:
        address: As sysfs writes it.
        vendors: PCI vendor IDs; None for any.
        host: The node.

    Raises:
        UnreadableError: There is one, and sysfs cannot be read.
    """
    return _function(address, vendors=vendors, host=host) if _ADDRESS.fullmatch(address) else None


def normal_address(text: str) -> str:
    """`00000000:3B:00.0` or `3b:00.0` as sysfs and Kubernetes write it: `0000:3b:00.0`.

    Raises:
        InvalidInputError: This is no PCI address.
    """
    match = _ANY_ADDRESS.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"{text[:40]!r} is not a PCI address.", field="pciBusID")
    domain, bus, device, function = (int(part or "0", 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}"


def pcie_root(function: PciFunction, *, host: Host) -> str:
    """`pci0000:3a`, from the place of the function's folder in the tree of devices; "" if unknown."""
    try:
        return next((part for part in host.resolve(function.path).split("/") if _ROOT.fullmatch(part)), "")
    except OSError:
        return ""


def numa_node(function: PciFunction, *, host: Host) -> int | None:
    """The NUMA node; None where the platform has none, which the kernel writes as -1."""
    text = optional(f"{function.path}/numa_node", host=host)
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else None


def driver_of(function: PciFunction, *, host: Host) -> str:
    """Name of the kernel driver that is bound to the function; "" if there is none."""
    link = f"{function.path}/driver"
    try:
        resolved = host.resolve(link)
    except OSError:
        return ""
    return resolved.rpartition("/")[2] if resolved != link and host.exists(resolved) else ""


def drm_nodes(function: PciFunction, *, host: Host) -> tuple[str, ...]:
    """Device nodes of the function's DRM minors: `/dev/dri/card1`, `/dev/dri/renderD129`."""
    names = [name for name in listing(f"{function.path}/drm", host=host) if _DRM.fullmatch(name)]
    return tuple(f"/dev/dri/{name}" for name in names[:_MOST_NODES])


def own_nodes(function: PciFunction, *, host: Host) -> tuple[str, ...]:
    """Device nodes of all classes that the kernel links to the function: what `uevent` calls DEVNAME."""
    found: list[str] = []
    for folder in listing(function.path, host=host)[:_MOST_FUNCTIONS]:
        for name in listing(f"{function.path}/{folder}", host=host)[:_MOST_NODES]:
            if len(found) >= _MOST_NODES:
                return tuple(sorted(found))
            try:
                event = host.read_text(f"{function.path}/{folder}/{name}/uevent", limit=4096)
            except (OSError, ValueError):
                continue
            named = re.search(r"^DEVNAME=(.+)$", event, re.MULTILINE)
            if named and _NODE_NAME.fullmatch(named[1]):
                found.append(f"/dev/{named[1]}")
    return tuple(sorted(set(found)))


def _addresses(host: Host) -> list[str]:
    names = [name for name in listing(PCI_DEVICES, host=host)[:_MOST_FUNCTIONS] if _ADDRESS.fullmatch(name)]
    # By length first: sysfs writes domains of more than four digits only where they are needed.
    return sorted(names, key=lambda name: (len(name), name))


def _function(address: str, *, vendors: Collection[int] | None, host: Host) -> PciFunction | None:
    folder = f"{PCI_DEVICES}/{address}"

    def number(name: str) -> int:
        text = attribute(f"{folder}/{name}", host=host)
        if not text:
            raise UnreadableError(f"{folder}/{name} is not there (any more).")
        return whole_number(text, what=f"{folder}/{name}")

    vendor_text = attribute(f"{folder}/vendor", host=host)
    if not vendor_text:
        return None  # it vanished
    vendor = whole_number(vendor_text, what=f"{folder}/vendor")
    if vendors is not None and vendor not in vendors:
        return None
    active = optional(f"{folder}/sriov_numvfs", host=host)
    return PciFunction(
        address=address,
        vendor=vendor,
        device=number("device"),
        class_code=number("class"),
        virtual=host.exists(f"{folder}/physfn"),
        virtual_functions=int(active) if re.fullmatch(r"[0-9]{1,5}", active) else 0,
    )
