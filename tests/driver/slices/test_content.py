"""How a node's cards look as ResourceSlices."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cards import Card, IsolationLevel
from driver.slices import FENCE, MAX_DEVICES, canonical, content_digest, publication_of, slice_name

GIB = 1 << 30
MIB = 1 << 20
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?"
)


def card(name: Any = "nvidia-1", **fields: Any) -> Card:
    return Card(**{"name": name, "vendor": "nvidia", "model": "A100", "memory_bytes": 24 * GIB, **fields})


def only_device(**fields: Any) -> Any:
    (item,) = publication_of([card(**fields)], node="n1").slices
    (device,) = item["spec"]["devices"]
    return device


def test_a_slice_names_driver_node_and_pool_and_is_owned_by_the_node() -> None:
    (item,) = publication_of([card()], node="n1", node_uid="u-1").slices
    assert item["spec"]["driver"] == "dragoman.dev"
    assert item["spec"]["nodeName"] == "n1"
    assert item["spec"]["pool"] == {"name": "n1/dragoman", "resourceSliceCount": 1}
    assert item["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u-1", "controller": True}
    ]


def test_a_shareable_card_gives_the_whole_card_to_who_asks_nothing_and_rounds_to_whole_units() -> None:
    device = only_device()
    assert device["allowMultipleAllocations"] is True
    assert device["capacity"] == {
        "memory": {
            "value": "24Gi",
            "requestPolicy": {
                "default": "24Gi",
                "validRange": {"min": "1Mi", "max": "24Gi", "step": "1Mi"},
            },
        },
        "cores": {
            "value": "100",
            "requestPolicy": {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}},
        },
    }


def test_a_card_that_is_given_out_whole_has_no_policies() -> None:
    device = only_device(shareable=False)
    assert "allowMultipleAllocations" not in device
    assert device["capacity"] == {"memory": {"value": "24Gi"}, "cores": {"value": "100"}}


def test_where_uncapped_shares_are_refused_a_claim_without_cores_takes_all_of_the_compute() -> None:
    policy = only_device(allow_uncapped=False)["capacity"]["cores"]["requestPolicy"]
    assert policy == {"default": "100", "validRange": {"min": "1", "max": "100", "step": "1"}}


def test_a_card_too_small_for_a_range_is_given_out_whole() -> None:
    assert only_device(memory_bytes=MIB)["capacity"]["memory"] == {"value": "1Mi"}


def test_what_is_known_of_a_card_becomes_attributes() -> None:
    device = only_device(
        uuid="GPU-1",
        architecture="Ampere",
        driver_version="550.54.15",
        pci_bus_id="0000:3b:00.0",
        pcie_root="pci0000:3a",
        numa_node=1,
        memory_isolation=IsolationLevel.PRELOAD,
        extra_attributes={"migCapable": True, "lanes": 16, "example.com/rack": "r1"},
    )
    assert device["attributes"] == {
        "vendor": {"string": "nvidia"},
        "model": {"string": "A100"},
        "uuid": {"string": "GPU-1"},
        "architecture": {"string": "Ampere"},
        "driverVersion": {"version": "550.54.15"},
        "memoryIsolation": {"string": "preload"},
        "coresIsolation": {"string": "none"},
        "resource.kubernetes.io/pciBusID": {"string": "0000:3b:00.0"},
        "resource.kubernetes.io/pcieRoot": {"string": "pci0000:3a"},
        "resource.kubernetes.io/numaNode": {"int": 1},
        "migCapable": {"bool": True},
        "lanes": {"int": 16},
        "example.com/rack": {"string": "r1"},
    }


def test_what_is_not_known_is_left_out() -> None:
    assert set(only_device()["attributes"]) == {"vendor", "model", "memoryIsolation", "coresIsolation"}


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ("550.54.15", {"version": "550.54.15"}),
        ("535.104.05", {"version": "535.104.5"}),
        ("6.10", {"version": "6.10.0"}),
        ("24.1.rc2", {"version": "24.1.0-rc2"}),
        ("25.0.rc1.1", {"version": "25.0.0-rc1.1"}),
        ("31.0.101.5382", {"version": "31.0.101+5382"}),
        ("unknown build", {"string": "unknown build"}),
    ],
)
def test_a_driver_version_is_comparable_wherever_it_begins_with_a_number(
    written: Any, published: Any
) -> None:
    assert only_device(driver_version=written)["attributes"]["driverVersion"] == published


@given(st.text(max_size=80))
def test_a_version_that_is_published_is_a_semantic_version(text: Any) -> None:
    published = only_device(driver_version=f"1{text}")["attributes"]["driverVersion"]
    if "version" in published:
        assert SEMVER.fullmatch(published["version"])
        assert len(published["version"]) <= 64


def test_a_hostile_version_costs_no_time() -> None:
    assert "string" in only_device(driver_version="1" + ".1" * 400_000 + "!")["attributes"]["driverVersion"]


@given(st.text(min_size=1, max_size=100))
def test_a_model_never_exceeds_the_limit_in_bytes(model: Any) -> None:
    assert len(only_device(model=model)["attributes"]["model"]["string"].encode()) <= 64


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("not a name", 1),
        ("vendor", "other"),
        ("text", "x" * 65),
        ("number", 1 << 63),
        ("Upper.Domain/x", 1),
    ],
)
def test_an_attribute_that_cannot_be_published_is_named_and_the_card_is_kept(name: Any, value: Any) -> None:
    publication = publication_of([card(extra_attributes={name: value})], node="n1")
    assert len(publication.slices) == 1
    assert f"{name!r} is not published" in publication.problems[0]


def test_a_device_holds_no_more_than_32_attributes_and_capacities() -> None:
    publication = publication_of([card(extra_attributes={f"a{i}": i for i in range(40)})], node="n1")
    (device,) = publication.slices[0]["spec"]["devices"]
    assert len(device["attributes"]) + len(device["capacity"]) == 32
    assert len(publication.problems) == 14


def test_cards_that_are_not_offered_are_left_out() -> None:
    cards = [card("a", unpublished="MIG mode"), card("b")]
    (item,) = publication_of(cards, node="n1").slices
    assert [device["name"] for device in item["spec"]["devices"]] == ["b"]


def test_a_node_that_offers_nothing_has_no_slice() -> None:
    assert publication_of([card(unpublished="MIG mode")], node="n1").slices == ()


def test_of_two_cards_of_one_name_the_first_is_published_and_the_second_named() -> None:
    publication = publication_of([card("a", model="x"), card("a", model="y")], node="n1")
    (device,) = publication.slices[0]["spec"]["devices"]
    assert device["attributes"]["model"] == {"string": "x"}
    assert "called a" in publication.problems[0]


def test_more_cards_than_a_slice_holds_are_cut_in_order() -> None:
    cards = [card(f"c-{index:03d}") for index in range(2 * MAX_DEVICES + 1)]
    slices = publication_of(cards, node="n1").slices
    assert [len(item["spec"]["devices"]) for item in slices] == [128, 128, 1]
    assert {item["spec"]["pool"]["resourceSliceCount"] for item in slices} == {3}
    published = [device["name"] for item in slices for device in item["spec"]["devices"]]
    assert published == [c.name for c in cards]


def test_slices_sort_by_name_as_they_are_listed() -> None:
    names = [slice_name("n1", index) for index in range(2000)]
    assert names == sorted(names)


node_names = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?){0,3}", fullmatch=True
)


@given(node_names, st.integers(min_value=0, max_value=99_999))
def test_a_slice_name_is_a_dns_subdomain_whatever_the_node_is_called(node: Any, index: Any) -> None:
    name = slice_name(node, index)
    assert len(name) <= 253
    assert SUBDOMAIN.fullmatch(name)


@given(st.lists(node_names, min_size=2, max_size=2, unique=True), st.integers(0, 9), st.integers(0, 9))
def test_slices_of_two_nodes_never_share_a_name(nodes: Any, one: Any, other: Any) -> None:
    assert slice_name(nodes[0], one) != slice_name(nodes[1], other)


def test_two_long_node_names_with_the_same_beginning_get_different_slices() -> None:
    assert slice_name("a" * 240 + "-x", 0) != slice_name("a" * 240 + "-y", 0)


def test_the_digest_ignores_the_generation_and_nothing_else() -> None:
    (item,) = publication_of([card()], node="n1").slices
    spec = item["spec"]
    newer = {**spec, "pool": {**spec["pool"], "generation": 7}}
    wider = {**spec, "pool": {**spec["pool"], "resourceSliceCount": 2}}
    assert content_digest(newer) == content_digest(spec)
    assert content_digest(wider) != content_digest(spec)


def test_fenced_slices_are_for_no_node_and_lose_no_field_on_servers_without_shares() -> None:
    (item,) = publication_of([card()], node="n1", node_uid="u", fenced=True).slices
    assert "nodeName" not in item["spec"]
    assert item["spec"]["nodeSelector"] == FENCE
    (device,) = item["spec"]["devices"]
    assert "allowMultipleAllocations" not in device
    assert all(set(capacity) == {"value"} for capacity in device["capacity"].values())


def test_a_node_name_too_long_for_a_pool_is_a_problem_and_not_a_crash() -> None:
    publication = publication_of([card()], node="a" * 250)
    assert publication.slices == ()
    assert "too long" in publication.problems[0]


@given(st.dictionaries(st.text(), st.text() | st.sampled_from(["\ud800", "a\udfff"])))
def test_the_one_text_of_an_object_is_read_back_as_the_object(document: Any) -> None:
    assert json.loads(canonical(document)) == document


def test_half_a_surrogate_pair_in_a_cards_texts_does_not_stop_the_publication() -> None:
    device = only_device(model="\ud800", extra_attributes={"note": "\udfff"})
    assert device["attributes"]["model"] == {"string": "?"}
    assert device["attributes"]["note"] == {"string": "?"}
