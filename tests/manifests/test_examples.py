"""The examples as files: complete, free of a namespace, meant as they say. The cluster tests apply them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from driver.allocation import Snapshot, allocate
from driver.cards import Card, device_name
from driver.slices import publication_of
from tooling.generate.device_classes import VENDORS, device_classes

FOLDER = Path(__file__).resolve().parents[2] / "manifests" / "examples"
NAMES = {
    "admin-access-monitoring",
    "extended-resource",
    "first-available",
    "init-then-app",
    "memory-and-cores",
    "memory-only",
    "refused-two-containers-one-share",
    "refused-two-shares-one-card",
    "shared-whole-card",
    "two-containers",
    "two-different-cards",
    "whole-card",
}


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()))


def _of(name: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in _documents(name) if one["kind"] == kind]


def _claim(name: str) -> dict[str, Any]:
    """The claim that the example's pod gets, as Kubernetes makes it of the template."""
    found = _of(name, "ResourceClaim")
    if not found:
        (template,) = _of(name, "ResourceClaimTemplate")
        found = [{**template, "kind": "ResourceClaim", "spec": template["spec"]["spec"]}]
    return {**found[0], "metadata": {"name": name, "namespace": "default", "uid": "1"}}


def _card(vendor: str, gib: int, uuid: str, architecture: str = "Ampere") -> Card:
    name = device_name(vendor=vendor, uuid=uuid)
    return Card(
        name=name, vendor=vendor, model="M", memory_bytes=gib << 30, uuid=uuid, architecture=architecture
    )


CARDS = [_card("nvidia", 24, "a"), _card("nvidia", 40, "b"), _card("ascend", 32, "c", "910B")]


def _results(name: str, cards: list[Card]) -> list[dict[str, Any]]:
    slices = [
        {**one, "spec": {**one["spec"], "pool": {**one["spec"]["pool"], "generation": 1}}}
        for one in publication_of(cards, node="n").slices
    ]
    snapshot = Snapshot.build(
        slices=slices, classes=device_classes(VENDORS), nodes=[{"metadata": {"name": "n"}}]
    )
    decision = allocate(snapshot, node="n", claims=[_claim(name)])
    assert decision.allocations is not None, decision.refusal
    return list(decision.allocations[0]["devices"]["results"])


def test_all_examples_are_there_and_no_others() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == NAMES


def test_the_readme_lists_every_example() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [name for name in sorted(NAMES) if f"]({name}.yaml)" not in text] == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_example_names_no_namespace_and_begins_with_a_comment_for_a_first_reader(name: str) -> None:
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")
    assert [one for one in _documents(name) if "namespace" in one["metadata"]] == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_claim_that_a_container_names_is_one_of_its_pod_and_every_request_exists(name: str) -> None:
    stored = {one["metadata"]["name"] for one in _documents(name) if one["kind"].startswith("ResourceClaim")}
    for pod in _of(name, "Pod"):
        spec = pod["spec"]
        given = {one["name"]: one for one in spec.get("resourceClaims", [])}
        for one in given.values():
            assert one.get("resourceClaimTemplateName", one.get("resourceClaimName")) in stored
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            for use in container["resources"].get("claims", []):
                assert use["name"] in given
                requests = {one["name"] for one in _claim(name)["spec"]["devices"]["requests"]}
                assert use.get("request", next(iter(requests))) in requests


@pytest.mark.parametrize("name", sorted(NAMES - {"extended-resource"}))
def test_an_example_is_allocated_on_a_node_with_cards(name: str) -> None:
    assert _results(name, CARDS)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_share_with_a_limit_comes_from_a_template(name: str) -> None:
    """A standalone claim could be named by two pods, whose counts would not add up."""
    for claim in _of(name, "ResourceClaim"):
        assert [one for one in claim["spec"]["devices"]["requests"] if "capacity" in one["exactly"]] == []


def _memory(result: dict[str, Any]) -> str:
    return str(result["consumedCapacity"]["memory"])


def test_memory_and_cores_asks_for_4_gib_and_30_percent_of_an_ampere_card() -> None:
    older = _card("nvidia", 16, "0", "Turing")
    unknown = _card("nvidia", 16, "1", "")
    (result,) = _results("memory-and-cores", [older, unknown, *CARDS])
    assert result["device"] == "nvidia-a"
    assert (_memory(result), result["consumedCapacity"]["cores"]) == ("4Gi", "30")


def test_memory_only_has_no_cap_on_compute() -> None:
    (result,) = _results("memory-only", CARDS)
    assert (_memory(result), result["consumedCapacity"]["cores"]) == ("2Gi", "0")


def test_whole_card_takes_all_memory_of_a_card_of_any_vendor() -> None:
    (result,) = _results("whole-card", CARDS[2:])
    assert (result["device"], _memory(result)) == ("ascend-c", "32Gi")


def test_two_different_cards_are_never_one() -> None:
    assert [one["device"] for one in _results("two-different-cards", CARDS)] == ["nvidia-a", "nvidia-b"]


def test_two_containers_hold_different_limits() -> None:
    by_request = {one["request"]: _memory(one) for one in _results("two-containers", CARDS)}
    assert by_request == {"encoder": "1Gi", "model": "6Gi"}
    (pod,) = _of("two-containers", "Pod")
    uses = [one["resources"]["claims"][0]["request"] for one in pod["spec"]["containers"]]
    assert sorted(uses) == sorted(by_request)


def test_init_then_app_use_the_same_request() -> None:
    (pod,) = _of("init-then-app", "Pod")
    (init,), (app,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    assert init["resources"] == app["resources"]


def test_first_available_prefers_the_smaller_card() -> None:
    (first,) = _results("first-available", CARDS)
    (second,) = _results("first-available", CARDS[1:])
    assert (first["request"], first["device"]) == ("card/of-24-gib", "nvidia-a")
    assert (second["request"], second["device"]) == ("card/of-40-gib", "nvidia-b")


def test_admin_access_gets_every_card_and_takes_nothing() -> None:
    results = _results("admin-access-monitoring", CARDS)
    assert sorted(one["device"] for one in results) == ["ascend-c", "nvidia-a", "nvidia-b"]
    assert all(one["adminAccess"] for one in results)


def test_the_extended_resource_names_a_class_of_the_chart() -> None:
    (pod,) = _of("extended-resource", "Pod")
    (name,) = pod["spec"]["containers"][0]["resources"]["limits"]
    prefix, _, device_class = name.partition("/")
    assert prefix == "deviceclass.resource.kubernetes.io"
    assert device_class in {one["metadata"]["name"] for one in device_classes(VENDORS)}


def test_the_refused_pair_is_two_shares_of_one_card_in_one_container() -> None:
    results = _results("refused-two-shares-one-card", CARDS)
    assert len(results) == 2
    assert len({one["device"] for one in results}) == 1
    (pod,) = _of("refused-two-shares-one-card", "Pod")
    assert len(pod["spec"]["containers"]) == 1


def test_the_refused_containers_run_at_the_same_time_on_one_request() -> None:
    (pod,) = _of("refused-two-containers-one-share", "Pod")
    left, right = pod["spec"]["containers"]
    assert left["resources"] == right["resources"]
