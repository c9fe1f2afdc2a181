"""Partitions of AMD cards: found, named, given out one by one, and cut anew where claims ask for it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cards import Card, IsolationLevel
from driver.errors import DeviceGoneError, PrepareError
from driver.partitions.base import (
    IN_PARTITION_MODE,
    Instance,
    PartitionBusyError,
    PartitionRefusedError,
    PartitionTarget,
)
from driver.places import place_of
from driver.quantities import MIB
from driver.vendors.amd import Amd
from driver.vendors.kfd import KfdNode, KfdTopology
from driver.vendors.pci_vendor import DeviceNodesMissingError
from driver.vendors.reading import UnreadableError
from tests.support.amd_node import AmdCard, AmdHost


def node(root: Path, **changes: Any) -> tuple[AmdHost, AmdCard]:
    card = AmdCard(number=0, **changes)
    return AmdHost(root, card), card


def found(host: AmdHost, vendor: Amd | None = None) -> dict[str, Card]:
    discovery = (vendor or Amd()).discover(host)
    assert discovery.problems == ()
    return {card.name: card for card in discovery.cards}


def there(host: AmdHost) -> list[Card]:
    return [card for card in found(host).values() if card.partition and card.partition.exists]


def target(card: AmdCard, mode: str, part: int) -> PartitionTarget:
    place = place_of(card.part(mode, part))
    assert place is not None
    return PartitionTarget(place=place, card_uuid=card.uuid)


def test_a_card_in_a_mode_has_its_partitions_with_their_memory_and_compute(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    whole, *parts = found(host).values()
    assert (whole.name, whole.unpublished) == (card.name, IN_PARTITION_MODE)
    assert len(parts) == 2 + 4 + 8
    assert [part.name for part in there(host)] == [card.part("CPX", number) for number in range(8)]
    for part in there(host):
        assert part.partition is not None
        assert (part.memory_mib, part.cores, part.shareable) == (24574, 12, False)
        assert (part.partition.profile, part.partition.card_uuid) == ("cpx_nps1", card.uuid)
        assert (part.architecture, part.pci_bus_id, part.uuid) == ("gfx942", card.address, "")
        assert part.extra_attributes == {"computePartition": "CPX", "memoryPartition": "NPS1"}


@pytest.mark.parametrize(("mode", "parts", "cores"), [("DPX", 2, 50), ("TPX", 3, 33), ("CPX", 6, 16)])
def test_a_card_of_six_dies_is_cut_by_its_own_modes(
    tmp_path: Path, mode: str, parts: int, cores: int
) -> None:
    host, _ = node(tmp_path, mode=mode, dies=6, modes="SPX, DPX, TPX, CPX")
    assert [(one.memory_mib, one.cores) for one in there(host)] == [(196592 // parts, cores)] * parts


def test_names_do_not_depend_on_the_topologys_numbers_or_the_kernels_age(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="QPX")
    names = list(found(host))
    host.node.switch(card, "CPX")
    host.node.switch(card, "QPX")
    card.old_kernel = True
    host.node.topology()
    assert list(found(host)) == names
    assert [one.name for one in there(host)] == [card.part("QPX", part) for part in range(4)]


def test_memory_is_held_by_the_kernel_where_partitions_have_no_memory_partition_of_their_own(
    tmp_path: Path,
) -> None:
    host, _ = node(tmp_path, mode="CPX", memory_mode="NPS4")
    levels = {
        one.extra_attributes["computePartition"]: one.memory_isolation
        for one in found(host).values()
        if one.partition
    }
    hardware, kernel = IsolationLevel.HARDWARE, IsolationLevel.KERNEL
    assert levels == {"DPX": hardware, "QPX": hardware, "CPX": kernel}
    assert {one.partition.profile for one in there(host) if one.partition} == {"cpx_nps4"}


def test_a_partition_that_has_less_than_an_even_part_says_what_it_has(tmp_path: Path) -> None:
    host, _ = node(tmp_path, mode="CPX", missing_mib=100)
    assert [one.memory_mib for one in there(host)] == [24574] * 7 + [24474]


def test_partitions_that_take_memory_from_each_other_are_not_offered(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="DPX", shared_memory=True)
    only = found(host)[card.name]
    assert list(found(host)) == [card.name]
    assert "393184 MiB together" in only.unpublished
    assert "compute_partition_mem_alloc_mode" in only.unpublished


def test_partitions_with_one_render_node_are_not_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AmdCard, "minor", lambda _card, part: 128 + part % 7)
    host, card = node(tmp_path, mode="CPX")
    assert list(found(host)) == [card.name]
    assert "one render node for several" in found(host)[card.name].unpublished


@pytest.mark.parametrize("mode", ["DPX", "QPX", "CPX"])
def test_while_the_kernel_lists_partitions_one_after_the_other_nothing_is_concluded(
    tmp_path: Path, mode: str
) -> None:
    host, card = node(tmp_path, mode=mode)
    vendor, parts = Amd(), len(there(host))
    text = "cpu_cores_count 96\nsimd_count 0\n"
    for number in reversed(range(1, parts)):
        (tmp_path / f"sys/class/kfd/kfd/topology/nodes/{number + 1}/properties").write_text(text)
        assert list(found(host)) == [card.name]
        with pytest.raises(PartitionBusyError):
            vendor.make_instance(target(card, mode, 0), host=host)


def test_a_card_whose_dies_nobody_knows_is_not_offered_in_the_mode_of_each_die(tmp_path: Path) -> None:
    host, card = node(tmp_path, dies=5, mode="CPX", modes="SPX, CPX")
    assert "5 of its compute dies" in found(host)[card.name].unpublished
    host.node.switch(card, "SPX")
    assert {name: one.unpublished for name, one in found(host).items()} == {card.name: ""}


def test_partitions_that_the_kernel_hides_are_not_guessed(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    host.node.hidden = True
    host.node.topology()
    only = found(host)[card.name]
    assert list(found(host)) == [card.name]
    assert "mode CPX" in only.unpublished
    assert "agent.privileged" in only.unpublished


def test_a_whole_card_whose_topology_is_hidden_is_offered_without_places(tmp_path: Path) -> None:
    host, card = node(tmp_path)
    host.node.hidden = True
    host.node.topology()
    assert {name: one.unpublished for name, one in found(host).items()} == {card.name: ""}


def test_a_card_of_a_driver_without_partitions_has_no_places(tmp_path: Path) -> None:
    host, card = node(tmp_path)
    for name in ("current_compute_partition", "available_compute_partition"):
        (tmp_path / card.function / name).unlink()
    assert {name: one.counters for name, one in found(host).items()} == {card.name: {}}


def test_a_mode_that_cannot_be_read_is_not_taken_for_whole(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    (tmp_path / card.function / "current_compute_partition").write_text("CPX\nSPX\n")
    discovery = Amd().discover(host)
    assert discovery.cards == ()
    assert card.address in discovery.problems[0]


def test_a_mode_that_nobody_knows_is_named(tmp_path: Path) -> None:
    host, card = node(tmp_path)
    (tmp_path / card.function / "current_compute_partition").write_text("UNKNOWN\n")
    assert "mode UNKNOWN" in found(host)[card.name].unpublished


def test_a_card_without_a_unique_id_is_not_offered_in_parts(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    (tmp_path / card.function / "unique_id").unlink()
    (only,) = found(host).values()
    assert "no unique ID" in only.unpublished


def test_devices_do_not_come_and_go_by_one_bad_answer(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    vendor = Amd()
    before = found(host, vendor)
    host.node.hidden = True
    host.node.topology()
    for _ in range(5):
        assert list(found(host, vendor)) == list(before)
    assert list(found(host, vendor)) == [card.name]
    host.node.hidden = False
    host.node.topology()
    assert found(host, vendor) == before


def test_a_look_in_the_middle_of_a_change_of_modes_takes_no_device_away(tmp_path: Path) -> None:
    host, card = node(tmp_path)
    vendor = Amd()
    before = found(host, vendor)
    host.node.switch(card, "CPX")
    (tmp_path / "sys/class/kfd/kfd/topology/nodes/9/properties").write_text("simd_count 0\n")
    now = found(host, vendor)
    assert list(now) == list(before)
    assert now[card.name].unpublished == IN_PARTITION_MODE
    assert [one.name for one in now.values() if one.partition and one.partition.exists] == [
        card.part("CPX", part) for part in range(8)
    ]


def test_a_container_gets_the_partitions_render_node_and_that_of_the_compute_driver_alone(
    tmp_path: Path,
) -> None:
    host, card = node(tmp_path, mode="CPX")
    vendor = Amd()
    for number, part in enumerate(there(host)):
        instance = vendor.find_instance(target(card, "CPX", number), host=host)
        assert instance is not None
        edits = vendor.edits(part, host=host) + vendor.instance_edits(instance, host=host)
        assert [one.path for one in edits.device_nodes] == ["/dev/kfd", card.render(number)]
        assert dict(edits.env) == {"AMD_VISIBLE_DEVICES": "void"}
        assert edits.mounts == ()


def test_a_card_in_partitions_is_not_given_out_as_a_whole(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    with pytest.raises(DeviceGoneError, match="mode CPX"):
        Amd().edits(found(host)[card.name], host=host)


def test_another_card_in_its_place_is_not_the_partitions(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    part = there(host)[0]
    (tmp_path / card.function / "unique_id").write_text("0x1\n")
    with pytest.raises(DeviceGoneError, match="Another card"):
        Amd().edits(part, host=host)
    with pytest.raises(DeviceGoneError, match="not on this node"):
        Amd().find_instance(target(card, "CPX", 0), host=host)
    (health,) = Amd().health([part], host=host)
    assert (health.reason, health.certain) == ("CardMissing", True)


def test_a_partition_is_made_by_putting_the_card_into_its_mode_once(tmp_path: Path) -> None:
    host, card = node(tmp_path)
    vendor = Amd()
    assert vendor.find_instance(target(card, "CPX", 3), host=host) is None
    made = vendor.make_instance(target(card, "CPX", 3), host=host)
    assert isinstance(made, Instance)
    assert (card.mode, made.number, made.complete) == ("CPX", 3, True)
    assert vendor.find_instance(target(card, "CPX", 4), host=host) is not None
    assert vendor.make_instance(target(card, "CPX", 4), host=host).number == 4
    assert len(host.writes) == 1
    vendor.remove_instance(made, host=host)
    assert card.mode == "CPX"
    vendor.make_whole(card.uuid, host=host)
    vendor.make_whole(card.uuid, host=host)
    assert (card.mode, len(host.writes)) == ("SPX", 2)


def test_what_is_said_of_a_place_is_the_same_in_every_mode(tmp_path: Path) -> None:
    host, card = node(tmp_path, memory_mib=196593)
    said = {name: (one.memory_mib, one.cores, one.counters) for name, one in found(host).items()}
    for mode in ("CPX", "QPX", "DPX"):
        host.node.switch(card, mode)
        assert {n: (o.memory_mib, o.cores, o.counters) for n, o in found(host).items()} == said


def test_while_a_program_uses_the_card_its_mode_stays_and_waiting_helps(tmp_path: Path) -> None:
    host, card = node(tmp_path, busy=True)
    with pytest.raises(PartitionBusyError, match="a program still uses it") as refused:
        Amd().make_instance(target(card, "CPX", 0), host=host)
    assert refused.value.retriable
    assert card.mode == "SPX"


def test_a_mode_that_the_kernel_refuses_is_refused(tmp_path: Path) -> None:
    host, card = node(tmp_path, modes="SPX, CPX")
    with pytest.raises(DeviceGoneError, match="no place"):
        Amd().make_instance(target(card, "DPX", 0), host=host)
    (tmp_path / card.function / "available_compute_partition").write_text("SPX, DPX, CPX\n")
    with pytest.raises(PartitionRefusedError, match="Invalid argument") as refused:
        Amd().make_instance(target(card, "DPX", 0), host=host)
    assert "agent.privileged" in refused.value.remedy


def test_a_mode_that_is_written_and_not_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, card = node(tmp_path)
    monkeypatch.setattr(host.node, "switch", lambda _card, _mode: None)
    with pytest.raises(PartitionRefusedError, match="is in mode SPX"):
        Amd().make_instance(target(card, "CPX", 0), host=host)


def test_partitions_that_turn_out_smaller_than_was_said_are_refused_each_time_and_not_offered(
    tmp_path: Path,
) -> None:
    host, card = node(tmp_path, missing_mib=500)
    vendor = Amd()
    for _ in range(2):
        with pytest.raises(PartitionRefusedError, match="24074 MiB and not 24574"):
            vendor.make_instance(target(card, "CPX", 7), host=host)
        assert card.mode == "SPX"
    assert "only the policy Static" in found(host, vendor)[card.part("CPX", 7)].unpublished
    host.node.switch(card, "CPX")
    assert not found(host, vendor)[card.part("CPX", 7)].unpublished


def test_edits_of_a_partition_whose_card_was_cut_otherwise_are_refused(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    vendor = Amd()
    instance = vendor.find_instance(target(card, "CPX", 3), host=host)
    assert instance is not None
    host.node.switch(card, "DPX")
    with pytest.raises(PartitionBusyError, match="in mode DPX"):
        vendor.instance_edits(instance, host=host)


def test_a_container_waits_for_the_partitions_render_node(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    vendor = Amd()
    instance = vendor.find_instance(target(card, "CPX", 3), host=host)
    assert instance is not None
    host.local(card.render(3)).unlink()
    with pytest.raises(DeviceNodesMissingError, match="renderD131"):
        vendor.instance_edits(instance, host=host)
    healths = {one.name: one.reason for one in vendor.health(there(host), host=host)}
    assert {name for name, reason in healths.items() if reason == "DeviceNodesMissing"} == {
        card.part("CPX", 3)
    }


def test_a_partition_is_as_well_as_its_card_and_missing_in_another_mode(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    cards = list(found(host).values())
    assert {one.health for one in Amd().health(cards, host=host)} == {"Healthy"}
    host.node.switch(card, "DPX")
    told = {one.name: one for one in Amd().health(cards, host=host)}
    assert told[card.part("CPX", 0)].message == "The card is in mode DPX."
    assert told[card.part("CPX", 0)].reason == "CardMissing"
    assert told[card.part("DPX", 0)].health == "Healthy"


def test_a_card_that_is_cut_on_demand_is_well_in_any_mode(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    whole = replace(found(host)[card.name], unpublished="")
    (health,) = Amd().health([whole], host=host)
    assert health.health == "Healthy"
    (health,) = Amd().health([replace(whole, counters={})], host=host)
    assert health.reason == "CardMissing"
    assert "mode CPX" in health.message


def test_the_health_of_a_partition_that_cannot_be_found_is_unknown(tmp_path: Path) -> None:
    host, _ = node(tmp_path, mode="CPX")
    parts = there(host)
    host.node.hidden = True
    host.node.topology()
    assert {one.health for one in Amd().health(parts, host=host)} == {"Unknown"}


@pytest.mark.parametrize("broken", ["current_compute_partition", "unique_id"])
def test_what_cannot_be_read_at_the_moment_is_asked_again(tmp_path: Path, broken: str) -> None:
    host, card = node(tmp_path, mode="CPX")
    (tmp_path / card.function / broken).write_text("one\ntwo\n")
    with pytest.raises(PrepareError) as refused:
        Amd().find_instance(target(card, "CPX", 0), host=host)
    assert refused.value.retriable or isinstance(refused.value, DeviceGoneError)


NODE = st.builds(
    KfdNode,
    number=st.integers(0, 9),
    address=st.sampled_from([f"0000:05:00.{function}" for function in range(8)] + ["0000:26:00.0"]),
    partition=st.integers(0, 15),
    gfx=st.just(""),
    render_minor=st.integers(0, 200),
    dies=st.integers(0, 9),
)


@given(st.lists(NODE, max_size=12), st.booleans(), st.one_of(st.none(), st.integers(1, 8)))
def test_whatever_is_listed_partitions_are_told_apart_or_refused(
    nodes: list[KfdNode], complete: bool, count: int | None
) -> None:
    topology = KfdTopology(nodes=tuple(nodes), complete=complete)
    try:
        parts = topology.parts("0000:05:00.0", count=count)
    except UnreadableError:
        return
    assert count in (None, len(parts))
    assert all(part.address.startswith("0000:05:00.") for part in parts)
    assert len({(part.address, part.partition) for part in parts}) == len(parts)


def test_amounts_of_the_fixture_are_those_of_the_card(tmp_path: Path) -> None:
    host, card = node(tmp_path, mode="CPX")
    assert sum(one.memory_bytes for one in there(host)) == card.memory_mib * MIB


NASTY = ["", "-1", "9" * 30, "x" * 5000, "CPX\0", "0x0", "SPX, SPX", "\n\n", "cpx"]
FILES = [
    "current_compute_partition",
    "available_compute_partition",
    "current_memory_partition",
    "mem_info_vram_total",
]
PROPERTIES = ["location_id", "domain", "drm_render_minor", "num_xcc", "simd_count"]


@pytest.mark.parametrize("name", [*FILES, *PROPERTIES, "size_in_bytes", "heap_type"])
def test_whatever_a_file_says_nothing_is_raised_and_no_more_is_offered_than_there_is(
    tmp_path: Path, name: str
) -> None:
    host, card = node(tmp_path, mode="CPX")
    folder = tmp_path / "sys/class/kfd/kfd/topology/nodes/3"
    for text in NASTY:
        if name in FILES:
            path = tmp_path / card.function / name
            before, now = path.read_text(), f"{text}\n"
        else:
            path = folder / ("properties" if name in PROPERTIES else "mem_banks/0/properties")
            before = path.read_text()
            lines = [line for line in before.splitlines() if not line.startswith(name)]
            now = "\n".join([*lines, f"{name} {text}", ""])
        path.write_text(now)
        cards = Amd().discover(host).cards
        parts = [one for one in cards if one.partition and one.partition.exists]
        assert sum(part.memory_mib for part in parts) <= card.memory_mib + 2
        assert len(parts) in (0, 8)
        for one in parts:
            place = place_of(one.name)
            assert place is not None
            with contextlib.suppress(PrepareError):
                Amd().find_instance(PartitionTarget(place=place, card_uuid=card.uuid), host=host)
        path.write_text(before)
    assert len(there(host)) == 8
