"""Fields that the API server dropped."""

import copy
from typing import Any

import pytest

from driver.cards import Card
from driver.slices import dropped_fields, publication_of


def shareable_slice() -> Any:
    card = Card(name="c", vendor="nvidia", model="A100", memory_bytes=1 << 34)
    return publication_of([card], node="n1").slices[0]


def test_nothing_is_dropped_where_all_came_back_with_more_beside_it() -> None:
    sent = shareable_slice()
    returned = copy.deepcopy(sent)
    returned["metadata"]["uid"] = "u"
    assert dropped_fields(sent, returned) == ()


def test_a_server_without_consumable_capacity_is_found_out_by_the_gates_name() -> None:
    sent = shareable_slice()
    returned = copy.deepcopy(sent)
    device = returned["spec"]["devices"][0]
    del device["allowMultipleAllocations"]
    del device["capacity"]["memory"]["requestPolicy"]
    del device["capacity"]["cores"]["requestPolicy"]
    dropped = dropped_fields(sent, returned)
    assert {item.path for item in dropped} == {
        "spec.devices[0].allowMultipleAllocations",
        "spec.devices[0].capacity.memory.requestPolicy",
        "spec.devices[0].capacity.cores.requestPolicy",
    }
    assert {item.gate for item in dropped} == {"DRAConsumableCapacity"}


@pytest.mark.parametrize(
    ("sent", "returned", "gate"),
    [
        (
            {"spec": {"devices": {"requests": [{"exactly": {"capacity": {"requests": {"memory": "4Gi"}}}}]}}},
            {"spec": {"devices": {"requests": [{"exactly": {}}]}}},
            "DRAConsumableCapacity",
        ),
        (
            {"requests": [{"firstAvailable": [{"name": "a", "capacity": {"requests": {"memory": "4Gi"}}}]}]},
            {"requests": [{"firstAvailable": [{"name": "a"}]}]},
            "DRAConsumableCapacity",
        ),
        ({"spec": {"devices": [{"taints": ["t"]}]}}, {"spec": {"devices": [{}]}}, "DRADeviceTaints"),
        ({"spec": {"extendedResourceName": "a.b/c"}}, {"spec": {}}, "DRAExtendedResource"),
        ({"status": {"devices": [{"driver": "d"}]}}, {"status": {}}, "DRAResourceClaimDeviceStatus"),
        ({"spec": {"somethingNew": 1}}, {"spec": {}}, ""),
    ],
)
def test_each_gated_field_is_traced_to_its_gate(sent: Any, returned: Any, gate: Any) -> None:
    (dropped,) = dropped_fields(sent, returned)
    assert dropped.gate == gate


def test_what_was_sent_empty_or_false_may_be_missing() -> None:
    assert dropped_fields({"spec": {"a": False, "b": [], "c": None, "d": "", "e": {}}}, {"spec": {}}) == ()


def test_an_item_of_a_list_that_went_missing_is_named_by_its_index() -> None:
    (dropped,) = dropped_fields({"spec": {"list": ["a", "b"]}}, {"spec": {"list": ["a"]}})
    assert dropped.path == "spec.list[1]"


def test_a_dropped_field_reads_as_a_sentence_part() -> None:
    (dropped,) = dropped_fields({"taints": [1]}, {})
    assert str(dropped) == "taints (feature gate DRADeviceTaints is off)"
