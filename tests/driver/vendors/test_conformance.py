"""What every vendor has to do alike, each on its fixture: found, named, published, given out, taken back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pynvml
import pytest

from driver.allocation import Snapshot, allocate
from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, effective_policy
from driver.cards import Card, IsolationLevel, device_name
from driver.cdi import ContainerEdits
from driver.errors import DeviceGoneError, PrepareError
from driver.isolation.none import NoIsolation
from driver.isolation.service import Service
from driver.partitions.base import Partitioner
from driver.quantities import parse_quantity
from driver.slices import publication_of
from driver.vendors.catalogue import VENDORS
from driver.vendors.facts import Identity, VendorFacts
from driver.vendors.registry import NodeVendors
from kubelet_plugin.host import NodeHost
from kubelet_plugin.inventory import Inventory
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.policy_source import PolicyView
from tests.driver.vendors import tried
from tests.driver.vendors.fixture_node import NODES, read_node
from tests.driver.vendors.shown import OnFixture, preloaded, shown
from tests.support.folder_host import FolderHost
from tests.support.node_world import NODE, World, claim, pod, prepare, unprepare
from tooling.generate.device_classes import device_classes

FACTS = {facts.name: facts for facts in VENDORS}


@pytest.fixture(params=sorted(FACTS))
def tested(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnFixture]:
    for variable in ("MOCK_NVML_FILE", "MOCK_DCMI_FILE"):
        monkeypatch.setenv(variable, "")
    node = read_node(request.param)
    (tmp_path / "node").mkdir()
    host = node.host(tmp_path / "node")
    yield OnFixture(facts=FACTS[request.param], node=node, host=host, vendor=node.vendor(host))
    # The library counts sessions, and it is one for all tests.
    with suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


def test_every_vendor_has_a_fixture_and_every_fixture_a_vendor() -> None:
    assert sorted(FACTS) == sorted(path.stem for path in NODES.glob("*.yaml"))


def test_the_fixtures_cards_are_found_as_they_are_and_in_pci_order(tested: OnFixture) -> None:
    expected = [_card(one, facts=tested.facts) for one in tested.node.expect]
    assert list(tested.cards()) == expected
    assert [card.pci_bus_id for card in expected] == sorted(card.pci_bus_id for card in expected)


def test_a_card_is_named_by_what_the_vendor_says_it_is_named_by(tested: OnFixture) -> None:
    for card in tested.cards():
        uuid = "" if tested.facts.identity is Identity.PCI else card.uuid
        assert card.name == device_name(vendor=tested.facts.name, uuid=uuid, pci_bus_id=card.pci_bus_id)
        assert uuid or tested.facts.identity is not Identity.UUID


def test_an_agent_that_starts_again_finds_the_same_cards(tested: OnFixture) -> None:
    assert tested.node.vendor(tested.host).discover(tested.host) == tested.vendor.discover(tested.host)


def test_the_vendor_is_asked_where_its_hardware_is_and_no_other_but_nvidia(tested: OnFixture) -> None:
    asked = NodeVendors(driver_root="/", host=tested.host)()
    assert {vendor.name for vendor in asked} == {tested.facts.name, "nvidia"}


def test_a_node_without_its_hardware_gives_no_cards_no_problems_and_runs_nothing(
    tested: OnFixture, tmp_path: Path
) -> None:
    empty = FolderHost(tmp_path / "empty", libraries=tested.host.libraries)
    _lose_all_cards()
    found = tested.vendor.discover(empty)
    assert (found.cards, found.problems, empty.ran) == ((), (), [])


def test_cards_become_devices_that_say_how_their_shares_are_held(tested: OnFixture) -> None:
    cards = tested.cards()
    publication = publication_of(cards, node=NODE)
    devices = [device for one in publication.slices for device in one["spec"]["devices"]]
    assert sorted(device["name"] for device in devices) == sorted(card.name for card in cards)
    for device in devices:
        card = next(card for card in cards if card.name == device["name"])
        assert parse_quantity(device["capacity"]["memory"]["value"]).exact == card.memory_bytes
        assert device["attributes"]["vendor"] == {"string": tested.facts.name}
        # What no method holds is said; methods raise it on nodes where they are available.
        assert device["attributes"]["memoryIsolation"] == {"string": "none"}
        assert device["attributes"]["coresIsolation"] == {"string": "none"}


def test_attributes_that_other_vendors_cards_lack_are_told_in_the_facts_with_their_types(
    tested: OnFixture,
) -> None:
    types = {str: "string", int: "int", bool: "bool"}
    found = {
        (name, types[type(value)]) for card in tested.cards() for name, value in card.extra_attributes.items()
    }
    assert found == {(name, kind) for name, kind, _, _ in tested.facts.attributes}
    assert all(types[type(example)] == kind for _, kind, example, _ in tested.facts.attributes)


def test_a_container_gets_its_card_and_nothing_of_the_others(tested: OnFixture) -> None:
    for card, expected in zip(tested.cards(), tested.node.expect, strict=True):
        edits = tested.vendor.edits(card, host=tested.host)
        assert sorted(node.path for node in edits.device_nodes) == sorted(
            [*expected["own"], *expected["shared"]]
        )
        assert set(expected.get("env", [])) <= {f"{key}={value}" for key, value in edits.env.items()}
        if "mounts" in expected:
            assert sorted(mount.container_path for mount in edits.mounts) == expected["mounts"]
        others = {path for one in tested.node.expect if one is not expected for path in one["own"]}
        assert others.isdisjoint(_paths(edits))
        assert all(tested.host.exists(path) for path in _paths(edits))


@pytest.mark.asyncio
async def test_a_share_is_published_allocated_and_prepared_and_nothing_is_left_of_it(
    tested: OnFixture, tmp_path: Path
) -> None:
    world = World(tmp_path / "world")
    inventory = Inventory(
        vendors=lambda: [tested.vendor],
        methods={IsolationLevel.NONE: NoIsolation()},
        host=tested.host,
        policies=_NoIsolationAllowed(),
        metrics=Metrics(),
    )
    await inventory.refresh()
    world.cards = cast("Any", inventory)  # the engine needs no more than a CardSource
    for expected in tested.node.expect:
        (allocated,) = _allocated(
            list(inventory.cards().values()), vendor=tested.facts.name, pci=expected["pci"]
        )
        assert (allocated["device"], allocated["consumedCapacity"]["memory"]) == (expected["name"], "1Gi")
        wanted = claim("claim", allocated)
        world.add(wanted, pod())
        async with world.engine() as engine:
            await prepare(engine, wanted)
            (device,) = world.spec(wanted)["devices"]
            nodes = {node["path"] for node in device["containerEdits"]["deviceNodes"]}
            assert nodes == {*expected["own"], *expected["shared"]}
            await unprepare(engine, wanted)
        assert (world.cdi_files, world.records) == ([], [])


@pytest.mark.parametrize("name", [name for name in sorted(FACTS) if not read_node(name).library])
def test_the_agents_own_host_sees_the_same_cards_with_real_files_and_programs(
    name: str, tmp_path: Path
) -> None:
    node = read_node(name)
    node.host(tmp_path)
    node.install_programs(tmp_path)
    host = NodeHost(tmp_path)
    _, vendor = NodeVendors(driver_root="/", host=host)()
    found = vendor.discover(host)
    assert list(found.cards) == [_card(one, facts=FACTS[name]) for one in node.expect]
    assert found.problems == ()
    for card, expected in zip(found.cards, node.expect, strict=True):
        nodes = {one.path for one in vendor.edits(card, host=host).device_nodes}
        assert nodes == {*expected["own"], *expected["shared"]}


def test_names_of_before_that_are_for_some_models_are_for_the_fixtures(tested: OnFixture) -> None:
    for_some = [entry for entry in tested.facts.legacy if entry.models]
    for card in tested.cards():
        fitting = [one for one in for_some if card.model.lower() in map(str.lower, one.models)]
        assert len(fitting) == (1 if for_some else 0)


def test_the_health_of_a_card_that_is_there_is_what_the_fixture_says(tested: OnFixture) -> None:
    cards = tested.cards()
    health = tested.vendor.health(cards, host=tested.host)
    assert [one.name for one in health] == [card.name for card in cards]
    assert [one.health for one in health] == [
        expected.get("health", "Unknown") for expected in tested.node.expect
    ]
    assert all(one.message for one in health if one.health == "Unknown")


def test_a_card_that_is_gone_is_missing_for_certain_and_not_given_out(
    tested: OnFixture, tmp_path: Path
) -> None:
    cards = tested.cards()
    _lose_all_cards()
    empty = FolderHost(tmp_path / "empty", libraries=tested.host.libraries)
    health = tested.vendor.health(cards, host=empty)
    assert {(one.health, one.reason, one.certain) for one in health} == {("Unhealthy", "CardMissing", True)}
    assert all(one.message for one in health)
    for card in cards:
        with pytest.raises(DeviceGoneError):
            tested.vendor.edits(card, host=empty)


def test_a_card_without_its_device_nodes_is_not_well(tested: OnFixture) -> None:
    card, expected = tested.cards()[0], tested.node.expect[0]
    for path in expected["own"]:
        tested.host.local(path).unlink()
    (health,) = tested.vendor.health([card], host=tested.host)
    assert (health.health, health.reason) == ("Unhealthy", "DeviceNodesMissing")
    assert "/dev/" in health.message
    for path in expected["own"]:
        tested.host.add(path)
    (again,) = tested.vendor.health([card], host=tested.host)
    assert again.health == expected.get("health", "Unknown")


def test_a_card_whose_memory_nobody_tells_is_left_out_with_the_reason(
    tested: OnFixture, tmp_path: Path
) -> None:
    unknown = tested.node.memory_unknown
    (tmp_path / "unknown").mkdir()
    host = unknown.host(tmp_path / "unknown")
    found = unknown.vendor(host).discover(host)
    assert found.cards == ()
    for expected in tested.node.expect:
        assert any(expected["pci"] in problem or expected["uuid"] in problem for problem in found.problems)


def test_a_card_without_its_device_nodes_is_not_given_out(tested: OnFixture) -> None:
    card, expected = tested.cards()[0], tested.node.expect[0]
    for path in expected["own"]:
        tested.host.local(path).unlink()
    with pytest.raises(PrepareError) as refused:
        tested.vendor.edits(card, host=tested.host)
    assert refused.value.remedy
    assert "/dev/" in str(refused.value)


def test_the_matrix_in_docs_says_what_this_run_shows(tested: OnFixture) -> None:
    tried.compare(tested.facts.name, shown(tested))


def test_shares_are_held_at_the_levels_that_the_facts_name(tested: OnFixture) -> None:
    facts = tested.facts
    levels = (*facts.isolation, *facts.brought, *facts.offered_by_node)
    assert len(levels) == len(set(levels))
    assert preloaded(tested).memory == (IsolationLevel.PRELOAD in levels)
    assert Service(cast("Any", None)).available(
        card=replace(tested.cards()[0], driver_version="615.1"), host=tested.host
    ).cores == (IsolationLevel.SERVICE in levels)
    assert isinstance(tested.vendor, Partitioner) == (IsolationLevel.HARDWARE in levels)
    assert facts.isolation[-1] is IsolationLevel.NONE


def _allocated(cards: list[Card], *, vendor: str, pci: str) -> list[dict[str, Any]]:
    """What the scheduler gives a claim of the vendor's class for this card."""
    published = publication_of(cards, node=NODE).slices
    exactly = {
        "deviceClassName": f"{vendor}.dragoman.dev",
        "selectors": [
            {"cel": {"expression": f'device.attributes["resource.kubernetes.io"].pciBusID == "{pci}"'}}
        ],
        "capacity": {"requests": {"memory": "1Gi", "cores": "10"}},
    }
    snapshot = Snapshot.build(
        slices=[
            {**one, "spec": {**one["spec"], "pool": {**one["spec"]["pool"], "generation": 1}}}
            for one in published
        ],
        classes=device_classes(sorted(FACTS)),
        nodes=[{"metadata": {"name": NODE}}],
    )
    wanted = claim("claim")
    wanted["spec"] = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
    decision = allocate(snapshot, node=NODE, claims=[wanted])
    assert decision.allocations is not None, decision.refusal
    return list(decision.allocations[0]["devices"]["results"])


def _lose_all_cards() -> None:
    for variable in ("MOCK_NVML_FILE", "MOCK_DCMI_FILE"):
        if os.environ[variable]:
            Path(os.environ[variable]).write_text("init\t0\n")


class _NoIsolationAllowed:
    def view(self, **_: object) -> PolicyView:
        spec = decode(AcceleratorPolicySpec, {"isolation": ["none"]})
        return PolicyView(policy=effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={}))

    async def run(self, changed: Any) -> None:
        changed()


def _card(expected: dict[str, Any], *, facts: VendorFacts) -> Card:
    return Card(
        name=expected["name"],
        vendor=facts.name,
        model=expected["model"],
        memory_bytes=expected["memoryMiB"] << 20,
        uuid=expected["uuid"],
        architecture=expected.get("architecture", ""),
        driver_version=expected.get("driverVersion", ""),
        pci_bus_id=expected["pci"],
        pcie_root=expected["root"],
        numa_node=expected["numa"],
        extra_attributes=expected.get("attributes", {}),
    )


def _paths(edits: ContainerEdits) -> set[str]:
    return {node.host_path or node.path for node in edits.device_nodes} | {
        one.host_path for one in edits.mounts
    }
