from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from driver.cards import Card
from driver.errors import DeviceGoneError
from driver.partitions.base import (
    IN_PARTITION_MODE,
    PartitionBusyError,
    PartitionNoRoomError,
    PartitionRefusedError,
    PartitionTarget,
)
from driver.places import Place
from driver.vendors import nvml_mig
from driver.vendors.nvidia import Nvidia
from driver.vendors.nvidia_files import DriverFilesMissingError, DriverNotReadyError
from driver.vendors.nvidia_mig import NvidiaMig
from driver.vendors.nvml import PynvmlNvml
from driver.vendors.nvml_answers import NvmlError
from tests.driver.vendors.driver_root import add_device_nodes, recorded_root
from tests.driver.vendors.mig_world import (
    P_1G,
    P_1G_ME,
    P_2G,
    P_3G,
    P_4G,
    P_7G,
    add_capabilities,
    compute_instances,
    gpu_instances,
    part,
    state,
)
from tests.driver.vendors.nvml_world import UUIDS, NvmlWorld, loader
from tests.support.folder_host import FolderHost

CARD = part(UUIDS[0], 0, 0, 1).partition("-mig-")[0]


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    found = FolderHost(tmp_path / "root")
    add_device_nodes(found, 0, 1)
    add_capabilities(found)
    recorded_root(found)
    return found


@pytest.fixture
def vendor(nvml: PynvmlNvml, world: NvmlWorld) -> Nvidia:
    world.card(0, mig="1")
    return Nvidia(nvml=nvml)


def forget(host: FolderHost, path: str) -> None:
    host.local(path).unlink()


def target(profile: int, start: int, size: int) -> PartitionTarget:
    place = Place(card=CARD, kind="mig", profile=profile, start=start, size=size)
    return PartitionTarget(place=place, card_uuid=UUIDS[0])


def modes(nvml: PynvmlNvml) -> tuple[bool, bool]:
    """Whether the first card is in MIG mode now, and whether it will be after a reset."""
    return nvml.on_card(
        UUIDS[0],
        lambda lib, handle: (bool(nvml_mig.mig_mode(lib, handle)), nvml_mig.pending_mode(lib, handle)),
    )


def device(vendor: Nvidia, host: FolderHost, name: str) -> Card:
    return next(card for card in vendor.discover(host).cards if card.name == name)


def test_every_place_of_every_profile_is_a_device_beside_the_card(vendor: Nvidia, host: FolderHost) -> None:
    cards = vendor.discover(host).cards
    assert cards[0].name == CARD
    assert cards[0].unpublished == IN_PARTITION_MODE
    places = sorted((card.partition.profile, card.name) for card in cards if card.partition)
    assert len(places) == 7 + 7 + 4 + 3 + 2 + 1 + 1
    assert ("3g.20gb", part(UUIDS[0], P_3G, 4, 4)) in places
    assert not any(card.partition.exists for card in cards if card.partition)


def test_a_card_out_of_mig_mode_tells_the_same_places(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld
) -> None:
    before = [card.name for card in vendor.discover(host).cards]
    world.card(0, mig="0")
    found = vendor.discover(host).cards
    assert [card.name for card in found] == before
    assert not found[0].unpublished


def test_a_card_without_mig_has_no_parts(vendor: Nvidia, host: FolderHost, world: NvmlWorld) -> None:
    world.card(0, mig="-1")
    (card,) = vendor.discover(host).cards
    assert not card.counters


def test_a_driver_from_before_mig_has_no_parts(world: NvmlWorld, host: FolderHost) -> None:
    world.card(0)
    old = PynvmlNvml(loader(old=True))
    try:
        (card,) = Nvidia(nvml=old).discover(host).cards
    finally:
        old.close()
    assert not card.counters


def test_an_instance_takes_its_slots_and_its_engines_of_what_the_card_has(
    vendor: Nvidia, host: FolderHost
) -> None:
    cards = {card.name: card for card in vendor.discover(host).cards}
    half = cards[part(UUIDS[0], P_3G, 4, 4)]
    assert half.counters["slot-4"] == half.counters["slot-7"] == 1
    assert "slot-3" not in half.counters
    assert half.counters["decoders"] == 2
    assert cards[CARD].counters["decoders"] == 5
    assert set(half.counters) <= set(cards[CARD].counters)


def test_memory_and_compute_are_those_of_the_profile_and_rounded_down(
    vendor: Nvidia, host: FolderHost
) -> None:
    half = device(vendor, host, part(UUIDS[0], P_3G, 4, 4))
    assert (half.memory_mib, half.cores) == (19968, 42)
    assert half.partition is not None
    assert (half.partition.profile, half.partition.card_uuid) == ("3g.20gb", UUIDS[0])
    assert device(vendor, host, part(UUIDS[0], P_7G, 0, 8)).cores == 100


def test_an_instance_that_is_made_is_there_and_complete(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld
) -> None:
    made = vendor.make_instance(target(P_3G, 4, 4), host=host)
    assert made.complete
    assert made.uuid.startswith("MIG-")
    assert [(one.profile, one.start, one.size) for one in gpu_instances(world)] == [(P_3G, 4, 4)]
    assert vendor.find_instance(target(P_3G, 4, 4), host=host) == made
    found = device(vendor, host, part(UUIDS[0], P_3G, 4, 4))
    assert found.partition is not None
    assert found.partition.exists


def test_making_an_instance_that_is_there_makes_no_second_one(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld
) -> None:
    made = vendor.make_instance(target(P_2G, 2, 2), host=host)
    assert vendor.make_instance(target(P_2G, 2, 2), host=host) == made
    assert (len(gpu_instances(world)), compute_instances(world)) == (1, 1)


def test_a_card_is_taken_into_mig_mode_for_its_first_instance_and_out_of_it_to_be_whole(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld
) -> None:
    world.card(0, mig="0")
    made = vendor.make_instance(target(P_1G, 6, 1), host=host)
    assert vendor.discover(host).cards[0].unpublished == IN_PARTITION_MODE
    with pytest.raises(PartitionBusyError, match="has 1 MIG instances"):
        vendor.make_whole(UUIDS[0], host=host)
    vendor.remove_instance(made, host=host)
    vendor.make_whole(UUIDS[0], host=host)
    assert not vendor.discover(host).cards[0].unpublished
    vendor.make_whole(UUIDS[0], host=host)


@pytest.mark.parametrize("why", ["busy", "reset"])
def test_a_card_that_is_in_use_or_needs_a_reset_is_not_switched(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld, why: str
) -> None:
    world.card(0, mig="0", **{why: "1"})
    with pytest.raises(PartitionBusyError, match="into MIG mode") as refused:
        vendor.make_instance(target(P_1G, 6, 1), host=host)
    assert refused.value.retriable


@pytest.mark.parametrize("why", ["busy", "reset"])
def test_a_mode_that_was_refused_is_not_left_for_the_cards_next_reset(
    vendor: Nvidia, host: FolderHost, nvml: PynvmlNvml, world: NvmlWorld, why: str
) -> None:
    world.card(0, mig="0", **{why: "1"})
    with pytest.raises(PartitionBusyError):
        vendor.make_instance(target(P_1G, 6, 1), host=host)
    assert modes(nvml) == (False, False)
    world.card(0, mig="0", **{why: "0"})
    made = vendor.make_instance(target(P_1G, 6, 1), host=host)
    vendor.remove_instance(made, host=host)
    world.card(0, **{why: "1"})
    with pytest.raises(PartitionBusyError, match="out of MIG mode"):
        vendor.make_whole(UUIDS[0], host=host)
    assert modes(nvml) == (True, True)


@pytest.mark.parametrize("mig", [False, True])
def test_a_mode_that_a_killed_agent_left_pending_is_taken_back(
    vendor: Nvidia, host: FolderHost, nvml: PynvmlNvml, world: NvmlWorld, *, mig: bool
) -> None:
    state(world).write_text(f"mode {UUIDS[0]} {int(mig)} {int(not mig)}\n")
    assert modes(nvml) == (mig, not mig)
    if mig:
        vendor.make_instance(target(P_1G, 6, 1), host=host)
    else:
        vendor.make_whole(UUIDS[0], host=host)
    assert modes(nvml) == (mig, mig)


def test_slots_that_others_have_taken_are_refused_by_name_so_that_the_pod_is_told(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld
) -> None:
    vendor.make_instance(target(P_4G, 0, 4), host=host)
    with pytest.raises(PartitionNoRoomError, match="has no room") as refused:
        vendor.make_instance(target(P_3G, 0, 4), host=host)
    assert not refused.value.retriable
    assert "nvidia-smi mig -lgi" in refused.value.remedy
    assert [one.profile for one in gpu_instances(world)] == [P_4G]


def test_an_instance_in_use_is_not_removed(vendor: Nvidia, host: FolderHost, world: NvmlWorld) -> None:
    made = vendor.make_instance(target(P_4G, 0, 4), host=host)
    world.card(0, busy="1")
    with pytest.raises(PartitionBusyError):
        vendor.remove_instance(made, host=host)
    world.card(0, busy="0")
    vendor.remove_instance(made, host=host)
    assert not gpu_instances(world)
    vendor.remove_instance(made, host=host)


def test_a_place_that_the_card_does_not_have_is_gone(vendor: Nvidia, host: FolderHost) -> None:
    with pytest.raises(DeviceGoneError, match="no place"):
        vendor.make_instance(target(P_3G, 2, 4), host=host)


def test_a_card_that_is_lost_is_gone(vendor: Nvidia, host: FolderHost, world: NvmlWorld) -> None:
    world.card(0, lost="1")
    with pytest.raises(DeviceGoneError):
        vendor.find_instance(target(P_3G, 4, 4), host=host)


def test_a_driver_that_goes_is_waited_for(vendor: Nvidia, host: FolderHost, world: NvmlWorld) -> None:
    world.card(0, error="9")
    with pytest.raises(DriverNotReadyError) as refused:
        vendor.find_instance(target(P_3G, 4, 4), host=host)
    assert refused.value.retriable


def test_what_the_driver_does_not_permit_is_refused(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld
) -> None:
    world.card(0, error="4")
    with pytest.raises(PartitionRefusedError, match="refuses to change"):
        vendor.make_instance(target(P_3G, 4, 4), host=host)


def test_a_container_gets_the_cards_node_and_the_two_that_open_its_instance(
    vendor: Nvidia, host: FolderHost
) -> None:
    made = vendor.make_instance(target(P_3G, 4, 4), host=host)
    edits = vendor.instance_edits(made, host=host)
    # gi1 of gpu0, and ci0 in it.
    assert [node.path for node in edits.device_nodes] == [
        "/dev/nvidia-caps/nvidia-cap13",
        "/dev/nvidia-caps/nvidia-cap14",
    ]
    base = vendor.edits(device(vendor, host, part(UUIDS[0], P_3G, 4, 4)), host=host)
    paths = [node.path for node in base.device_nodes]
    assert "/dev/nvidia0" in paths
    assert "/dev/nvidiactl" in paths
    assert base.env == {"NVIDIA_VISIBLE_DEVICES": "void"}


def test_an_instance_whose_nodes_are_missing_is_refused_by_name(vendor: Nvidia, host: FolderHost) -> None:
    made = vendor.make_instance(target(P_3G, 4, 4), host=host)
    forget(host, "/dev/nvidia-caps/nvidia-cap14")
    with pytest.raises(DriverFilesMissingError, match="no /dev/nvidia-caps/nvidia-cap14"):
        vendor.instance_edits(made, host=host)
    forget(host, "/proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access")
    with pytest.raises(DriverFilesMissingError, match="gi1/ci0/access"):
        vendor.instance_edits(made, host=host)


@pytest.mark.parametrize(
    "left",
    [
        [],
        [f"gi {UUIDS[0]} 1 {P_3G} 4 4"],
        [f"gi {UUIDS[0]} 1 {P_3G} 4 4", f"ci {UUIDS[0]} 1 0 0 1", f"ci {UUIDS[0]} 1 1 0 2"],
        [f"gi {UUIDS[0]} 1 {P_3G} 0 4", f"ci {UUIDS[0]} 1 0 2 77"],
    ],
    ids=["gone", "without its inner half", "divided", "another under its number"],
)
def test_an_instance_that_changes_while_it_is_asked_about_is_waited_for(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld, left: list[str]
) -> None:
    made = vendor.make_instance(target(P_3G, 4, 4), host=host)
    state(world).write_text("".join(f"{line}\n" for line in [f"mode {UUIDS[0]} 1", *left]))
    with pytest.raises(PartitionBusyError, match="removed or changed") as refused:
        vendor.instance_edits(made, host=host)
    assert refused.value.retriable


def test_an_instance_that_somebody_divided_is_told_and_not_used(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld
) -> None:
    path = world.path.with_name(f"{world.path.name}.mig")
    uuid = UUIDS[0]
    path.write_text(f"gi {uuid} 1 {P_3G} 4 4\nci {uuid} 1 0 0 1\nci {uuid} 1 1 0 2\n")
    found = device(vendor, host, part(uuid, P_3G, 4, 4))
    assert "divided into compute instances" in found.unpublished
    path.write_text(f"gi {uuid} 1 {P_3G} 4 4\n")
    assert "no compute instance" in device(vendor, host, part(uuid, P_3G, 4, 4)).unpublished


def test_the_media_engines_let_one_such_instance_stand_on_a_card(vendor: Nvidia, host: FolderHost) -> None:
    cards = {card.name: card for card in vendor.discover(host).cards}
    engine = cards[part(UUIDS[0], P_1G_ME, 0, 1)].counters["ofa-engines"]
    assert 2 * engine > cards[CARD].counters["ofa-engines"]


def test_what_is_wrong_with_a_card_is_wrong_with_its_parts(
    vendor: Nvidia, host: FolderHost, world: NvmlWorld
) -> None:
    cards = vendor.discover(host).cards
    world.card(0, remap="2")
    told = vendor.health(cards, host=host)
    assert {one.reason for one in told} == {"RowRemapFailed"}
    assert [one.name for one in told] == [card.name for card in cards]


def test_an_xid_of_a_card_is_one_of_all_its_parts(vendor: Nvidia, host: FolderHost, world: NvmlWorld) -> None:
    cards = vendor.discover(host).cards
    assert vendor.wait_for_faults(cards, host=host, timeout_s=0.0) == ()
    world.xids.append((0, 79))
    world.write()
    faults = vendor.wait_for_faults(cards, host=host, timeout_s=60.0)
    assert faults is not None
    assert {fault.name for fault in faults} == {card.name for card in cards}


def test_one_bad_answer_takes_no_device_away(
    vendor: Nvidia, host: FolderHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = vendor.discover(host).cards

    def failing(*_: object, **__: object) -> None:
        raise NvmlError("no answer")

    monkeypatch.setattr(NvidiaMig, "cards", failing)
    found = vendor.discover(host)
    assert found.cards == before
    assert "cannot be listed: no answer" in found.problems[0]


def test_an_instance_that_goes_while_it_is_asked_about_is_not_there(
    vendor: Nvidia, host: FolderHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.make_instance(target(P_3G, 4, 4), host=host)
    vendor.make_instance(target(P_1G, 0, 1), host=host)
    real = pynvml.nvmlGpuInstanceGetInfo

    def going(instance: object) -> object:
        info = real(instance)
        if info.profileId == P_3G:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return info

    monkeypatch.setattr(pynvml, "nvmlGpuInstanceGetInfo", going)
    there = [card.name for card in vendor.discover(host).cards if card.partition and card.partition.exists]
    assert there == [part(UUIDS[0], P_1G, 0, 1)]
