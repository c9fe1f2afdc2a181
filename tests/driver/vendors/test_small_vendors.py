"""What only some vendors have: other versions of programs, parts of cards, places that are named alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.errors import DeviceGoneError
from driver.host import CommandResult
from driver.vendors.base import Discovery
from driver.vendors.biren import Biren
from driver.vendors.catalogue import VENDORS
from driver.vendors.pci_vendor import DeviceNodesMissingError
from driver.vendors.registry import NodeVendors
from tests.driver.vendors.fixture_node import FixtureNode, read_node
from tests.support.folder_host import FolderHost


def discover(node: FixtureNode, root: Path) -> Discovery:
    host = node.host(root)
    return node.vendor(host).discover(host)


def test_a_biren_card_that_is_cut_into_parts_is_listed_with_the_reason(tmp_path: Path) -> None:
    node = read_node("biren")
    host, vendor = node.host(tmp_path), Biren()
    card = vendor.discover(host).cards[0]
    host.link("/sys/class/biren/card_2/device", "/sys/devices/pci0000:16/0000:16:01.0/0000:17:00.0")
    assert "2 parts by SVI" in vendor.discover(host).cards[0].unpublished
    with pytest.raises(DeviceGoneError, match="2 parts by SVI"):
        vendor.edits(card, host=host)


def test_a_biren_card_whose_driver_is_not_loaded_for_a_moment_makes_prepare_try_again(tmp_path: Path) -> None:
    host, vendor = read_node("biren").host(tmp_path), Biren()
    card = vendor.discover(host).cards[0]
    host.remove_tree("/sys/class/biren")
    with pytest.raises(DeviceNodesMissingError, match="has no entry"):
        vendor.edits(card, host=host)


def test_entries_of_birens_class_that_are_no_cards_are_not_looked_at(tmp_path: Path) -> None:
    host = FolderHost(tmp_path)
    host.link("/sys/class/biren/biren-m/device", "/sys/devices/virtual")
    host.link("/sys/class/biren/card_0/device", "/sys/devices/virtual")
    assert Biren().discover(host) == Discovery(cards=())


def test_hygons_cards_without_their_program_have_what_sysfs_tells(tmp_path: Path) -> None:
    node = read_node("hygon")
    node.failing = {"hy-smi": CommandResult(returncode=1, stdout="", stderr="lost")}
    found = discover(node, tmp_path)
    (card,) = found.cards
    assert (card.name, card.model, card.memory_mib) == ("pci-0000-31-00-0", "Hygon 6210", 65520)
    assert "0000:9f:00.0" in found.problems[0]
    assert "hy-smi ended with 1: lost" in found.problems[0]


def test_metaxs_table_of_older_versions_is_read_too(tmp_path: Path) -> None:
    node = read_node("metax")
    node.answers["mx-smi",] = (
        "| MX-SMI 2.1.6                        Kernel Mode Driver Version: 2.9.8                |\n"
        "| GPU         NAME        | Bus-id              | GPU-Util             |\n"
        "| 0           MXC500      | 0000:01:00.0        | 0%                   |\n"
        "| 35C         56W         | 622/65536 MiB       |                      |\n"
        "| 1           MXC500      | 0000:41:00.0        | 0%                   |\n"
        "| 35C         56W         | 622/65536 MiB       |                      |\n"
    )
    found = discover(node, tmp_path)
    assert [card.memory_mib for card in found.cards] == [65536, 65536]
    assert {card.driver_version for card in found.cards} == {"2.9.8"}


def test_metaxs_memory_of_one_card_is_not_taken_for_anothers(tmp_path: Path) -> None:
    node = read_node("metax")
    table = node.answers["mx-smi",]
    lines = [line for line in table.splitlines() if "666/65536" not in line]
    at = next(number for number, line in enumerate(lines) if "0000:41:00.0" in line)
    lines.insert(
        at + 1, "| 29W / 225W       | 37C          P0 | 666/65536 MiB       | Available            |"
    )
    node.answers["mx-smi",] = "\n".join(lines)
    assert [card.pci_bus_id for card in discover(node, tmp_path).cards] == ["0000:41:00.0"]


def test_intels_memory_of_all_tiles_counts_and_half_of_them_is_not_enough(tmp_path: Path) -> None:
    node = read_node("intel")
    node.files = {path: text for path, text in node.files.items() if "tile0" not in path}
    place = "/sys/devices/pci0000:b0/0000:b0:02.0/0000:b1:00.0"
    node.files |= {f"{place}/tile{number}/memory/physical_vram_size_bytes": f"{8 << 30}" for number in (0, 1)}
    assert [card.memory_mib for card in discover(node, tmp_path / "both").cards][2] == 16384
    node.files[f"{place}/tile1/memory/physical_vram_size_bytes"] = ""
    assert len(discover(node, tmp_path / "half").cards) == 2


def test_intels_memory_of_all_regions_that_the_kernel_counts_is_the_cards(tmp_path: Path) -> None:
    node = read_node("intel")
    path = "/sys/fs/cgroup/dmem.capacity"
    node.files[path] += "drm/0000:9a:00.0/vram1 51539607552\n"
    memory = {card.pci_bus_id: card.memory_mib for card in discover(node, tmp_path).cards}
    assert memory["0000:9a:00.0"] == 2 * 49152


def test_a_metax_card_comes_with_the_nodes_that_newer_drivers_have(tmp_path: Path) -> None:
    node = read_node("metax")
    node.devices += ["/dev/mxnd", "/dev/mxgd"]
    host = node.host(tmp_path)
    vendor = node.vendor(host)
    (card, _) = vendor.discover(host).cards
    nodes = {one.path for one in vendor.edits(card, host=host).device_nodes}
    assert {"/dev/mxcd", "/dev/mxnd", "/dev/mxgd"} < nodes


def test_intels_graphics_of_a_processor_are_neither_cards_nor_problems(tmp_path: Path) -> None:
    node = read_node("intel")
    assert any("0000:00:02.0" in path for path in node.files)
    found = discover(node, tmp_path)
    assert "0000:00:02.0" not in {card.pci_bus_id for card in found.cards}
    assert found.problems == ()


def test_a_card_that_a_program_tells_without_a_uuid_is_left_out_where_uuids_name_cards(
    tmp_path: Path,
) -> None:
    node = read_node("iluvatar")
    (question, answer), *_ = node.answers.items()
    node.answers[question] = answer.replace("GPU-9b3a0c4d-1111-5222-8333-000000000001", "")
    found = discover(node, tmp_path)
    assert [card.pci_bus_id for card in found.cards] == ["0000:8b:00.0"]
    assert "it has no UUID" in found.problems[0]


def test_cards_that_a_program_does_not_list_are_told_together(tmp_path: Path) -> None:
    node = read_node("neuron")
    (question, _), *_ = node.answers.items()
    node.answers[question] = "[]"
    found = discover(node, tmp_path)
    assert found.cards == ()
    (problem,) = found.problems
    assert problem == (
        "AWS Neuron cards at 0000:00:1e.0, 0000:00:1f.0 are left out. "
        "The vendor's driver does not list what is on the PCI bus."
    )


def test_vendors_are_asked_in_one_order_for_ever(tmp_path: Path) -> None:
    names = [facts.name for facts in VENDORS]
    assert names == ["nvidia", *sorted(set(names) - {"nvidia"})]
    host = FolderHost(tmp_path)
    for number, vendor in enumerate(("0x8086", "0x1002", "0x19e5")):
        host.add(f"/sys/bus/pci/devices/0000:0{number}:00.0/vendor", vendor)
    present = NodeVendors(driver_root="/", host=host)()
    assert [vendor.name for vendor in present] == ["nvidia", "amd", "ascend", "intel"]
