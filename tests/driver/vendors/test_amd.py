from __future__ import annotations

from pathlib import Path

import pytest

from driver.cards import Card
from driver.errors import DeviceGoneError
from driver.vendors.amd import Amd
from driver.vendors.pci_vendor import DeviceNodesMissingError
from tests.driver.vendors.fixture_node import read_node
from tests.support.folder_host import FolderHost

FIRST = "/sys/bus/pci/devices/0000:05:00.0"


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    return read_node("amd").host(tmp_path)


def first(host: FolderHost) -> Card:
    return Amd().discover(host).cards[0]


def write(host: FolderHost, name: str, text: str) -> None:
    host.local(host.resolve(f"{FIRST}/{name}")).write_text(text)


def test_a_card_that_another_driver_holds_is_left_out_with_the_drivers_name(host: FolderHost) -> None:
    host.make_dir("/sys/bus/pci/drivers/vfio-pci", mode=0o755)
    place = host.resolve(FIRST)
    host.local(f"{place}/driver").unlink()
    host.link(f"{place}/driver", "/sys/bus/pci/drivers/vfio-pci")
    found = Amd().discover(host)
    assert len(found.cards) == 1
    assert "0000:05:00.0" in found.problems[0]
    assert "bound to vfio-pci and not to amdgpu" in found.problems[0]


@pytest.mark.parametrize("mode", ["DPX", "cpx"])
def test_a_card_that_is_cut_into_partitions_is_listed_with_the_reason(host: FolderHost, mode: str) -> None:
    write(host, "current_compute_partition", f"{mode}\n")
    assert f"mode {mode.upper()}" in first(host).unpublished


def test_a_card_that_is_cut_after_it_was_offered_is_not_given_out(host: FolderHost) -> None:
    card = first(host)
    write(host, "current_compute_partition", "CPX\n")
    with pytest.raises(DeviceGoneError, match="mode CPX"):
        Amd().edits(card, host=host)


def test_a_card_of_a_driver_without_partitions_is_whole(host: FolderHost) -> None:
    for name in ("current_compute_partition", "current_memory_partition"):
        host.local(host.resolve(f"{FIRST}/{name}")).unlink()
    card = first(host)
    assert (card.unpublished, card.extra_attributes) == ("", {})


def test_a_card_without_a_unique_id_is_named_by_its_place(host: FolderHost) -> None:
    host.local(host.resolve(f"{FIRST}/unique_id")).unlink()
    card = first(host)
    assert (card.name, card.uuid) == ("pci-0000-05-00-0", "")
    assert Amd().edits(card, host=host).device_nodes


def test_another_card_in_a_cards_place_is_not_given_out_and_the_card_is_missing(host: FolderHost) -> None:
    card = first(host)
    write(host, "unique_id", "0x1\n")
    with pytest.raises(DeviceGoneError, match=r"Another card is at 0000:05:00\.0"):
        Amd().edits(card, host=host)
    (health,) = Amd().health([card], host=host)
    assert (health.reason, health.message) == ("CardMissing", "Another card is in its place.")


def test_a_card_that_the_compute_driver_does_not_list_is_not_offered(host: FolderHost) -> None:
    host.remove_tree("/sys/class/kfd/kfd/topology/nodes/1")
    assert "amdkfd" in first(host).unpublished


def test_a_card_whose_topology_is_hidden_is_offered(host: FolderHost) -> None:
    host.add("/sys/class/kfd/kfd/topology/nodes/1/properties", "")
    host.local("/sys/class/kfd/kfd/topology/nodes/1/properties").unlink()
    card = first(host)
    assert (card.unpublished, card.architecture) == ("", "")


def test_a_container_waits_for_the_render_node(host: FolderHost) -> None:
    card = first(host)
    host.remove_tree(f"{host.resolve(FIRST)}/drm")
    with pytest.raises(DeviceNodesMissingError, match="no render node"):
        Amd().edits(card, host=host)


def test_uncorrectable_memory_errors_are_told(host: FolderHost) -> None:
    told = [one.message for one in Amd().health(Amd().discover(host).cards, host=host)]
    assert [message.partition(" ")[0] for message in told] == ["0", "3"]
