"""DCMI by its scripted library; `ctypes` against a C compiler's idea of the structures."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from driver.cards import Card
from driver.errors import DeviceGoneError
from driver.vendors.ascend import Ascend
from driver.vendors.dcmi import LIBRARIES, Dcmi, DcmiChip, DcmiError, load_dcmi
from driver.vendors.reading import UnreadableError
from tests.driver.vendors.fixture_node import FixtureNode, read_node
from tests.native.build import mock_dcmi
from tests.support.folder_host import FolderHost

CHIP = {
    "card": "2",
    "device": "0",
    "type": "0",
    "logic": "1",
    "phy": "5",
    "pci": "0001:c1:1f.0",
    "die": "0000000A-00000000-FFFFFFFF-00000001-00000002",
    "name": "910B3",
    "cores": "20",
    "hbm": "65536",
    "memory": "0",
    "health": "0",
}


class Script:
    """What the library is told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.init = 0
        self.list = 0
        self.chips: list[dict[str, str]] = []
        os.environ["MOCK_DCMI_FILE"] = str(path)

    def chip(self, **fields: str) -> None:
        self.chips.append({**CHIP, **fields})
        self.write()

    def write(self) -> None:
        lines = [f"init\t{self.init}", f"list\t{self.list}"]
        lines += [
            "\t".join(["chip", *(f"{key}={value}" for key, value in one.items())]) for one in self.chips
        ]
        self.path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setenv("MOCK_DCMI_FILE", "")
    return Script(tmp_path / "dcmi.txt")


@pytest.fixture
def dcmi() -> Dcmi:
    return Dcmi(lambda: ctypes.CDLL(str(mock_dcmi())))


def one(dcmi: Dcmi) -> DcmiChip:
    (chip,) = dcmi.chips()
    assert isinstance(chip, DcmiChip)
    return chip


def test_a_chip_is_what_the_library_says(script: Script, dcmi: Dcmi) -> None:
    script.chip()
    assert one(dcmi) == DcmiChip(
        card=2,
        device=0,
        physical_id=5,
        pci_address="0001:c1:1f.0",
        die_id="0000000A-00000000-FFFFFFFF-00000001-00000002",
        name="910B3",
        ai_cores=20,
        memory_bytes=65536 << 20,
    )


def test_a_chip_without_hbm_has_the_other_memory(script: Script, dcmi: Dcmi) -> None:
    script.chip(hbm="0", memory="21527", name="310P3")
    assert one(dcmi).memory_bytes == 21527 << 20


def test_memory_that_no_call_tells_is_unknown(script: Script, dcmi: Dcmi) -> None:
    script.chip(hbm="0")
    assert one(dcmi).memory_bytes is None


def test_memory_that_no_card_has_costs_that_chip_and_not_the_others(script: Script, dcmi: Dcmi) -> None:
    script.chip(hbm=str(2**64 - 1))
    script.chip(device="1", logic="2")
    first, second = dcmi.chips()
    assert isinstance(first, UnreadableError)
    assert isinstance(second, DcmiChip)


def test_controllers_and_processors_of_a_card_are_no_chips(script: Script, dcmi: Dcmi) -> None:
    script.chip(type="1")
    script.chip(type="2", device="1")
    assert dcmi.chips() == []


def test_an_old_drivers_library_is_asked_by_its_old_names(script: Script) -> None:
    script.chip()
    assert one(Dcmi(lambda: ctypes.CDLL(str(mock_dcmi(old=True))))).name == "910B3"


def test_a_chip_that_does_not_answer_is_an_error_in_its_place(script: Script, dcmi: Dcmi) -> None:
    script.chip(error="-8006")
    script.chip(device="1", logic="2")
    first, second = dcmi.chips()
    assert isinstance(first, DcmiError)
    assert "-8006 (response timed out)" in str(first)
    assert isinstance(second, DcmiChip)


def test_a_die_without_an_id_has_none(script: Script, dcmi: Dcmi) -> None:
    script.chip(die="0-0-0-0-0")
    assert one(dcmi).die_id == ""


def test_a_library_that_lists_nothing_says_why(script: Script, dcmi: Dcmi) -> None:
    script.list = -8002
    script.write()
    with pytest.raises(DcmiError, match=r"dcmi_get_card_list with -8002 \(permission error\)"):
        dcmi.chips()


def test_a_library_that_does_not_start_is_started_anew_at_the_next_question(
    script: Script, dcmi: Dcmi
) -> None:
    script.init = -8012
    script.chip()
    with pytest.raises(DcmiError, match="not ready yet"):
        dcmi.chips()
    script.init = 0
    script.write()
    assert one(dcmi).physical_id == 5


def test_a_function_that_is_missing_is_an_error_and_not_a_crash(dcmi: Dcmi, script: Script) -> None:
    script.chip()
    with pytest.raises(DcmiError, match="does not have this function"):
        dcmi._call("dcmi_get_something_newer")


def test_libraries_that_the_library_needs_are_loaded_before_it(tmp_path: Path) -> None:
    host = FolderHost(tmp_path)
    folder = "/usr/local/Ascend/driver/lib64/driver"
    host.add(f"{folder}/libdrvdsmi_host.so")
    host.add("/usr/local/Ascend/driver/lib64/common/libc_sec.so")
    loaded: list[str] = []

    def library(name: str, *needs: str) -> ctypes.CDLL:
        for need in needs:
            if not any(one.endswith(need) for one in loaded):
                raise OSError(f"{need}: cannot open shared object file: No such file or directory")
        loaded.append(name)
        return ctypes.CDLL(None)

    driver, common = f"{folder}/libdrvdsmi_host.so", "/usr/local/Ascend/driver/lib64/common/libc_sec.so"
    host.libraries = {
        LIBRARIES[0]: lambda: library(LIBRARIES[0], "libdrvdsmi_host.so"),
        driver: lambda: library(driver, "libc_sec.so"),
        common: lambda: library(common),
    }
    load_dcmi(host)
    assert loaded == [common, driver, LIBRARIES[0]]


def test_a_library_that_needs_what_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    host = FolderHost(tmp_path)

    def fail() -> ctypes.CDLL:
        raise OSError("libc_sec.so: cannot open shared object file: No such file or directory")

    host.libraries = {LIBRARIES[0]: fail}
    with pytest.raises(UnreadableError, match=r"libdcmi\.so cannot be loaded: libc_sec\.so"):
        Dcmi(lambda: load_dcmi(host)).chips()


def test_libraries_that_need_each_other_without_end_are_given_up(tmp_path: Path) -> None:
    host = FolderHost(tmp_path)
    for number in range(40):
        host.add(f"/usr/local/dcmi/lib{number}.so")

    def failing(number: int) -> ctypes.CDLL:
        raise OSError(f"lib{number}.so: cannot open shared object file")

    host.libraries = {LIBRARIES[0]: lambda: failing(0)} | {
        f"/usr/local/dcmi/lib{number}.so": lambda number=number: failing(number + 1) for number in range(40)
    }
    with pytest.raises(OSError, match="more libraries than are plausible"):
        load_dcmi(host)


# The vendor


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> FixtureNode:
    monkeypatch.setenv("MOCK_DCMI_FILE", "")
    return read_node("ascend")


def first(vendor: Ascend, host: FolderHost) -> Card:
    return vendor.discover(host).cards[0]


def test_a_chip_is_given_out_under_its_number_of_today(node: FixtureNode, tmp_path: Path) -> None:
    host, vendor = node.host(tmp_path), Ascend()
    card = first(vendor, host)
    script = tmp_path / "library.txt"
    script.write_text(script.read_text().replace("phy=7", "phy=5"))
    host.add("/dev/davinci5")
    assert "/dev/davinci5" in {one.path for one in vendor.edits(card, host=host).device_nodes}


def test_containers_get_the_manager_that_is_made_for_them(node: FixtureNode, tmp_path: Path) -> None:
    node.devices.append("/dev/davinci_manager_docker")
    host, vendor = node.host(tmp_path), Ascend()
    nodes = {one.path: one.host_path for one in vendor.edits(first(vendor, host), host=host).device_nodes}
    assert nodes["/dev/davinci_manager"] == "/dev/davinci_manager_docker"
    assert "/dev/davinci_manager_docker" not in nodes


def test_another_chip_in_a_cards_place_is_not_given_out(node: FixtureNode, tmp_path: Path) -> None:
    host, vendor = node.host(tmp_path), Ascend()
    card = first(vendor, host)
    script = tmp_path / "library.txt"
    script.write_text(script.read_text().replace("-0000000B", "-0000000C"))
    with pytest.raises(DeviceGoneError, match="DCMI does not list it any more"):
        vendor.edits(card, host=host)
    script.write_text(script.read_text().replace("-0000000A", "-0000000B"))
    with pytest.raises(DeviceGoneError, match="Another card is at"):
        vendor.edits(card, host=host)


def test_two_chips_at_one_address_are_no_card(node: FixtureNode, tmp_path: Path) -> None:
    node.script = node.script.replace("0000:c1:00.0", "0000:82:00.0")
    host = node.host(tmp_path)
    found = Ascend().discover(host)
    assert found.cards == ()
    assert any("several chips at this address" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("code", "health", "said"),
    [
        ("0", "Healthy", ""),
        ("1", "Healthy", "minor alarm"),
        ("2", "Unhealthy", "major alarm"),
        ("3", "Unhealthy", "fault"),
        ("0xffffffff", "Unknown", "0xffffffff"),
    ],
)
def test_health_is_the_librarys(node: FixtureNode, tmp_path: Path, code: str, health: str, said: str) -> None:
    node.script = node.script.replace("health=1", f"health={code}")
    host, vendor = node.host(tmp_path), Ascend()
    (found,) = vendor.health([first(vendor, host)], host=host)
    assert (found.health, said in found.message) == (health, True)
    assert (found.reason, found.certain) == {
        "2": ("MajorAlarm", False),
        "3": ("ChipFault", True),
    }.get(code, ("HealthUnreadable" if health == "Unknown" else "", False))


def test_chips_without_the_library_are_reported_once_with_the_reason(
    node: FixtureNode, tmp_path: Path
) -> None:
    host = node.host(tmp_path)
    host.libraries.clear()
    found = Ascend().discover(host)
    assert found.cards == ()
    (problem,) = found.problems
    assert "0000:82:00.0, 0000:c1:00.0" in problem
    assert "libdcmi.so cannot be loaded" in problem
