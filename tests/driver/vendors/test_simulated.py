from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.cdi import DeviceNode
from driver.errors import ConfigError, DeviceGoneError
from driver.vendors.simulated import parse_simulated_node, simulated_vendors, variable_of
from tests.support.folder_host import FolderHost
from tests.support.memory_host import MemoryHost

HOST = FolderHost(Path("/nowhere"))
A100 = {
    "vendor": "nvidia",
    "model": "NVIDIA A100-SXM4-40GB",
    "memory": "40Gi",
    "uuid": "GPU-5C1F2A3B-0000-4000-8000-000000000001",
    "pciBusID": "0000:AF:00.0",
    "pcieRoot": "pci0000:ae",
    "numaNode": 1,
    "architecture": "Ampere",
    "driverVersion": "550.54.15",
    "attributes": {"tier": "gold", "slots": 7, "nvlink": True},
}
ASCEND = {"vendor": "ascend", "model": "910B4", "memory": "32Gi", "pciBusID": "0000:3b:00.0"}


def document(*cards: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "dragoman.dev/v1alpha1", "kind": "SimulatedNode", "cards": list(cards)}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in A100.items() if key != name}


def test_a_card_has_what_the_file_says() -> None:
    (card,) = parse_simulated_node(document(A100)).cards
    assert (card.name, card.vendor, card.memory_mib) == (
        "nvidia-5c1f2a3b-0000-4000-8000-000000000001",
        "nvidia",
        40960,
    )
    assert (card.pci_bus_id, card.pcie_root, card.numa_node) == ("0000:af:00.0", "pci0000:ae", 1)
    assert (card.architecture, card.driver_version) == ("Ampere", "550.54.15")
    assert card.extra_attributes == {"tier": "gold", "slots": 7, "nvlink": True}


def test_a_card_without_a_uuid_is_named_by_its_pci_address() -> None:
    assert parse_simulated_node(document(ASCEND)).cards[0].name == "pci-0000-3b-00-0"


def test_each_vendor_that_occurs_finds_its_own_cards_in_pci_order() -> None:
    second = {**A100, "uuid": "GPU-0", "pciBusID": "0000:01:00.0"}
    ascend, nvidia = simulated_vendors(parse_simulated_node(document(A100, ASCEND, second)))
    assert (ascend.name, nvidia.name) == ("ascend", "nvidia")
    assert [card.name for card in ascend.discover(HOST).cards] == ["pci-0000-3b-00-0"]
    assert [card.pci_bus_id for card in nvidia.discover(HOST).cards] == ["0000:01:00.0", "0000:af:00.0"]


def test_a_container_gets_a_marker_that_exists_and_a_variable_of_the_card() -> None:
    node = parse_simulated_node(document(A100))
    edits = simulated_vendors(node)[0].edits(node.cards[0], host=HOST)
    assert edits.device_nodes == (
        DeviceNode(path=f"/dev/dragoman/{node.cards[0].name}", host_path="/dev/null", permissions="rw"),
    )
    variable = "DRAGOMAN_SIMULATED_CARD_NVIDIA_5C1F2A3B_0000_4000_8000_000000000001"
    assert edits.env == {variable: f"nvidia 0000:af:00.0 {A100['uuid']}"}


def test_the_variable_of_a_card_without_uuid_or_address_has_its_name() -> None:
    node = parse_simulated_node(
        document({**A100, "uuid": "", "pciBusID": "0000:01:00.0"}, without("pciBusID"))
    )
    vendor = simulated_vendors(node)[0]
    values = [value for card in node.cards for value in vendor.edits(card, host=HOST).env.values()]
    assert values == [
        "nvidia 0000:01:00.0 pci-0000-01-00-0",
        f"nvidia ~{node.cards[1].name} {A100['uuid']}",
    ]


def test_the_edits_of_two_cards_have_nothing_that_could_clash() -> None:
    node = parse_simulated_node(document(A100, {**A100, "uuid": "GPU-0", "pciBusID": "0000:01:00.0"}))
    vendor = simulated_vendors(node)[0]
    first, second = (vendor.edits(card, host=HOST) for card in node.cards)
    assert not first.env.keys() & second.env.keys()
    assert not {n.path for n in first.device_nodes} & {n.path for n in second.device_nodes}


def test_device_nodes_of_the_file_replace_the_marker() -> None:
    card = {**A100, "deviceNodes": [{"path": "/dev/nvidia0", "hostPath": "/dev/zero"}, {"path": "/dev/x"}]}
    node = parse_simulated_node(document(card))
    assert simulated_vendors(node)[0].edits(node.cards[0], host=HOST).device_nodes == (
        DeviceNode(path="/dev/nvidia0", host_path="/dev/zero", permissions="rw"),
        DeviceNode(path="/dev/x", host_path="/dev/null", permissions="rw"),
    )


def test_a_card_that_left_the_file_is_gone() -> None:
    before = parse_simulated_node(document(A100)).cards[0]
    vendor = simulated_vendors(parse_simulated_node(document(ASCEND)))[0]
    with pytest.raises(DeviceGoneError, match="not in the node's file"):
        vendor.edits(before, host=HOST)


@pytest.mark.parametrize(
    ("content", "health", "reason", "certain", "message"),
    [
        ("Unhealthy CardLost! It fell off the bus.\n", "Unhealthy", "CardLost", True, "It fell off the bus."),
        ("Unhealthy RowRemapPending", "Unhealthy", "RowRemapPending", False, "Simulated."),
        ("Unhealthy", "Unhealthy", "Simulated", False, "Simulated."),
        ("Healthy", "Healthy", "", False, "Simulated."),
        ("Unknown", "Unknown", "", False, "Simulated."),
        ("nonsense", "Unknown", "HealthUnreadable", False, "/run/health is no health."),
    ],
)
def test_a_health_file_overrules_while_it_exists(
    content: str, health: str, reason: str, certain: bool, message: str
) -> None:
    node = parse_simulated_node(document({**A100, "healthFile": "/run/health"}))
    (vendor,) = simulated_vendors(node)
    (found,) = vendor.health(node.cards, host=MemoryHost({"/run/health": content}))
    assert (found.health, found.reason, found.certain, found.message) == (health, reason, certain, message)
    assert vendor.health(node.cards, host=MemoryHost({}))[0].health == "Healthy"


def test_a_card_that_the_file_lacks_was_taken_away_on_purpose() -> None:
    assert simulated_vendors(parse_simulated_node(document(A100)))[0].discover(HOST).final


def test_health_is_what_the_file_says() -> None:
    node = parse_simulated_node(document({**A100, "health": "Unhealthy"}))
    unknown = replace(node.cards[0], name="nvidia-other")
    found = simulated_vendors(node)[0].health([node.cards[0], unknown], host=HOST)
    assert [entry.health for entry in found] == ["Unhealthy", "Unknown"]


def test_a_card_may_be_there_and_not_offered() -> None:
    node = parse_simulated_node(document({**A100, "unpublished": "In MIG mode."}))
    assert node.cards[0].unpublished == "In MIG mode."


def test_the_variable_of_a_card_is_made_of_its_name() -> None:
    card = parse_simulated_node(document(ASCEND)).cards[0]
    assert variable_of(card) == "DRAGOMAN_SIMULATED_CARD_PCI_0000_3B_00_0"


@pytest.mark.parametrize(
    ("card", "field", "message"),
    [
        (without("memory"), "node.yaml.cards[0].memory", "required"),
        ({**A100, "memory": "1500Ki"}, "node.yaml.cards[0].memory", "whole number of MiB"),
        ({**A100, "memory": "0"}, "node.yaml.cards[0].memory", "above 0"),
        ({**A100, "memory": "40 GB"}, "node.yaml.cards[0].memory", "40 GB"),
        ({**A100, "memory": 40}, "node.yaml.cards[0].memory", "string"),
        ({**A100, "pciBusID": "3b:00"}, "node.yaml.cards[0].pciBusID", "not a PCI address"),
        ({**without("uuid"), "pciBusID": ""}, "node.yaml.cards[0].uuid", "neither a UUID nor"),
        ({**A100, "vendor": "NVIDIA"}, "node.yaml.cards[0].vendor", "match pattern"),
        ({**A100, "vendor": "nv/idia"}, "node.yaml.cards[0].vendor", "match pattern"),
        ({**A100, "memmory": "1Gi"}, "node.yaml.cards[0].memmory", "Did you mean 'memory'"),
        ({**A100, "uuid": "GPU-" + "x" * 80}, "node.yaml.cards[0].uuid", "63 characters"),
        ({**A100, "health": "ill"}, "node.yaml.cards[0].health", "Healthy"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(card: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        parse_simulated_node(document(card), field="node.yaml")
    assert refused.value.field == field


def test_two_cards_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="Two cards have the name"):
        parse_simulated_node(document(A100, A100))


def test_another_kind_of_file_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_simulated_node({**document(), "kind": "Node"}, field="node.yaml")
    assert refused.value.field == "node.yaml.kind"
