"""What NVML's answers and reports say of a card, on the mock library."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import Card
from driver.vendors.base import CardFault, CardHealth, FaultSource
from driver.vendors.nvidia import Nvidia
from driver.vendors.nvidia_xids import APPLICATION, CERTAIN, TOLD_BY_STATE, fault_of
from driver.vendors.nvml import PynvmlNvml
from driver.vendors.nvml_answers import NvmlError, NvmlEvent
from tests.driver.vendors.driver_root import add_device_nodes
from tests.driver.vendors.nvml_world import UUIDS, NvmlWorld, loader
from tests.support.folder_host import FolderHost


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    found = FolderHost(tmp_path / "root")
    add_device_nodes(found, 0, 1)
    return found


@pytest.fixture
def vendor(nvml: PynvmlNvml) -> Nvidia:
    return Nvidia(nvml=nvml)


@pytest.fixture
def cards(vendor: Nvidia, world: NvmlWorld, host: FolderHost) -> tuple[Card, ...]:
    world.card(0)
    world.card(1)
    return vendor.discover(host).cards


def test_cards_that_answer_are_healthy_each_for_itself(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost, cards: tuple[Card, ...]
) -> None:
    world.card(1, lost="1")
    good, bad = vendor.health(cards, host=host)
    assert good == CardHealth(name=cards[0].name, health="Healthy")
    assert (bad.name, bad.health, bad.reason, bad.certain) == (cards[1].name, "Unhealthy", "CardLost", True)
    assert "lost" in bad.message.lower()


@pytest.mark.parametrize(
    ("fields", "reason", "certain"),
    [
        ({"error": "15"}, "CardLost", True),
        ({"error": "16"}, "ResetRequired", True),
        ({"error": "18"}, "DriverStale", False),
        ({"error": "9"}, "DriverMissing", False),
        ({"remap": "2"}, "RowRemapFailed", True),
        ({"remap": "1"}, "RowRemapPending", False),
        ({"remap": "-1", "retired": "1"}, "PageRetirementPending", False),
        ({"recovery": "1"}, "RecoveryNeeded", False),
    ],
)
def test_each_fault_of_a_card_has_its_reason_and_is_over_with_its_cause(
    *,
    vendor: Nvidia,
    world: NvmlWorld,
    host: FolderHost,
    cards: tuple[Card, ...],
    fields: dict[str, str],
    reason: str,
    certain: bool,
) -> None:
    world.card(0, **fields)
    (bad,) = vendor.health(cards[:1], host=host)
    assert (bad.health, bad.reason, bad.certain, bad.cleared) == ("Unhealthy", reason, certain, False)
    assert bad.message
    world.card(0, error="0", remap="0", retired="0", recovery="-1")
    assert vendor.health(cards[:1], host=host)[0].health == "Healthy"


def test_a_driver_that_was_replaced_under_a_running_library_is_stale_for_all_its_cards(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost, cards: tuple[Card, ...]
) -> None:
    world.card(0, error="18")
    world.card(1, error="18")
    assert {one.reason for one in vendor.health(cards, host=host)} == {"DriverStale"}


def test_a_card_that_nvml_does_not_know_any_more_is_missing(
    vendor: Nvidia, host: FolderHost, cards: tuple[Card, ...]
) -> None:
    (found,) = vendor.health([replace(cards[0], uuid="GPU-other")], host=host)
    assert (found.health, found.reason, found.certain) == ("Unhealthy", "CardMissing", True)


def test_an_error_that_says_nothing_of_the_card_leaves_its_health_unknown(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost, cards: tuple[Card, ...]
) -> None:
    world.card(0, error="999")
    (found,) = vendor.health(cards[:1], host=host)
    assert (found.health, found.reason) == ("Unknown", "HealthUnreadable")


def test_only_a_driver_that_wants_nothing_done_says_that_all_is_over(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost, cards: tuple[Card, ...]
) -> None:
    assert [one.cleared for one in vendor.health(cards, host=host)] == [False, False]
    world.card(0, recovery="0")
    assert [one.cleared for one in vendor.health(cards, host=host)] == [True, False]


def test_a_card_without_its_device_node_is_not_well(
    vendor: Nvidia, host: FolderHost, cards: tuple[Card, ...]
) -> None:
    host.local("/dev/nvidia1").unlink()
    good, bad = vendor.health(cards, host=host)
    assert (good.health, bad.reason, bad.message) == (
        "Healthy",
        "DeviceNodesMissing",
        "There is no /dev/nvidia1.",
    )


def test_an_old_driver_that_tells_less_is_enough(world: NvmlWorld, host: FolderHost) -> None:
    world.card(0)
    old = PynvmlNvml(loader(old=True))
    try:
        vendor = Nvidia(nvml=old)
        (found,) = vendor.health(vendor.discover(host).cards, host=host)
    finally:
        old.close()
    assert (found.health, found.cleared) == ("Healthy", False)


# Reports


class Hearing:
    """Waits for faults in a thread of its own, as the agent does."""

    def __init__(self, vendor: Nvidia, cards: tuple[Card, ...], host: FolderHost) -> None:
        self.heard: list[tuple[CardFault, ...] | None] = []
        self._stop = threading.Event()
        self._vendor, self._cards, self._host = vendor, cards, host
        self.heard.append(self._work())  # registers
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _work(self) -> tuple[CardFault, ...] | None:
        return self._vendor.wait_for_faults(self._cards, host=self._host, timeout_s=0.05)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.heard.append(self._work())

    def faults(self, count: int) -> list[CardFault]:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = [fault for faults in list(self.heard) for fault in faults or ()]
            if len(found) >= count:
                return found
            time.sleep(0.005)
        raise AssertionError(f"{count} faults were expected, {self.heard} was heard")

    def end(self) -> None:
        self._stop.set()
        self._thread.join(10)


@pytest.fixture
def hearing(vendor: Nvidia, cards: tuple[Card, ...], host: FolderHost) -> Iterator[Hearing]:
    found = Hearing(vendor, cards, host)
    yield found
    found.end()


def test_nvidia_reports_faults(vendor: Nvidia) -> None:
    assert isinstance(vendor, FaultSource)


def test_an_xid_is_a_fault_of_the_card_that_had_it(
    hearing: Hearing, world: NvmlWorld, cards: tuple[Card, ...]
) -> None:
    world.xids = [(1, 119)]
    world.write()
    (fault,) = hearing.faults(1)
    assert (fault.name, fault.reason, fault.xid, fault.certain) == (cards[1].name, "Xid119", 119, True)
    assert "GSP" in fault.message


def test_a_double_bit_error_is_a_fault(hearing: Hearing, world: NvmlWorld, cards: tuple[Card, ...]) -> None:
    world.double_bits = [0]
    world.write()
    (fault,) = hearing.faults(1)
    assert (fault.name, fault.reason, fault.certain) == (cards[0].name, "DoubleBitError", True)


def test_an_xid_that_a_state_tells_makes_the_state_be_asked_for(hearing: Hearing, world: NvmlWorld) -> None:
    world.xids = [(0, 63)]
    world.write()
    until = time.monotonic() + 60
    while None not in hearing.heard and time.monotonic() < until:
        time.sleep(0.005)
    assert None in hearing.heard
    world.xids = [(0, 63), (0, 63), (0, 74)]
    world.write()
    (fault,) = hearing.faults(1)
    assert fault.xid == 74


def test_reports_are_heard_again_after_the_driver_was_away(
    hearing: Hearing, world: NvmlWorld, vendor: Nvidia, cards: tuple[Card, ...], host: FolderHost
) -> None:
    hearing.end()
    world.card(0, error="9")
    assert vendor.health(cards[:1], host=host)[0].reason == "DriverMissing"
    world.card(0, error="0")
    again = Hearing(vendor, cards, host)
    world.xids = [(0, 79)]
    world.write()
    assert again.faults(1)[0].xid == 79
    again.end()


def test_what_waits_already_is_heard_at_once_and_no_more_than_so_much(
    host: FolderHost, cards: tuple[Card, ...]
) -> None:
    class Queue:
        left = 3000

        def wait(self, uuids: Sequence[str], *, timeout_s: float) -> NvmlEvent | None:
            self.left -= 1
            return NvmlEvent(uuid=UUIDS[0], xid=79 if self.left == 2001 else 13) if self.left else None

    queue = Queue()
    vendor = Nvidia(nvml=queue)  # type: ignore[arg-type]
    found = vendor.wait_for_faults(cards, host=host, timeout_s=5) or ()
    assert (len(found), {fault.xid for fault in found}) == (1001, {13, 79})
    queue.left = 3
    assert len(vendor.wait_for_faults(cards, host=host, timeout_s=5) or ()) == 2


def test_without_a_card_to_listen_to_a_wait_still_takes_its_time(vendor: Nvidia, host: FolderHost) -> None:
    began = time.monotonic()
    assert vendor.wait_for_faults([], host=host, timeout_s=0.05) == ()
    assert time.monotonic() - began >= 0.05


def test_a_wait_of_which_nvml_says_no_more_than_that_something_is_lost_makes_all_be_asked(
    host: FolderHost, cards: tuple[Card, ...]
) -> None:
    class Lost:
        def wait(self, uuids: object, *, timeout_s: float) -> None:
            raise NvmlError("GPU is lost", lost=True)

    assert Nvidia(nvml=Lost()).wait_for_faults(cards, host=host, timeout_s=0.01) is None  # type: ignore[arg-type]


def test_cards_are_registered_anew_after_a_while(
    nvml: PynvmlNvml, world: NvmlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driver.vendors.nvml.REGISTER_AGAIN_S", 0.0)
    world.card(0, lost="1")
    assert nvml.wait([UUIDS[0]], timeout_s=0.01) is None
    world.card(0, lost="0")
    nvml.wait([UUIDS[0]], timeout_s=0.01)
    monkeypatch.setattr("driver.vendors.nvml.REGISTER_AGAIN_S", 60.0)
    world.xids = [(0, 79)]
    world.write()
    event = nvml.wait([UUIDS[0]], timeout_s=60)
    assert event is not None
    assert (event.uuid, event.xid) == (UUIDS[0], 79)


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 68, 109])
def test_an_xid_that_is_an_applications_own_is_told_as_that(xid: int) -> None:
    fault = fault_of(xid, name="a")
    assert fault is not None
    assert fault.of_application
    assert not fault.certain


@pytest.mark.parametrize("xid", [1, 48, 79, 1000000])
def test_every_other_xid_is_the_cards_also_one_that_nobody_has_heard_of(xid: int) -> None:
    fault = fault_of(xid, name="a")
    assert fault is not None
    assert not fault.of_application
    assert fault.reason == f"Xid{xid}"


def test_an_xid_is_of_one_kind() -> None:
    assert APPLICATION.isdisjoint(TOLD_BY_STATE | CERTAIN)
    assert CERTAIN.isdisjoint(TOLD_BY_STATE)
