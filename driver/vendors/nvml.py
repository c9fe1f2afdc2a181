"""NVIDIA's management library, behind a Protocol with our own types; the only module that imports pynvml.

Purpose: everything above asks three questions (what cards, this card, which driver) and never meets NVML's
error codes, handles or versions.

Flow: `PynvmlNvml` loads the library of the driver through the Host when first asked, opens one session and
keeps it; after an error that ends a session (driver unloaded, replaced by another version) the next question
loads and opens anew. So a driver that comes late, or is upgraded under a running agent, is found.

Limits: pynvml keeps the loaded library in a module variable, so there is one instance in a process. pynvml is
imported at the first question, because a node without NVIDIA cards should not pay 14 MiB for it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol


class NvmlError(Exception):
    """NVML has no answer.

    Attributes:
        driver_missing: There is no library, or no driver behind it (yet).
        lost: The card has fallen off the bus.
    """

    def __init__(self, message: str, *, driver_missing: bool = False, lost: bool = False) -> None:
        super().__init__(message)
        self.driver_missing = driver_missing
        self.lost = lost


@dataclass(frozen=True, kw_only=True)
class NvmlCard:
    """One card, as NVML tells it now.

    Attributes:
        uuid: `GPU-...`.
        name: Product name.
        memory_bytes: All of its memory.
        pci_bus_id: As NVML prints it: `00000000:3B:00.0`.
        minor: N of `/dev/nvidiaN`; may be another one after a reboot.
        architecture: `Ampere`, `Hopper`, ...; "" where the driver does not tell.
        mig: Whether the card is in MIG mode.
    """

    uuid: str
    name: str
    memory_bytes: int
    pci_bus_id: str
    minor: int
    architecture: str
    mig: bool


@dataclass(frozen=True, kw_only=True)
class NvmlListing:
    """All cards that answered, and a sentence for each that did not."""

    driver_version: str
    cards: tuple[NvmlCard, ...]
    problems: tuple[str, ...] = ()


class Nvml(Protocol):
    """What is asked of NVML."""

    def listing(self) -> NvmlListing:
        """All cards.

        Raises:
            NvmlError: NVML cannot be asked at all.
        """

    def card(self, uuid: str) -> NvmlCard:
        """One card, as it is now.

        Raises:
            NvmlError: There is no such card, it is lost, or NVML cannot be asked at all.
        """

    def driver_version(self) -> str:
        """Version of the kernel driver.

        Raises:
            NvmlError: NVML cannot be asked at all.
        """


class PynvmlNvml:
    """NVML through pynvml.

    Args:
        load: Gives the driver's library; OSError while there is none.
    """

    def __init__(self, load: Callable[[], ctypes.CDLL]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._open = False

    def listing(self) -> NvmlListing:
        """See `Nvml.listing`."""
        with self._session() as nvml:
            cards, problems = [], []
            for index in range(nvml.nvmlDeviceGetCount()):
                try:
                    cards.append(_card(nvml, nvml.nvmlDeviceGetHandleByIndex(index)))
                except nvml.NVMLError as failed:
                    if _ends_session(nvml, failed):
                        raise
                    problems.append(f"NVIDIA card number {index} does not answer: {failed}.")
            return NvmlListing(
                driver_version=nvml.nvmlSystemGetDriverVersion(),
                cards=tuple(cards),
                problems=tuple(problems),
            )

    def card(self, uuid: str) -> NvmlCard:
        """See `Nvml.card`."""
        with self._session() as nvml:
            return _card(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid))

    def driver_version(self) -> str:
        """See `Nvml.driver_version`."""
        with self._session() as nvml:
            return str(nvml.nvmlSystemGetDriverVersion())

    def close(self) -> None:
        """Ends the session; a later question opens another."""
        with self._lock:
            self._end(_pynvml())

    @contextmanager
    def _session(self) -> Iterator[Any]:
        nvml = _pynvml()
        try:
            with self._lock:
                if not self._open:
                    self._begin(nvml)
            yield nvml
        except nvml.NVMLError as failed:
            if _ends_session(nvml, failed):
                with self._lock:
                    self._end(nvml)
            raise NvmlError(
                str(failed),
                driver_missing=failed.value in _driver_missing(nvml),
                lost=failed.value == nvml.NVML_ERROR_GPU_IS_LOST,
            ) from None

    def _begin(self, nvml: Any) -> None:
        try:
            library = self._load()
        except OSError as missing:
            raise NvmlError(f"NVML cannot be loaded: {missing}", driver_missing=True) from None
        if nvml.nvmlLib is not library:
            # pynvml looks each function up once; those of another library would stay in use.
            nvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - there is no public way
            nvml.nvmlLib = library
        nvml.nvmlInit()
        self._open = True

    def _end(self, nvml: Any) -> None:
        if self._open:
            self._open = False
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                # A session that is over already cannot be ended better than that.
                return


def _pynvml() -> Any:
    import pynvml  # noqa: PLC0415 - 14 MiB and 50 ms, for nodes that need it

    return pynvml


def _driver_missing(nvml: Any) -> tuple[int, ...]:
    return (
        nvml.NVML_ERROR_DRIVER_NOT_LOADED,
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    )


def _ends_session(nvml: Any, failed: Any) -> bool:
    return failed.value in (nvml.NVML_ERROR_UNINITIALIZED, *_driver_missing(nvml))


def _card(nvml: Any, handle: Any) -> NvmlCard:
    return NvmlCard(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        pci_bus_id=_text(nvml.nvmlDeviceGetPciInfo(handle).busId),
        minor=int(nvml.nvmlDeviceGetMinorNumber(handle)),
        architecture=_architecture(nvml, handle),
        mig=_mig(nvml, handle),
    )


def _architecture(nvml: Any, handle: Any) -> str:
    try:
        number = nvml.nvmlDeviceGetArchitecture(handle)
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotSupported):
        return ""
    prefix = "NVML_DEVICE_ARCH_"
    names = {value: name for name, value in vars(nvml).items() if name.startswith(prefix)}
    name = names.get(number, "").removeprefix(prefix).title()
    return "" if name == "Unknown" else name


def _mig(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotSupported):
        # Drivers from before MIG, and cards without it.
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
