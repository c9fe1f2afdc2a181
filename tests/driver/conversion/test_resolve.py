"""What conversion writes is resolved by the allocator to exactly the amounts, on different cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from driver.allocation import Snapshot, allocate
from driver.allocation.limits import check_claim
from driver.api.asked import carry_over, restored
from driver.cards import Card, IsolationLevel, Partition
from driver.conversion import CardKind, stock_of
from driver.quantities import MIB, parse_quantity
from driver.slices import publication_of
from driver.vendors.catalogue import VENDORS
from driver.vendors.facts import VendorFacts
from driver.vendors.legacy import LegacyNames
from tests.driver.conversion.golden_files import files, name_of, read
from tests.driver.conversion.pods import JSON, amounts_of, cards_of, converted, devices_of, partitions_of, pod
from tooling.generate.device_classes import VENDORS as NAMES
from tooling.generate.device_classes import device_classes

CLASSES = device_classes(NAMES)
FAMILIES = [(facts, entry) for facts in VENDORS for entry in facts.legacy]
DEVICES = {
    name_of(path): template["spec"]["spec"]["devices"]
    for path in files()
    for template in read(path).get("templates", ())
}


def kind_of(facts: VendorFacts, entry: LegacyNames) -> CardKind:
    model = entry.models[0] if entry.models else "Model 1"
    return CardKind(vendor=facts.name, model=model, memory_mib=entry.memory_most_mib or 98304)


def resolved(devices: JSON, kind: CardKind, *, number: int = 4, release: str = "1.36") -> list[JSON]:
    """The results, on a node with cards of the kind beside some of another vendor."""
    strange = CardKind(vendor="other", model="x", memory_mib=1 << 20)
    cards = [*cards_of(strange, number=2, start=100), *cards_of(kind, number=number)]
    return allocated(devices, cards, release=release)


def allocated(devices: JSON, cards: Sequence[Card], *, release: str = "1.36") -> list[JSON]:
    """The results, on a node with these cards."""
    snapshot = Snapshot.build(
        slices=publication_of(cards, node="n").slices,
        classes=CLASSES,
        nodes=[{"metadata": {"name": "n"}}],
        claims=[],
    )
    claim = {"metadata": {"name": "c", "namespace": "d"}, "spec": {"devices": devices}}
    decision = allocate(snapshot, node="n", claims=[claim], release=release)
    assert decision.allocations is not None, decision.refusal
    results: list[JSON] = decision.allocations[0]["devices"]["results"]
    return results


def mib(result: JSON) -> int:
    return int(parse_quantity(result["consumedCapacity"]["memory"]).exact) // MIB


@pytest.mark.parametrize(("facts", "entry"), FAMILIES, ids=[entry.count for _, entry in FAMILIES])
def test_a_count_resolves_to_so_many_cards_each_another_one(facts: VendorFacts, entry: LegacyNames) -> None:
    kind = kind_of(facts, entry)
    count = 4 if entry.parts_fill else 2
    found = converted(pod({entry.count: str(count)}), stock=(kind,))
    results = resolved(devices_of(found), kind)
    assert len({one["device"] for one in results}) == len(results) == 2
    share = 1 if entry.parts_fill else entry.parts
    assert {mib(one) for one in results} == {kind.memory_mib // share}
    assert {one["consumedCapacity"]["cores"] for one in results} == {str(100 // share if share > 1 else 0)}


@pytest.mark.parametrize(
    ("facts", "entry"),
    [one for one in FAMILIES if one[1].memory and not one[1].templates and not one[1].memory_steps_mib],
    ids=lambda one: getattr(one, "count", getattr(one, "name", "")),
)
def test_amounts_resolve_to_the_mib_and_the_percent_that_were_asked_for(
    facts: VendorFacts, entry: LegacyNames
) -> None:
    kind = kind_of(facts, entry)
    for count, units, cores in ((1, 1, 1), (2, 7, entry.cores_of // 2), (3, 20, entry.cores_of)):
        limits = {entry.count: str(count), entry.memory: str(units), entry.cores: str(cores)}
        results = resolved(devices_of(converted(pod(limits), stock=())), kind)
        assert len({one["device"] for one in results}) == len(results) == count
        assert {mib(one) for one in results} == {units * entry.memory_unit // MIB}
        percent = max(cores * 100 // entry.cores_of, 1)
        assert {one["consumedCapacity"]["cores"] for one in results} == {str(percent)}


@pytest.mark.parametrize("percent", [1, 33, 50, 99, 100])
def test_percent_resolves_to_so_much_of_whichever_card_it_gets(percent: int) -> None:
    kinds = [
        CardKind(vendor="nvidia", model=f"Card {size}", memory_mib=size) for size in (15360, 40960, 81559)
    ]
    limits = {"nvidia.com/gpu": "2", "nvidia.com/gpumem-percentage": str(percent)}
    devices = devices_of(converted(pod(limits), stock=tuple(kinds)))
    for kind in kinds:
        results = resolved(devices, kind)
        assert {mib(one) for one in results} == {kind.memory_mib * percent // 100}
        assert len({one["device"] for one in results}) == 2


def test_as_many_parts_as_a_card_has_fit_on_it_also_where_their_percents_are_no_whole_numbers() -> None:
    for facts, entry in FAMILIES:
        for template in entry.templates:
            kind = kind_of(facts, entry)
            number = min(kind.memory_mib // template.memory_mib, template.cores_of // template.cores)
            limits = {entry.count: "1", entry.memory: str(template.memory_mib)}
            document = pod(limits)
            document["spec"]["containers"] = [
                {"name": f"c{index}", "resources": {"limits": limits}} for index in range(number)
            ]
            cards = 2 if entry.group > 1 else 1
            results = resolved(devices_of(converted(document, stock=())), kind, number=cards)
            assert len(results) == number * cards
            assert {one["device"] for one in results} == {card.name for card in cards_of(kind, number=cards)}


def test_init_containers_resolve_to_no_more_cards_than_they_use_in_turn() -> None:
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "4000"}
    document = pod(limits)
    document["spec"]["initContainers"] = [
        {"name": "fetch", "resources": {"limits": limits}},
        {"name": "watch", "restartPolicy": "Always", "resources": {"limits": limits}},
    ]
    kind = CardKind(vendor="nvidia", model="A", memory_mib=8000)
    assert [mib(one) for one in resolved(devices_of(converted(document)), kind, number=1)] == [4000, 4000]


def test_cards_at_one_numa_node_are() -> None:
    document = pod(
        {"nvidia.com/gpu": "2", "nvidia.com/gpumem": "4000"}, annotations={"nvidia.com/numa-bind": "true"}
    )
    kind = CardKind(vendor="nvidia", model="A", memory_mib=8000)
    results = resolved(devices_of(converted(document)), kind)
    numa = {card.name: card.numa_node for card in cards_of(kind, number=4)}
    assert len({numa[one["device"]] for one in results}) == 1
    assert len({one["device"] for one in results}) == 2


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"nvidia.com/gpumem": "4000"}, [4864, 4864]),
        ({"nvidia.com/gpumem": "4865"}, [9856, 9856]),
        ({"nvidia.com/gpumem": "40960"}, [40192, 40192]),
        ({"nvidia.com/gpumem-percentage": "50"}, [19968, 19968]),
        ({"nvidia.com/gpumem-percentage": "51"}, [40192, 40192]),
        ({}, [40192, 40192]),
    ],
)
def test_under_mig_the_smallest_partitions_that_have_as_much_are_given_of_different_cards(
    limits: JSON, sizes: list[int]
) -> None:
    kind = CardKind(vendor="nvidia", model="NVIDIA A100-SXM4-40GB", memory_mib=40960)
    cards = cards_of(kind, number=2)
    every = [device for card in cards for device in (card, *partitions_of(card))]
    document = pod({"nvidia.com/gpu": "2", **limits}, annotations={"nvidia.com/vgpu-mode": "mig"})
    results = allocated(devices_of(converted(document, stock=stock_of(every))), every)
    given = {card.name: card for card in every}
    found = [given[one["device"]] for one in results]
    assert [one.memory_mib for one in found] == sizes
    assert len({one.pci_bus_id for one in found}) == 2
    assert all(one.partition for one in found)


def test_a_pod_that_takes_a_partition_too_gets_one_where_no_share_is_left() -> None:
    kind = CardKind(vendor="nvidia", model="NVIDIA A100-SXM4-40GB", memory_mib=40960)
    (card,) = cards_of(kind, number=1)
    parts = partitions_of(card)
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "4000"}
    document = pod(limits, annotations={"nvidia.com/vgpu-mode": "hami-core,mig"})
    devices = devices_of(converted(document, stock=stock_of([card, *parts])))
    assert [one["device"] for one in allocated(devices, [card, *parts])] == [card.name]
    withheld = replace(card, unpublished="MIG")
    assert [one["device"] for one in allocated(devices, [withheld, *parts])] == [parts[0].name]


def test_a_template_is_a_partition_where_there_is_one_and_a_share_only_of_a_card_that_something_holds() -> (
    None
):
    kind = CardKind(vendor="ascend", model="Ascend 910B3", memory_mib=65536)
    unheld, held, cut = cards_of(kind, number=3)
    held = replace(held, memory_isolation=IsolationLevel.PRELOAD)
    part = Card(
        name=f"{cut.name}-vnpu-0-0-1",
        vendor="ascend",
        model=kind.model,
        memory_bytes=16384 << 20,
        cores=25,
        pci_bus_id=cut.pci_bus_id,
        shareable=False,
        partition=Partition(card_uuid=cut.uuid, profile="vir05_1c_16g"),
    )
    limits = {"huawei.com/Ascend910B3": "1", "huawei.com/Ascend910B3-memory": "16000"}
    devices = devices_of(converted(pod(limits), stock=stock_of([unheld, held, cut, part])))
    assert [one["device"] for one in allocated(devices, [unheld, held, cut, part])] == [part.name]
    assert [one["device"] for one in allocated(devices, [unheld, held])] == [held.name]
    nothing_known = devices_of(converted(pod(limits), stock=stock_of([unheld])))
    assert [one["device"] for one in allocated(nothing_known, [unheld, held])] == [unheld.name]


def test_under_mps_only_a_card_is_given_whose_caps_it_holds() -> None:
    kind = CardKind(vendor="nvidia", model="A", memory_mib=8000)
    preload, service = cards_of(kind, number=2)
    service = replace(service, cores_isolation=IsolationLevel.SERVICE)
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "4000", "nvidia.com/gpucores": "30"}
    devices = devices_of(converted(pod(limits, annotations={"nvidia.com/vgpu-mode": "mps"})))
    assert [one["device"] for one in allocated(devices, [preload, service])] == [service.name]


@pytest.mark.parametrize("name", DEVICES)
def test_what_is_written_is_within_the_limits_of_the_api(name: str) -> None:
    check_claim(DEVICES[name], "spec.devices")


@pytest.mark.parametrize("name", DEVICES)
def test_servers_that_drop_amounts_lose_none_of_them(name: str) -> None:
    devices = DEVICES[name]

    def is_ours(_: str) -> bool:
        return True

    entries, _ = carry_over(devices, is_ours=is_ours)
    config = [*devices.get("config", []), *entries]
    stored = {**devices, "requests": [_without(one) for one in devices["requests"]], "config": config}
    assert restored(stored, is_ours=is_ours)["requests"] == devices["requests"]


def test_no_request_of_a_part_of_a_card_is_one_of_a_whole_card() -> None:
    for facts, entry in FAMILIES:
        for role in ("memory", "cores"):
            name = getattr(entry, role)
            if name:
                kind = kind_of(facts, entry)
                found = converted(pod({name: "1"}), stock=(kind,))
                assert all(role in one for one in amounts_of(found)), name


def _without(request: dict[str, Any]) -> dict[str, Any]:
    if "exactly" in request:
        return {**request, "exactly": _bare(request["exactly"])}
    return {**request, "firstAvailable": [_bare(one) for one in request["firstAvailable"]]}


def _bare(option: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in option.items() if key != "capacity"}
