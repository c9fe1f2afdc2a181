from __future__ import annotations

import ctypes
from functools import partial
from pathlib import Path

import pytest

from driver.cards import Card
from driver.errors import DeviceGoneError, InvalidInputError
from driver.partitions.base import IN_PARTITION_MODE
from driver.vendors.nvidia import (
    Nvidia,
    has_hardware,
    load_nvml,
    normal_pci_address,
)
from driver.vendors.nvidia_files import DriverNotReadyError
from driver.vendors.nvml import PynvmlNvml
from driver.vendors.registry import NodeVendors
from tests.driver.vendors.driver_root import add_device_nodes, recorded_root
from tests.driver.vendors.nvml_world import UUIDS, NvmlWorld, loader
from tests.support.folder_host import FolderHost

NAME = "nvidia-" + UUIDS[0].lower().removeprefix("gpu-")


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    found = FolderHost(tmp_path / "root")
    add_pci_device(found, "0000:3b:00.0")
    add_device_nodes(found, 0, 1)
    recorded_root(found)
    return found


@pytest.fixture
def vendor(nvml: PynvmlNvml) -> Nvidia:
    return Nvidia(nvml=nvml)


def add_pci_device(host: FolderHost, address: str, *, numa: str = "1", vendor: str = "0x10de") -> None:
    device = f"/sys/devices/pci0000:3a/0000:3a:00.0/{address}"
    for name, content in {"numa_node": numa, "vendor": vendor, "class": "0x030200"}.items():
        host.add(f"{device}/{name}", content + "\n")
    host.link(f"/sys/bus/pci/devices/{address}", f"../../../devices/pci0000:3a/0000:3a:00.0/{address}")


def one_card(vendor: Nvidia, host: FolderHost) -> Card:
    (card,) = vendor.discover(host).cards
    return card


def test_a_card_is_described_by_nvml_and_sysfs(vendor: Nvidia, world: NvmlWorld, host: FolderHost) -> None:
    world.card(0)
    assert one_card(vendor, host) == Card(
        name=NAME,
        vendor="nvidia",
        model="NVIDIA A100-SXM4-40GB",
        memory_bytes=40960 << 20,
        uuid=UUIDS[0],
        architecture="Ampere",
        driver_version="535.261.03",
        pci_bus_id="0000:3b:00.0",
        pcie_root="pci0000:3a",
        numa_node=1,
    )


@pytest.mark.parametrize("mode", ["1", "3"])
def test_a_card_that_refuses_a_second_process_is_known_as_that_and_told(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost, mode: str
) -> None:
    world.card(0, compute=mode)
    found = vendor.discover(host)
    assert [(card.one_process, card.unpublished) for card in found.cards] == [(True, "")]
    (problem,) = found.problems
    assert f"nvidia-smi -i {UUIDS[0]} -c DEFAULT" in problem


def test_a_card_that_refuses_every_process_is_not_offered(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0, compute="2")
    card = one_card(vendor, host)
    assert "PROHIBITED" in card.unpublished
    assert not card.one_process


@pytest.mark.parametrize("mode", ["0", "-1"])
def test_a_card_in_the_default_mode_or_whose_driver_tells_none_is_for_any_number_of_processes(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost, mode: str
) -> None:
    world.card(0, compute=mode)
    found = vendor.discover(host)
    assert [(card.one_process, card.unpublished) for card in found.cards] == [(False, "")]
    assert found.problems == ()


def test_a_node_without_numa_has_none(vendor: Nvidia, world: NvmlWorld, host: FolderHost) -> None:
    world.card(0)
    host.add("/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/numa_node", "-1\n")
    assert one_card(vendor, host).numa_node is None


def test_a_card_that_sysfs_does_not_know_is_still_offered(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0, pci="00000000:99:00.0")
    card = one_card(vendor, host)
    assert (card.pci_bus_id, card.pcie_root, card.numa_node) == ("0000:99:00.0", "", None)


def test_cards_come_in_pci_order(vendor: Nvidia, world: NvmlWorld, host: FolderHost) -> None:
    for number, address in enumerate(["00010000:01:00.0", "00000000:AF:00.0", "00000001:01:00.0"]):
        world.card(number, pci=address)
    assert [card.pci_bus_id for card in vendor.discover(host).cards] == [
        "0000:af:00.0",
        "0001:01:00.0",
        "10000:01:00.0",
    ]


def test_a_card_keeps_its_name_when_a_boot_changes_order_and_minor_numbers(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0)
    world.card(1)
    before = {card.uuid: card.name for card in vendor.discover(host).cards}
    world.cards.reverse()
    world.card(0, minor="0")
    world.card(1, minor="1")
    assert {card.uuid: card.name for card in vendor.discover(host).cards} == before


def test_a_card_in_mig_mode_is_listed_with_the_reason(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0, mig="1")
    assert vendor.discover(host).cards[0].unpublished == IN_PARTITION_MODE


def test_a_lost_card_is_a_problem(vendor: Nvidia, world: NvmlWorld, host: FolderHost) -> None:
    world.card(0, lost="1")
    found = vendor.discover(host)
    assert found.cards == ()
    assert "number 0 does not answer" in found.problems[0]


def test_a_card_that_makes_no_sense_is_left_out_and_the_others_stay(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0, pci="somewhere")
    world.card(1)
    world.card(2, memory="0")
    found = vendor.discover(host)
    assert [card.uuid for card in found.cards] == [UUIDS[1]]
    assert ["left out" in problem for problem in found.problems] == [True, True]


def test_hardware_without_a_driver_is_a_problem(vendor: Nvidia, world: NvmlWorld, host: FolderHost) -> None:
    world.init = 9
    world.write()
    (problem,) = vendor.discover(host).problems
    assert "cannot be listed" in problem


def test_a_node_without_nvidia_hardware_has_neither_cards_nor_problems(
    vendor: Nvidia, world: NvmlWorld, tmp_path: Path
) -> None:
    world.init = 9
    world.write()
    found = vendor.discover(FolderHost(tmp_path / "empty"))
    assert (found.cards, found.problems) == ((), ())


def test_other_vendors_cards_are_not_nvidias_hardware(tmp_path: Path) -> None:
    host = FolderHost(tmp_path / "amd")
    add_pci_device(host, "0000:03:00.0", vendor="0x1002")
    assert not has_hardware(host)
    add_pci_device(host, "0000:04:00.0")
    assert has_hardware(host)


def test_a_container_gets_the_node_that_the_card_has_now(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0)
    card = one_card(vendor, host)
    world.card(0, minor="1")
    paths = [node.path for node in vendor.edits(card, host=host).device_nodes]
    assert paths == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidia-uvm-tools"]


@pytest.mark.parametrize("change", [{"lost": "1"}, {"uuid": "GPU-other"}, {"mig": "1"}])
def test_a_card_that_is_not_there_any_more_is_refused(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost, change: dict[str, str]
) -> None:
    world.card(0)
    card = one_card(vendor, host)
    world.card(0, **change)
    with pytest.raises(DeviceGoneError, match=NAME) as refused:
        vendor.edits(card, host=host)
    assert "new one is scheduled" in refused.value.remedy


def test_a_driver_that_is_being_replaced_is_waited_for(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0)
    card = one_card(vendor, host)
    world.card(0, error="9")
    with pytest.raises(DriverNotReadyError, match="driver does not answer") as refused:
        vendor.edits(card, host=host)
    assert refused.value.retriable
    world.card(0, error="0")
    assert vendor.edits(card, host=host).device_nodes


def test_a_spec_of_the_toolkit_is_taken_where_it_fits(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0)
    host.add("/etc/cdi/nvidia.yaml", toolkit_spec(UUIDS[0], 0))
    found = vendor.edits(one_card(vendor, host), host=host)
    assert [node.path for node in found.device_nodes] == ["/dev/nvidiactl", "/dev/nvidia0"]


@pytest.mark.parametrize("toolkit", [False, True])
def test_a_container_runtime_adds_no_card_by_itself(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost, toolkit: bool
) -> None:
    world.card(0)
    if toolkit:
        host.add("/etc/cdi/nvidia.yaml", toolkit_spec(UUIDS[0], 0))
    assert vendor.edits(one_card(vendor, host), host=host).env["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_a_stale_spec_of_the_toolkit_does_not_keep_a_pod_from_starting(
    vendor: Nvidia, world: NvmlWorld, host: FolderHost
) -> None:
    world.card(0)
    host.add("/etc/cdi/nvidia.yaml", toolkit_spec(UUIDS[0], 7))
    found = vendor.edits(one_card(vendor, host), host=host)
    assert "/dev/nvidia-uvm" in [node.path for node in found.device_nodes]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0000:3b:00.0", "0000:3b:00.0"),
        ("0001AB00:01:1F.7", "1ab00:01:1f.7"),
    ],
)
def test_pci_addresses_are_written_as_sysfs_writes_them(text: str, address: str) -> None:
    assert normal_pci_address(text) == address


@pytest.mark.parametrize("text", ["", "3b:00.0", "0000:3b:00.9", "0000:3b:00.0 "])
def test_what_is_no_pci_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="not a PCI address"):
        normal_pci_address(text)


def test_nvml_is_loaded_from_the_driver_root_through_its_links(tmp_path: Path) -> None:
    asked: list[str] = []

    def load(name: str) -> ctypes.CDLL:
        asked.append(name)
        return loader()()

    root = "/run/nvidia/driver"
    host = FolderHost(tmp_path)
    recorded_root(host, below=root)
    real = f"{root}/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.535.261.03"
    for name in (real, "libnvidia-ml.so.1"):
        host.libraries[name] = partial(load, name)
    load_nvml(driver_root=root, host=host)
    load_nvml(driver_root="/", host=host)
    load_nvml(driver_root="/empty", host=host)
    assert asked == [real, "libnvidia-ml.so.1", "libnvidia-ml.so.1"]


def test_a_vendor_that_was_given_no_nvml_loads_the_hosts(world: NvmlWorld, host: FolderHost) -> None:
    world.card(0)
    host.libraries["libnvidia-ml.so.1"] = loader()
    (vendor,) = NodeVendors(driver_root="/", host=host)()
    assert [card.name for card in vendor.discover(host).cards] == [NAME]


def test_a_host_without_the_library_says_what_is_missing(host: FolderHost) -> None:
    (problem,) = Nvidia().discover(host).problems
    assert "libnvidia-ml.so.1: cannot open shared object file" in problem


def toolkit_spec(uuid: str, minor: int) -> str:
    return f"""
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: {uuid}
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia{minor}
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
"""
