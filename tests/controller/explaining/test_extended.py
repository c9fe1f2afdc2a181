"""Pods that ask for cards by extended resources."""

import json
from typing import Any

import pytest

from controller.explaining.extended import special_claim
from controller.explaining.views import MAX_EXTENDED, class_view, pod_view


def pod(*containers: dict[str, Any], init: Any = (), status: Any = None) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": list(containers), "initContainers": list(init)},
        "status": status,
    }


def container(**limits: Any) -> dict[str, Any]:
    return {"resources": {"limits": {name.replace("__", "/"): value for name, value in limits.items()}}}


def extended(document: dict[str, Any]) -> Any:
    view = pod_view(document)
    return None if view is None else view.extended


def device_class(name: str, resource: str = "", created: str = "") -> tuple[str, Any]:
    metadata = {"name": name, "creationTimestamp": created}
    return name, class_view({"metadata": metadata, "spec": {"extendedResourceName": resource}})


def asked(resources: Any, *classes: tuple[str, Any]) -> list[tuple[str, str, int]]:
    text = special_claim(resources, classes=classes, ours=lambda name: name.endswith(".dragoman.dev"))
    if not text:
        return []
    requests = json.loads(text)["spec"]["devices"]["requests"]
    return [(one["name"], one["exactly"]["deviceClassName"], one["exactly"]["count"]) for one in requests]


def test_what_containers_ask_under_names_with_a_domain_is_kept_of_a_pod_without_claims() -> None:
    document = pod(container(cpu="1"), container(nvidia_com__gpu=2), init=[container(a_b__c="1")])
    assert extended(document) == ((0, "a_b/c", 1), (2, "nvidia_com/gpu", 2))


@pytest.mark.parametrize("amount", ["0", "-1", "1500m", "1k", "99999", "", "¹"])
def test_what_is_no_small_whole_number_is_not_kept(amount: str) -> None:
    assert extended(pod(container(a__b=amount))) is None


def test_a_pod_that_asks_for_neither_claims_nor_resources_is_not_kept() -> None:
    assert pod_view(pod(container(cpu="1", memory="1Gi"))) is None


def test_what_is_kept_of_a_pod_is_bounded() -> None:
    many = [container(**{f"a__b{k}": 1}) for k in range(MAX_EXTENDED + 5)]
    assert len(extended(pod(*many))) == MAX_EXTENDED


def test_once_there_is_a_claim_for_the_resources_it_is_the_claim_that_counts() -> None:
    view = pod_view(
        pod(container(a__b=1), status={"extendedResourceClaimStatus": {"resourceClaimName": "x"}})
    )
    assert view is not None
    assert view.claims == ("x",)
    assert view.extended == ()


def test_a_class_stands_for_the_resource_of_its_name_and_for_the_one_it_names() -> None:
    resources = [(0, "deviceclass.resource.kubernetes.io/any.dragoman.dev", 1), (0, "a.b/c", 2)]
    classes = [device_class("any.dragoman.dev"), device_class("big.dragoman.dev", "a.b/c")]
    assert asked(resources, *classes) == [
        ("container-0-request-0", "any.dragoman.dev", 1),
        ("container-0-request-1", "big.dragoman.dev", 2),
    ]


def test_of_two_classes_for_one_resource_the_newer_counts_and_of_equally_old_ones_the_first_by_name() -> None:
    resources = [(0, "a.b/c", 1)]
    older = device_class("a.dragoman.dev", "a.b/c", "2026-01-01T00:00:00Z")
    newer = device_class("b.dragoman.dev", "a.b/c", "2026-02-01T00:00:00Z")
    same = device_class("c.dragoman.dev", "a.b/c", "2026-02-01T00:00:00Z")
    assert asked(resources, same, older, newer)[0][1] == "b.dragoman.dev"


def test_resources_of_other_drivers_are_none_of_our_business() -> None:
    foreign = device_class("gpu.example.com", "a.b/c")
    resources = [(0, "a.b/c", 1), (1, "vendor.com/gpu", 1), (1, "deviceclass.resource.kubernetes.io/x", 1)]
    assert asked(resources, foreign) == []
