"""NVIDIA's management library behind `driver.vendors.nvml_answers`; the only module that imports pynvml.

Flow: `PynvmlNvml` loads the library of the driver through the Host when first asked, opens one session and
keeps it; after an error that ends a session (driver unloaded, replaced by another version) the next question
loads and opens anew. So a driver that comes late, or is upgraded under a running agent, is found.

Limits: pynvml keeps the loaded library in a module variable, so there is one instance in a process. pynvml is
imported at the first question, because a node without NVIDIA cards should not pay 3 MiB for it (13 where its
bytecode is not compiled yet).
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from driver.vendors.nvml_answers import DEFAULT, NvmlCard, NvmlError, NvmlEvent, NvmlListing, NvmlState

T = TypeVar("T")

REGISTER_AGAIN_S = 60.0
"""For so long cards stay registered for events; one that was reset meanwhile is heard of again after it."""


class PynvmlNvml:
    """NVML through pynvml.

    Args:
        load: Gives the driver's library; OSError while there is none.
    """

    def __init__(self, load: Callable[[], ctypes.CDLL]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._open = False
        self._session_number = 0
        self._events: NvmlEvents | None = None
        self._waiting = threading.Lock()

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

    def state(self, uuid: str) -> NvmlState:
        """See `Nvml.state`."""
        with self._session() as nvml:
            return _state(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid))

    def on_card(self, uuid: str, work: Callable[[Any, Any], T]) -> T:
        """See `Nvml.on_card`."""
        with self._session() as nvml:
            card = nvml.nvmlDeviceGetHandleByUUID(uuid)
            try:
                return work(nvml, card)
            except nvml.NVMLError_NotFound as failed:
                # Something of the card is not there, which says nothing of the card.
                raise NvmlError(
                    f"something of the card was removed meanwhile: {failed}", in_use=True
                ) from None

    def wait(self, uuids: Sequence[str], *, timeout_s: float) -> NvmlEvent | None:
        """See `Nvml.wait`; for one thread at a time."""
        with self._session() as nvml, self._waiting:
            session, cards = self._session_number, frozenset(uuids)
            if not self._open:
                return None  # another thread has just ended it
            events = self._events
            if events is None or not events.serves(cards, session=session):
                self._events = None
                if events is not None and events.session == session:
                    events.close()
                events = NvmlEvents(nvml, cards, session=session)
                self._events = events
            return events.wait(timeout_s)

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
                stale=failed.value == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
                lost=failed.value == nvml.NVML_ERROR_GPU_IS_LOST,
                unknown_card=failed.value == nvml.NVML_ERROR_NOT_FOUND,
                reset_required=failed.value == nvml.NVML_ERROR_RESET_REQUIRED,
                in_use=failed.value == nvml.NVML_ERROR_IN_USE,
                no_room=failed.value == nvml.NVML_ERROR_INSUFFICIENT_RESOURCES,
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
        self._session_number += 1

    def _end(self, nvml: Any) -> None:
        if not self._open:
            return
        # Nobody may wait for events of a session while it is taken away.
        with self._waiting:
            self._open = False
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                # A session that is over already cannot be ended better than that.
                return


class NvmlEvents:
    """The cards' events in one session of NVML; for one thread."""

    def __init__(
        self, nvml: Any, uuids: frozenset[str], *, session: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nvml = nvml
        self._uuids = uuids
        self.session = session
        self._clock = clock
        self._made_at = clock()
        self._cards: dict[int, str] = {}
        self._set = nvml.nvmlEventSetCreate()
        for uuid in sorted(uuids):
            self._register(uuid)

    def serves(self, uuids: frozenset[str], *, session: int) -> bool:
        """Whether these are its cards, and it is neither of another session nor too old."""
        young = self._clock() - self._made_at < REGISTER_AGAIN_S
        return young and (uuids, session) == (self._uuids, self.session)

    def wait(self, timeout_s: float) -> NvmlEvent | None:
        """The next event; None if the time is over."""
        if not self._cards:
            # There is nothing to wait for, and the caller comes again at once.
            time.sleep(timeout_s)
            return None
        try:
            event = self._nvml.nvmlEventSetWait_v2(self._set, int(timeout_s * 1000))
        except self._nvml.NVMLError_Timeout:
            return None
        xid = int(event.eventData) if event.eventType == self._nvml.nvmlEventTypeXidCriticalError else 0
        return NvmlEvent(uuid=self._cards.get(_address(event.device), ""), xid=xid)

    def close(self) -> None:
        """Gives the set back; not to be called once its session is over, as it went with that."""
        try:
            self._nvml.nvmlEventSetFree(self._set)
        except self._nvml.NVMLError:
            return

    def _register(self, uuid: str) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            wanted = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
            types = nvml.nvmlDeviceGetSupportedEventTypes(handle) & wanted
            if types:
                nvml.nvmlDeviceRegisterEvents(handle, types, self._set)
                self._cards[_address(handle)] = uuid
        except nvml.NVMLError as failed:
            if _ends_session(nvml, failed):
                raise
            # A card that is lost or has no events: asking for its state says what there is to say.
            return


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _pynvml() -> Any:
    import pynvml  # noqa: PLC0415 - 3 MiB, for nodes that need it

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
        compute_mode=int(_told(lambda: nvml.nvmlDeviceGetComputeMode(handle), nvml, otherwise=DEFAULT)),
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


def _state(nvml: Any, handle: Any) -> NvmlState:
    # Four numbers: rows remapped after corrected and uncorrected errors, pending, failed.
    rows = _told(lambda: nvml.nvmlDeviceGetRemappedRows(handle), nvml, otherwise=(0, 0, 0, 0))
    retired = _told(lambda: nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle), nvml, otherwise=0)
    return NvmlState(
        minor=int(nvml.nvmlDeviceGetMinorNumber(handle)),
        remap_pending=bool(rows[2]),
        remap_failed=bool(rows[3]),
        retirement_pending=bool(retired),
        recovery=_told(lambda: _recovery(nvml, handle), nvml, otherwise=None),
    )


def _recovery(nvml: Any, handle: Any) -> int | None:
    (value,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    return int(value.value.uiVal) if value.nvmlReturn == nvml.NVML_SUCCESS else None


def _told(ask: Callable[[], T], nvml: Any, *, otherwise: T) -> T:
    """What older drivers and lesser cards do not tell is left at its default."""
    try:
        return ask()
    except (
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_InvalidArgument,
        nvml.NVMLError_NoPermission,
    ):
        return otherwise


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
