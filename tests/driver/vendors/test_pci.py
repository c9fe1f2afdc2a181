from __future__ import annotations

from pathlib import Path

import pytest

from driver.errors import InvalidInputError
from driver.vendors.kfd import kfd_topology, unique_id, vram_bytes
from driver.vendors.pci import (
    PciFunction,
    driver_of,
    drm_nodes,
    normal_address,
    numa_node,
    own_nodes,
    pci_function,
    pci_functions,
    pci_vendors_present,
    pcie_root,
)
from driver.vendors.reading import UnreadableError
from tests.support.folder_host import FolderHost

ADDRESS = "0000:3b:00.0"
PLACE = f"/sys/devices/pci0000:3a/0000:3a:00.0/{ADDRESS}"
TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"


@pytest.fixture
def host(tmp_path: Path) -> FolderHost:
    made = FolderHost(tmp_path)
    for name, text in {"vendor": "0x1002", "device": "0x74a1", "class": "0x120000"}.items():
        made.add(f"{PLACE}/{name}", f"{text}\n")
    made.link(f"/sys/bus/pci/devices/{ADDRESS}", f"../../../devices/pci0000:3a/0000:3a:00.0/{ADDRESS}")
    return made


@pytest.fixture
def function(host: FolderHost) -> PciFunction:
    found = pci_function(ADDRESS, vendors=None, host=host)
    assert found is not None
    return found


def test_a_function_is_what_sysfs_says(function: PciFunction) -> None:
    assert function == PciFunction(address=ADDRESS, vendor=0x1002, device=0x74A1, class_code=0x120000)
    assert function.base_class == 0x12


def test_functions_of_other_vendors_are_not_looked_at(host: FolderHost) -> None:
    assert pci_functions(host, vendors={0x10DE}) == ([], [])
    assert pci_function(ADDRESS, vendors={0x10DE}, host=host) is None


def test_only_folders_that_are_addresses_are_functions(host: FolderHost) -> None:
    host.add("/sys/bus/pci/devices/../etc/vendor", "0x1002")
    host.add("/sys/bus/pci/devices/power/vendor", "0x1002")
    assert [one.address for one in pci_functions(host, vendors={0x1002})[0]] == [ADDRESS]
    assert pci_function("../../etc", vendors=None, host=host) is None


def test_functions_come_in_pci_order_also_over_long_domains(host: FolderHost) -> None:
    for address in ("10000:01:00.0", "0000:0a:00.0"):
        for name, text in {"vendor": "0x1002", "device": "1", "class": "0x030000"}.items():
            host.add(f"/sys/bus/pci/devices/{address}/{name}", text)
    assert [one.address for one in pci_functions(host, vendors={0x1002})[0]] == [
        "0000:0a:00.0",
        ADDRESS,
        "10000:01:00.0",
    ]


def test_the_vendors_on_the_bus_are_known_without_reading_more(host: FolderHost) -> None:
    host.add("/sys/bus/pci/devices/0000:01:00.0/vendor", "garbage")
    assert pci_vendors_present(host) == {0x1002}


def test_a_function_that_cannot_be_read_is_a_problem_or_raises(host: FolderHost) -> None:
    host.add(f"{PLACE}/class", "garbage")
    found, (problem,) = pci_functions(host, vendors={0x1002})
    assert found == []
    assert f"{ADDRESS}/class is 'garbage'" in problem
    with pytest.raises(UnreadableError):
        pci_function(ADDRESS, vendors=None, host=host)


@pytest.mark.parametrize(
    ("text", "address"),
    [("00000000:3B:00.0", ADDRESS), ("3b:0.0", ADDRESS), (" 10000:01:00.1 ", "10000:01:00.1")],
)
def test_addresses_are_written_as_the_kernel_does(text: str, address: str) -> None:
    assert normal_address(text) == address


@pytest.mark.parametrize("text", ["", "3b:00", "0000:3b:00.8", "0000:3b:00.0/..", "000000000:3b:00.0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="not a PCI address"):
        normal_address(text)


@pytest.mark.parametrize(
    ("text", "node"), [("1", 1), ("-1", None), ("", None), ("x", None), ("9" * 4000, None)]
)
def test_the_numa_node_is_a_small_number_or_none(
    host: FolderHost, function: PciFunction, text: str, node: int | None
) -> None:
    host.add(f"{PLACE}/numa_node", text)
    assert numa_node(function, host=host) == node


def test_the_root_is_the_host_bridge_above_the_function(host: FolderHost, function: PciFunction) -> None:
    assert pcie_root(function, host=host) == "pci0000:3a"


def test_the_driver_is_what_the_function_is_bound_to(host: FolderHost, function: PciFunction) -> None:
    assert driver_of(function, host=host) == ""
    host.link(f"{PLACE}/driver", "/sys/bus/pci/drivers/amdgpu")
    assert driver_of(function, host=host) == ""
    host.make_dir("/sys/bus/pci/drivers/amdgpu", mode=0o755)
    assert driver_of(function, host=host) == "amdgpu"


def test_drm_nodes_are_those_that_the_kernel_lists_for_the_function(
    host: FolderHost, function: PciFunction
) -> None:
    for name in ("card1", "renderD128", "controlD65", "..", "card1;rm"):
        host.add(f"{PLACE}/drm/{name}/uevent")
    assert drm_nodes(function, host=host) == ("/dev/dri/card1", "/dev/dri/renderD128")


def test_own_nodes_are_named_by_uevents_and_never_leave_dev(host: FolderHost, function: PciFunction) -> None:
    host.add(f"{PLACE}/accel/accel0/uevent", "MAJOR=261\nDEVNAME=accel/accel0\n")
    host.add(f"{PLACE}/misc/one/uevent", "DEVNAME=kchar:1\n")
    host.add(f"{PLACE}/misc/two/uevent", "DEVNAME=../etc/shadow\n")
    host.add(f"{PLACE}/misc/three/uevent", "DEVNAME=/etc/shadow\n")
    host.add(f"{PLACE}/misc/four/uevent", "SUBSYSTEM=misc\n")
    assert own_nodes(function, host=host) == ("/dev/accel/accel0", "/dev/kchar:1")


def test_own_nodes_are_bounded(host: FolderHost, function: PciFunction) -> None:
    for number in range(70):
        host.add(f"{PLACE}/misc/{number}/uevent", f"DEVNAME=x{number}\n")
    assert len(own_nodes(function, host=host)) == 64


def test_the_compute_drivers_topology_names_cards_by_their_place(host: FolderHost) -> None:
    host.add(f"{TOPOLOGY}/0/properties", "simd_count 0\nlocation_id 0\n")
    host.add(
        f"{TOPOLOGY}/1/properties", "simd_count 304\nlocation_id 15104\ndomain 0\ngfx_target_version 90010\n"
    )
    found = kfd_topology(host)
    assert (found.gfx, found.complete) == ({ADDRESS: "gfx90a"}, True)
    assert found.lists(ADDRESS)
    assert not found.lists("0000:3c:00.0")


@pytest.mark.parametrize("text", ["simd_count many", "simd_count 1\nlocation_id x"])
def test_what_the_topology_hides_is_not_taken_for_missing(host: FolderHost, text: str) -> None:
    host.add(f"{TOPOLOGY}/1/properties", text)
    assert kfd_topology(host).lists(ADDRESS)


def test_without_any_topology_nothing_is_said_to_be_missing(host: FolderHost) -> None:
    assert kfd_topology(host).lists(ADDRESS)


@pytest.mark.parametrize(
    ("text", "digits"),
    [("0xd4a1", "000000000000d4a1"), ("D4A1B2C3E5F60718", "d4a1b2c3e5f60718"), ("0", ""), ("", "")],
)
def test_a_unique_id_is_sixteen_digits_or_none(
    host: FolderHost, function: PciFunction, text: str, digits: str
) -> None:
    host.add(f"{PLACE}/unique_id", text)
    assert unique_id(function, host=host) == digits


def test_a_unique_id_that_cannot_be_read_is_not_taken_for_none(
    host: FolderHost, function: PciFunction
) -> None:
    host.add(f"{PLACE}/unique_id", "lost")
    with pytest.raises(UnreadableError, match="unique ID is 'lost'"):
        unique_id(function, host=host)


def test_memory_that_is_not_told_is_unknown(host: FolderHost, function: PciFunction) -> None:
    assert vram_bytes(function, host=host) is None
