from __future__ import annotations

import ctypes
import subprocess
import sys
from functools import partial
from typing import Any

import pynvml
import pytest

from driver.vendors import nvml as module
from driver.vendors.nvml import REGISTER_AGAIN_S, PynvmlNvml
from driver.vendors.nvml_answers import NvmlCard, NvmlError
from tests.driver.vendors.nvml_world import UUIDS, NvmlWorld, loader


def test_a_card_is_told_with_all_its_facts(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0, minor="3")
    assert nvml.listing().cards == (
        NvmlCard(
            uuid=UUIDS[0],
            name="NVIDIA A100-SXM4-40GB",
            memory_bytes=40960 << 20,
            pci_bus_id="00000000:3B:00.0",
            minor=3,
            architecture="Ampere",
            mig=False,
        ),
    )
    assert nvml.listing().driver_version == "535.261.03"


def test_a_card_is_found_by_its_uuid_with_the_minor_number_that_it_has_now(
    nvml: PynvmlNvml, world: NvmlWorld
) -> None:
    world.card(0)
    world.card(1)
    assert nvml.card(UUIDS[1]).minor == 1
    world.card(1, minor="0")
    assert nvml.card(UUIDS[1]).minor == 0


def test_a_lost_card_is_a_problem_and_the_others_are_listed(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0, lost="1")
    world.card(1)
    listing = nvml.listing()
    assert [card.uuid for card in listing.cards] == [UUIDS[1]]
    assert len(listing.problems) == 1
    assert "number 0" in listing.problems[0]
    assert "lost" in listing.problems[0].lower()


def test_asking_for_a_lost_card_says_that_it_is_lost(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0)
    nvml.card(UUIDS[0])
    world.card(0, lost="1")
    with pytest.raises(NvmlError) as failed:
        nvml.card(UUIDS[0])
    assert failed.value.lost
    assert not failed.value.driver_missing


def test_a_card_that_comes_back_is_told_again(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0, lost="1")
    assert nvml.listing().cards == ()
    world.card(0, lost="0")
    assert len(nvml.listing().cards) == 1


def test_an_unknown_uuid_is_an_error_of_that_card_alone(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0)
    with pytest.raises(NvmlError) as failed:
        nvml.card("GPU-other")
    assert not failed.value.lost
    assert not failed.value.driver_missing
    assert len(nvml.listing().cards) == 1


def test_a_driver_that_comes_late_is_found(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.init = 9
    world.card(0)
    with pytest.raises(NvmlError) as failed:
        nvml.listing()
    assert failed.value.driver_missing
    world.init = 0
    world.write()
    assert len(nvml.listing().cards) == 1


def test_a_driver_that_was_unloaded_and_came_back_is_found(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0, error="9")
    with pytest.raises(NvmlError) as failed:
        nvml.listing()
    assert failed.value.driver_missing
    world.card(0, error="0")
    assert len(nvml.listing().cards) == 1


def test_a_session_that_something_else_has_ended_is_opened_anew(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0)
    nvml.listing()
    pynvml.nvmlShutdown()
    with pytest.raises(NvmlError):
        nvml.listing()
    assert len(nvml.listing().cards) == 1


def test_a_missing_library_is_a_missing_driver() -> None:
    def load() -> ctypes.CDLL:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    with pytest.raises(NvmlError, match="cannot be loaded") as failed:
        PynvmlNvml(load).listing()
    assert failed.value.driver_missing


@pytest.mark.parametrize(("mode", "mig"), [("-1", False), ("0", False), ("1", True)])
def test_mig_mode_is_told(nvml: PynvmlNvml, world: NvmlWorld, mode: str, mig: bool) -> None:
    world.card(0, mig=mode)
    assert nvml.listing().cards[0].mig is mig


def test_an_old_driver_without_newer_functions_is_enough(world: NvmlWorld) -> None:
    world.card(0)
    old = PynvmlNvml(loader(old=True))
    try:
        (card,) = old.listing().cards
    finally:
        old.close()
    assert (card.architecture, card.mig) == ("", False)


def test_an_architecture_that_pynvml_does_not_know_is_left_out(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0, arch="99")
    world.card(1, arch="4294967295")
    assert [card.architecture for card in nvml.listing().cards] == ["", ""]


def test_xids_of_the_mock_reach_pynvml(nvml: PynvmlNvml, world: NvmlWorld) -> None:
    world.card(0)
    world.card(1)
    nvml.listing()
    events = pynvml.nvmlEventSetCreate()
    second = pynvml.nvmlDeviceGetHandleByUUID(UUIDS[1])
    pynvml.nvmlDeviceRegisterEvents(second, pynvml.nvmlEventTypeXidCriticalError, events)
    world.xids = [(0, 13), (1, 79)]
    world.write()
    event = pynvml.nvmlEventSetWait_v2(events, 1000)
    assert (event.eventData, pynvml.nvmlDeviceGetUUID(event.device)) == (79, UUIDS[1])
    with pytest.raises(pynvml.NVMLError_Timeout):
        pynvml.nvmlEventSetWait_v2(events, 1)
    pynvml.nvmlEventSetFree(events)


def test_pynvml_is_not_imported_before_the_first_question() -> None:
    code = "import sys, driver.vendors.nvidia; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cards_are_registered_for_events_anew_after_a_while_and_no_earlier(
    nvml: PynvmlNvml, world: NvmlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.card(0)
    made, now = list[float](), [0.0]
    create = pynvml.nvmlEventSetCreate

    def counted() -> Any:
        made.append(now[0])
        return create()

    monkeypatch.setattr(pynvml, "nvmlEventSetCreate", counted)
    # A card that was reset has forgotten who listens to it.
    monkeypatch.setattr(module, "NvmlEvents", partial(module.NvmlEvents, clock=lambda: now[0]))
    for moment in (0.0, 1.0, REGISTER_AGAIN_S - 1, REGISTER_AGAIN_S, REGISTER_AGAIN_S + 1):
        now[0] = moment
        nvml.wait([UUIDS[0]], timeout_s=0.001)
    assert made == [0.0, REGISTER_AGAIN_S]
    world.xids = [(0, 79)]
    world.write()
    event = nvml.wait([UUIDS[0]], timeout_s=60)
    assert event is not None
    assert (event.uuid, event.xid) == (UUIDS[0], 79)
