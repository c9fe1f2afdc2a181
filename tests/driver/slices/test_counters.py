"""Cards that are partitioned on demand, in slices."""

from __future__ import annotations

from typing import Any

from driver.cards import Card, Partition
from driver.places import Place
from driver.slices import FENCE, MAX_DEVICES_WITH_TAINTS, dropped_fields, publication_of
from driver.slices.content import MAX_COUNTER_SETS

GIB = 1 << 30


def card(name: str = "nvidia-1", **fields: Any) -> Card:
    slots = {f"slot-{number}": 1 for number in range(8)}
    known = {
        "vendor": "nvidia",
        "model": "A100",
        "memory_bytes": 40 * GIB,
        "counters": {**slots, "decoders": 5},
    }
    return Card(name=name, **{**known, **fields})


def part(of: str = "nvidia-1", start: int = 0, size: int = 1, *, exists: bool = False, **fields: Any) -> Card:
    place = Place(card=of, kind="mig", profile=19, start=start, size=size)
    return Card(
        **{
            "name": place.name,
            "vendor": "nvidia",
            "model": "A100",
            "memory_bytes": 5 * size * GIB,
            "cores": 14 * size,
            "shareable": False,
            "partition": Partition(card_uuid="GPU-1", profile=f"{size}g.{5 * size}gb", exists=exists),
            "counters": {f"slot-{slot}": 1 for slot in place.slots},
            **fields,
        }
    )


def specs(*cards: Card, **how: Any) -> list[Any]:
    return [item["spec"] for item in publication_of(cards, node="n1", **how).slices]


def test_a_card_and_its_partitions_draw_on_counters_that_stand_in_a_slice_of_their_own() -> None:
    devices, counters = specs(card(), part(start=6), part(start=4, size=4))
    assert "sharedCounters" not in devices
    assert "devices" not in counters
    (one,) = counters["sharedCounters"]
    assert (one["name"], one["counters"]["slot-7"], one["counters"]["decoders"]) == (
        "nvidia-1",
        {"value": "1"},
        {"value": "5"},
    )
    assert [sorted(device["consumesCounters"][0]["counters"]) for device in devices["devices"]] == [
        ["decoders", *(f"slot-{number}" for number in range(8))],
        ["slot-6"],
        ["slot-4", "slot-5", "slot-6", "slot-7"],
    ]
    assert {spec["pool"]["resourceSliceCount"] for spec in (devices, counters)} == {2}


def test_a_partition_has_the_amounts_of_its_profile_and_is_given_out_whole() -> None:
    (spec, _) = specs(card(), part(start=4, size=3))
    device = spec["devices"][1]
    assert "allowMultipleAllocations" not in device
    assert device["capacity"] == {"cores": {"value": "42"}, "memory": {"value": "15Gi"}}
    assert device["attributes"]["profile"] == {"string": "3g.15gb"}
    assert device["attributes"]["parentUUID"] == {"string": "GPU-1"}
    assert "profile" not in spec["devices"][0]["attributes"]


def test_what_is_there_and_draws_on_nothing_needs_no_counters() -> None:
    (spec,) = specs(card(unpublished="In MIG mode.", counters={}), part(exists=True, counters={}))
    assert "consumesCounters" not in spec["devices"][0]


def test_where_counters_are_dropped_only_what_would_be_made_is_withheld() -> None:
    found = publication_of([card(), part(), part(start=1, exists=True)], node="n1", counters=False)
    (item,) = found.slices
    assert [device["name"] for device in item["spec"]["devices"]] == ["nvidia-1", part(start=1).name]
    assert not any("consumesCounters" in device for device in item["spec"]["devices"])
    (problem,) = found.problems
    assert "DRAPartitionableDevices" in problem
    assert "1 partitions" in problem


def test_fenced_slices_show_partitions_without_counters() -> None:
    (spec,) = specs(card(), part(), fenced=True)
    assert spec["nodeSelector"] == FENCE
    assert len(spec["devices"]) == 2
    assert not any("consumesCounters" in device for device in spec["devices"])


def test_no_slice_has_more_devices_or_sets_than_the_api_allows() -> None:
    cards = [
        one
        for number in range(10)
        for one in (card(f"c-{number}"), *(part(f"c-{number}", start) for start in range(8)))
    ]
    found = specs(*cards)
    sizes = [len(spec.get("devices", ())) for spec in found]
    sets = [len(spec.get("sharedCounters", ())) for spec in found]
    assert (sum(sizes), max(sizes)) == (90, MAX_DEVICES_WITH_TAINTS)
    assert (sum(sets), max(sets)) == (10, MAX_COUNTER_SETS)
    assert not any(size and count for size, count in zip(sizes, sets, strict=True))


def test_a_set_that_nobody_draws_on_is_not_published() -> None:
    assert specs(card(unpublished="Excluded by policy.")) == []


def test_counters_that_vanish_are_traced_to_their_gate() -> None:
    devices, counters = publication_of([card(), part()], node="n1").slices
    for sent, field in ((devices, "devices"), (counters, "sharedCounters")):
        stored = {
            **sent,
            "spec": {key: value for key, value in sent["spec"].items() if key != "sharedCounters"},
        }
        if field == "devices":
            kept = [
                {key: value for key, value in one.items() if key != "consumesCounters"}
                for one in sent["spec"]["devices"]
            ]
            stored = {**sent, "spec": {**sent["spec"], "devices": kept}}
        assert {lost.gate for lost in dropped_fields(sent, stored)} == {"DRAPartitionableDevices"}
