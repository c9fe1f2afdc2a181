"""Huawei's DCMI library for Ascend NPUs, behind our own types; the only module that knows its structures.

Flow: `Dcmi` loads the driver's `libdcmi.so` through the Host when first asked and keeps it; `chips` asks it
for every chip of every card.

Source: the structures, codes and calls of `dcmi_interface_api.h` as Huawei's own exporter and device plugin
(mind-cluster) carry it, and what those make of the values: the VDIE ID, five words of eight hexadecimal
digits, is what their exporter and HAMi call the UUID; `memory_size` counts MB of 1024 * 1024.

Limits: whole chips only; chips that are cut into vNPUs are not told apart from whole ones. The library is
loaded once in a process and never unloaded, as Huawei's own programs do.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from driver.host import Host
from driver.vendors.reading import UnreadableError, clean, memory_bytes

LIBRARIES = ("/usr/local/dcmi/libdcmi.so", "libdcmi.so")
"""Where the driver's installer puts it, and the loader's own search."""

LIBRARY_DIRS = (
    "/usr/local/dcmi",
    "/usr/local/Ascend/driver/lib64/driver",
    "/usr/local/Ascend/driver/lib64/common",
    "/usr/local/Ascend/driver/lib64",
)
"""Folders of the driver's libraries, of which libdcmi needs some."""

NPU = 0
"""Unit type of a chip that computes; others are the card's controller and processor."""

_MOST_CARDS = 64
_MOST_CHIPS = 8
_VDIE = 1
_NAME = 32
_NEEDED = 16
_MISSING = re.compile(r"(lib[A-Za-z0-9_.+-]{1,100}\.so[0-9.]*): cannot open shared object file")
_NOT_SUPPORTED = frozenset({-8255, -99998})
_WORDS = {
    -8002: "permission error",
    -8005: "internal error",
    -8006: "response timed out",
    -8007: "invalid device",
    -8008: "the device does not exist",
    -8009: "ioctl failed",
    -8012: "not ready yet",
    -8013: "not supported in containers",
    -8020: "the device is occupied",
    -8255: "not supported",
    -99998: "the driver's library does not have this function",
}


class DcmiError(UnreadableError):
    """DCMI has no answer; `code` is what it answered instead."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"DCMI answers {call} with {code} ({_WORDS.get(code, 'unknown error')}).")
        self.code = code


@dataclass(frozen=True, kw_only=True)
class DcmiChip:
    """One NPU, as DCMI tells it now.

    Attributes:
        card: Number of the card, for further questions.
        device: Number of the chip on the card.
        physical_id: N of `/dev/davinciN`; may be another one after a boot.
        pci_address: `0000:c1:00.0`.
        die_id: VDIE ID, the chip's UUID.
        name: Name of the chip: `910B3`.
        ai_cores: Number of its AI cores; 0 if it is not told.
        memory_bytes: Its memory; None if it is not told.
    """

    card: int
    device: int
    physical_id: int
    pci_address: str
    die_id: str
    name: str
    ai_cores: int
    memory_bytes: int | None


class _ChipInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char * _NAME),
        ("name", ctypes.c_char * _NAME),
        ("version", ctypes.c_char * _NAME),
        ("ai_cores", ctypes.c_uint),
        ("npu_name", ctypes.c_char * _NAME),
    )


class _PcieInfo(ctypes.Structure):
    _fields_ = (
        ("vendor", ctypes.c_uint),
        ("subvendor", ctypes.c_uint),
        ("device_id", ctypes.c_uint),
        ("subdevice", ctypes.c_uint),
        ("domain", ctypes.c_int),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("function", ctypes.c_uint),
        ("reserved", ctypes.c_ubyte * 32),
    )


class _DieId(ctypes.Structure):
    _fields_ = (("words", ctypes.c_uint * 5),)


class _HbmInfo(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_ulonglong),
        ("frequency", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("temperature", ctypes.c_int),
        ("bandwidth", ctypes.c_uint),
    )


class _MemoryInfo(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_ulonglong),
        ("available", ctypes.c_ulonglong),
        ("frequency", ctypes.c_uint),
        ("huge_page_size", ctypes.c_ulong),
        ("huge_pages", ctypes.c_ulong),
        ("huge_pages_free", ctypes.c_ulong),
        ("utilization", ctypes.c_uint),
        ("reserved", ctypes.c_ubyte * 60),
    )


class Dcmi:
    """The library of one node; one question at a time.

    Args:
        load: Loads the library; called until it succeeds once.
    """

    def __init__(self, load: Callable[[], ctypes.CDLL]) -> None:
        self._load = load
        self._library: ctypes.CDLL | None = None
        self._lock = threading.Lock()

    def chips(self) -> list[DcmiChip | UnreadableError]:
        """All NPUs; an error in the place of one that does not answer.

        Raises:
            UnreadableError: There is no library, or it lists nothing.
        """
        with self._lock:
            return list(self._chips())

    def chip(self, die_id: str) -> DcmiChip | None:
        """The NPU with this VDIE ID now; None if there is none.

        Raises:
            UnreadableError: There is no library, or it lists nothing.
        """
        found = (one for one in self.chips() if isinstance(one, DcmiChip) and one.die_id == die_id)
        return next(found, None)

    def health(self, chip: DcmiChip) -> int:
        """0 for a healthy chip, 1 to 3 for a minor, major or critical alarm.

        Raises:
            UnreadableError: It is not told.
        """
        with self._lock:
            value = ctypes.c_uint()
            self._call("dcmi_get_device_health", chip.card, chip.device, ctypes.byref(value))
            return value.value

    def _chips(self) -> Iterator[DcmiChip | UnreadableError]:
        count = ctypes.c_int()
        numbers = (ctypes.c_int * _MOST_CARDS)()
        self._call("dcmi_get_card_list", ctypes.byref(count), numbers, _MOST_CARDS)
        for card in numbers[: max(0, min(count.value, _MOST_CARDS))]:
            try:
                chips = ctypes.c_int()
                self._call("dcmi_get_device_num_in_card", card, ctypes.byref(chips))
            except DcmiError as failed:
                yield failed
                continue
            for device in range(max(0, min(chips.value, _MOST_CHIPS))):
                try:
                    if self._unit_type(card, device) == NPU:
                        yield self._chip(card, device)
                except UnreadableError as failed:
                    yield failed

    def _unit_type(self, card: int, device: int) -> int:
        value = ctypes.c_int()
        try:
            self._call("dcmi_get_device_type", card, device, ctypes.byref(value))
        except DcmiError as failed:
            if failed.code in _NOT_SUPPORTED:
                return NPU
            raise
        return value.value

    def _chip(self, card: int, device: int) -> DcmiChip:
        at = _PcieInfo()
        self._call("dcmi_get_device_pcie_info_v2", card, device, ctypes.byref(at))
        die = _DieId()
        self._call("dcmi_get_device_die_v2", card, device, _VDIE, ctypes.byref(die))
        logical = ctypes.c_int()
        self._call("dcmi_get_device_logic_id", ctypes.byref(logical), card, device)
        physical = ctypes.c_uint()
        self._call("dcmi_get_device_phyid_from_logicid", logical.value, ctypes.byref(physical))
        name, ai_cores = self._name(card, device)
        return DcmiChip(
            card=card,
            device=device,
            physical_id=physical.value,
            pci_address=f"{at.domain & 0xFFFFFFFF:04x}:{at.bus:02x}:{at.device:02x}.{at.function:x}",
            die_id="-".join(f"{word:08X}" for word in die.words) if any(die.words) else "",
            name=name,
            ai_cores=ai_cores,
            memory_bytes=self._memory(card, device),
        )

    def _name(self, card: int, device: int) -> tuple[str, int]:
        told = _ChipInfo()
        try:
            self._call("dcmi_get_device_chip_info_v2", card, device, ctypes.byref(told))
        except DcmiError as failed:
            if failed.code not in _NOT_SUPPORTED:
                raise
            # The older call fills the same structure but for its last field.
            self._call("dcmi_get_device_chip_info", card, device, ctypes.byref(told))
        return clean(told.name.decode("utf-8", "replace")), told.ai_cores

    def _memory(self, card: int, device: int) -> int | None:
        hbm = _HbmInfo()
        try:
            self._call("dcmi_get_device_hbm_info", card, device, ctypes.byref(hbm))
        except DcmiError as failed:
            if failed.code not in _NOT_SUPPORTED:
                raise
        if hbm.size:
            return _mib(hbm.size)
        # Chips without HBM, such as the 310P.
        memory = _MemoryInfo()
        try:
            self._call("dcmi_get_device_memory_info_v3", card, device, ctypes.byref(memory))
        except DcmiError as failed:
            if failed.code not in _NOT_SUPPORTED:
                raise
        return _mib(memory.size) if memory.size else None

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._opened(), name)
        except AttributeError:
            raise DcmiError(name, -99998) from None
        code = int(function(*arguments))
        if code != 0:
            raise DcmiError(name, code)

    def _opened(self) -> ctypes.CDLL:
        if self._library is None:
            try:
                library = self._load()
            except OSError as failed:
                raise UnreadableError(f"Huawei's library libdcmi.so cannot be loaded: {failed}.") from None
            code = int(library.dcmi_init())
            if code != 0:
                raise DcmiError("dcmi_init", code)
            self._library = library
        return self._library


def load_dcmi(host: Host) -> ctypes.CDLL:
    """Loads the driver's library, and before it those of its own that it asks for.

    An agent in a container has its own loader, which does not look where the node keeps Huawei's libraries;
    what is loaded already is found by name.

    Raises:
        OSError: It is not installed, or needs something that is not.
    """
    failed: OSError | None = None
    for path in LIBRARIES:
        try:
            return _loaded(path, host=host)
        except OSError as this:
            failed = failed or this
    raise failed or OSError("no path to look for it")


def _loaded(path: str, *, host: Host) -> ctypes.CDLL:
    waiting = [path]
    for _ in range(_NEEDED):
        try:
            library = host.load_library(waiting[-1])
        except OSError as failed:
            missing = _MISSING.search(str(failed))
            found = next(
                (
                    f"{folder}/{missing[1]}"
                    for folder in LIBRARY_DIRS
                    if missing and host.exists(f"{folder}/{missing[1]}")
                ),
                "",
            )
            if not found or found in waiting:
                raise
            waiting.append(found)
            continue
        if waiting.pop() == path:
            return library
        _KEPT.append(library)
    raise OSError(f"{path} needs more libraries than are plausible")


_KEPT: list[ctypes.CDLL] = []
"""What was loaded for others stays loaded."""


def _mib(megabytes: int) -> int:
    return memory_bytes(megabytes << 20, what="the memory of a chip")
