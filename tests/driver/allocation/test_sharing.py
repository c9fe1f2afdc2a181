"""What is equal is one object, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

from driver.allocation import Snapshot
from driver.allocation import sharing as module
from driver.allocation.models import Device
from driver.allocation.sharing import Sharing
from tests.driver.allocation.builders import card, device_class, pool


def devices_of(*names: str) -> list[Device]:
    slices: list[Any] = [json.loads(json.dumps(pool(card("a"), node=name))) for name in names]
    snapshot = Snapshot.build(slices=slices, classes=[device_class()])
    return [device for one in snapshot.slices for device in one.devices]


def test_devices_of_one_model_share_capacities_policies_and_texts() -> None:
    one, other = devices_of("n1", "n2")
    assert one.capacity is other.capacity
    assert one.view.capacity is other.view.capacity
    assert one.view.attributes["dragoman.dev"] is other.view.attributes["dragoman.dev"]
    assert one.attributes["vendor"] is other.attributes["vendor"]
    assert one.id.device is other.id.device


def test_of_a_published_device_only_what_results_are_made_of_is_kept() -> None:
    conditions = {"bindingConditions": ["ready"], "bindingFailureConditions": ["failed"]}
    binding: dict[str, Any] = {"bindsToNode": True, **conditions}
    snapshot = Snapshot.build(slices=[pool(card("a"), card("b", **binding))], classes=[])
    plain, bound = snapshot.slices[0].devices
    assert plain.raw == {}
    assert bound.raw == binding
    assert bound.binding_conditions == ("ready",)


def test_values_that_python_takes_for_equal_stay_apart() -> None:
    sharing = Sharing()
    assert sharing.one(1) is not sharing.one(True)
    assert sharing.pair("int", 1) == ("int", 1)
    assert sharing.pair("int", True)[1] is True
    assert sharing.mapping({"a": 1})["a"] is not sharing.mapping({"a": True})["a"]


def test_a_list_is_never_shared() -> None:
    sharing = Sharing()
    one, other = ["x"], ["x"]
    assert sharing.one(one) is one
    assert sharing.one(other) is other
    assert sharing.mapping({"a": one}) is not sharing.mapping({"a": other})


def test_what_is_known_is_forgotten_rather_than_kept_without_bounds(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 10)
    sharing = Sharing()
    for number in range(100):
        assert sharing.one(f"text-{number}") == f"text-{number}"
        assert len(sharing._known) <= 10
