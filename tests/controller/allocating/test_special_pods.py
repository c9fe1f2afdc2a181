"""Pods that come another way: made for a node, by extended resources, for a shared claim, or too long."""

from __future__ import annotations

from typing import Any

import pytest

from controller.allocating.errors import (
    ExtendedResourceError,
    MixedDriversError,
    NoNodeError,
    PodTooLongError,
)
from controller.allocating.views import pod_view
from driver.errors import ConfigError
from driver.kube.client import ApiError, error_for
from tests.controller.allocating.world import World, card, without_shares

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

CPU = [{"resources": {"requests": {"cpu": "3"}}}]


async def test_a_pod_that_was_made_for_a_node_gets_its_claims_there_and_they_are_reserved_for_it() -> None:
    world = World(nodes=("n1", "n2"))
    world.ask("p", nodeName="n2")
    await world.reconcile("p")
    assert world.node_of("p") == "n2"
    (holder,) = world.stored["p"]["status"]["reservedFor"]
    assert holder == {"resource": "pods", "name": "p", "uid": "pod-p"}


async def test_a_pod_that_waits_for_kube_scheduler_is_reserved_for_by_it() -> None:
    world = World()
    world.ask("p")
    await world.reconcile("p")
    assert "reservedFor" not in world.stored["p"]["status"]


async def test_a_pod_that_was_made_for_a_node_is_counted_there_once() -> None:
    world = World()
    world.ask("p", nodeName="n1", containers=CPU)
    await world.reconcile("p")
    world.ask("q", containers=[{"resources": {"requests": {"cpu": "1"}}}])
    await world.reconcile("q")
    assert world.node_of("q") == "n1"


async def test_what_only_kube_scheduler_looks_at_keeps_no_pod_from_the_node_that_it_was_made_for() -> None:
    world = World(nodes=())
    world.node("n1", unschedulable=True, taints=[{"key": "k", "effect": "NoSchedule"}])
    world.cards("n1", card())
    world.ask("p", nodeName="n1", nodeSelector={"disk": "ssd"})
    await world.reconcile("p")
    assert world.node_of("p") == "n1"


@pytest.mark.parametrize("why", ["is not Ready", "offers no cards", "another node"])
async def test_a_pod_that_was_made_for_a_node_is_told_why_it_gets_nothing_there(why: str) -> None:
    world = World(nodes=("n1", "n2"))
    claims = ["p"]
    if why == "is not Ready":
        world.node("n2", status={"conditions": [{"type": "Ready", "status": "False"}]})
    elif why == "offers no cards":
        world.offered.discard("n2")
    else:
        world.ask("other", nodeSelector={"kubernetes.io/hostname": "n1"})
        await world.reconcile("other")
        claims = ["other", "p"]
    world.claim("p")
    world.pod("p", *claims, nodeName="n2")
    await world.reconcile("p")
    error = world.answers[-1].error
    assert isinstance(error, NoNodeError)
    assert "node n2" in str(error)
    assert why in str(error)
    assert world.allocation("p") is None


async def test_a_pod_that_runs_waits_for_nothing() -> None:
    world = World()
    world.ask("p", nodeName="n1", status={"phase": "Running"})
    await world.reconcile("p")
    assert world.allocation("p") is None


async def test_what_was_reserved_and_lost_on_the_way_is_taken_back_whole() -> None:
    world = World()

    def lose(claim: Any) -> None:
        without_shares(claim)
        status = claim.get("status") or {}
        if status.get("allocation"):
            status["allocation"]["devices"].pop("config")
        assert status.get("allocation") or not status.get("reservedFor"), "the API server refuses that"

    world.mangle = lose
    world.ask("p", nodeName="n1")
    with pytest.raises(Exception, match="without its ShareAllocation"):
        await world.reconcile("p")
    assert world.stored["p"]["status"] == {}


def by_resource(resource: str, count: int = 1) -> dict[str, Any]:
    return {"containers": [{"resources": {"limits": {resource: str(count)}}}]}


@pytest.mark.parametrize(
    "resource", ["deviceclass.resource.kubernetes.io/accelerator.dragoman.dev", "vendor.example/card"]
)
async def test_a_pod_that_asks_by_an_extended_resource_is_told_what_to_write_instead(resource: str) -> None:
    world = World()
    world.device_class("accelerator.dragoman.dev", extendedResourceName="vendor.example/card")
    world.pod("p", **by_resource(resource))
    await world.reconcile("p")
    error = world.answers[-1].error
    assert isinstance(error, ExtendedResourceError)
    assert f"asks for {resource}: 1" in str(error)
    assert "ResourceClaimTemplate that asks for class accelerator.dragoman.dev" in error.remedy


async def test_a_class_whose_extended_resource_the_server_dropped_is_known_by_what_was_carried_over() -> None:
    world = World()
    annotations = {"dragoman.dev/extended-resource": "vendor.example/card"}
    world.device_class("accelerator.dragoman.dev", annotations=annotations)
    world.pod("p", **by_resource("vendor.example/card"))
    await world.reconcile("p")
    assert isinstance(world.answers[-1].error, ExtendedResourceError)


async def test_claims_of_a_pod_that_can_never_start_hold_nothing() -> None:
    world = World()
    world.device_class("accelerator.dragoman.dev", extendedResourceName="vendor.example/card")
    world.claim("c")
    world.pod("p", "c", **by_resource("vendor.example/card"))
    await world.reconcile("p")
    assert world.allocation("c") is None


@pytest.mark.parametrize("resource", ["vendor.example/card", "other.example/nic", "example.com/unknown"])
async def test_resources_that_a_node_offers_or_that_are_others_are_none_of_ours(resource: str) -> None:
    world = World()
    world.device_class("accelerator.dragoman.dev", extendedResourceName="vendor.example/card")
    world.device_class("nic.example", selectors=[], extendedResourceName="other.example/nic")
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "110", "vendor.example/card": "2"}
    world.node("n2", status={"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]})
    world.claim("c")
    world.pod("p", "c", **by_resource(resource))
    await world.reconcile("p")
    assert world.allocation("c")


async def test_the_second_pod_of_a_shared_claim_counts_on_its_node_before_it_is_bound() -> None:
    world = World(nodes=("n1", "n2"))
    world.claim("shared")
    world.pod("a", "shared")
    await world.reconcile("a")
    world.pod("b", "shared", containers=CPU)
    await world.reconcile("b")
    world.ask("c", containers=CPU)
    await world.reconcile("c")
    assert (world.node_of("shared"), world.node_of("c")) == ("n1", "n2")


async def test_a_pod_of_a_shared_claim_that_does_not_fit_on_its_node_takes_nothing_of_it() -> None:
    world = World()
    world.claim("shared")
    world.pod("a", "shared")
    await world.reconcile("a")
    world.pod("b", "shared", containers=[{"resources": {"requests": {"cpu": "100"}}}])
    await world.reconcile("b")
    world.ask("c", containers=CPU)
    await world.reconcile("c")
    assert world.node_of("c") == "n1"


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeSelector": {f"key-{number}": "x" * 60 for number in range(200)}},
        {"resourceClaims": [{"name": f"c{one}", "resourceClaimName": f"c{one}"} for one in range(17)]},
        {"resourceClaims": [{"name": f"c{one}", "resourceClaimName": f"{one:0200d}"} for one in range(6)]},
        {"containers": [{"resources": {"limits": {f"x.example/r{one}": "1" for one in range(30)}}}]},
    ],
)
async def test_a_pod_that_says_too_much_is_refused_by_name_and_little_of_it_is_kept(
    spec: dict[str, Any],
) -> None:
    world = World()
    for entry in spec.get("resourceClaims", ()):
        world.claim(entry["resourceClaimName"])
    world.claim("c0")
    world.pod("p", "c0", **spec)
    await world.reconcile("p")
    assert isinstance(world.answers[-1].error, PodTooLongError)
    assert world.allocation("c0") is None
    view = world.part.sources.pods.get("default/p")
    assert view is not None
    assert len(repr(view)) < 2500


async def test_a_pod_whose_wishes_are_too_long_to_be_kept_is_read_when_its_turn_comes() -> None:
    world = World(nodes=("n1", "n2"))
    names = ["n2", *("x" * 60 for _ in range(60))]
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": names}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    world.ask("p", affinity={"nodeAffinity": required})
    view = world.part.sources.pods.get("default/p")
    assert view is not None
    assert view.wishes is None
    await world.reconcile("p")
    assert world.node_of("p") == "n2"


async def test_a_claim_that_the_pod_does_not_need_is_not_waited_for() -> None:
    document = {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"resourceClaims": [{"name": "none", "resourceClaimTemplateName": "t"}], "containers": [{}]},
        "status": {"resourceClaimStatuses": [{"name": "none"}]},
    }
    assert pod_view(document).claims == ()
    assert pod_view({**document, "status": {}}).claims == ("",)


def long_selector(length: int) -> str:
    return f'device.driver == "dragoman.dev" || "{"x" * length}" == ""'


async def test_a_claim_that_is_too_long_to_be_kept_is_read_when_its_turn_comes() -> None:
    world = World()
    world.claim("c", selectors=[long_selector(6000)])
    view = world.part.sources.claims.get("default/c")
    assert view is not None
    assert view.asked is None
    world.pod("p", "c")
    await world.reconcile("p")
    assert world.allocation("c")


async def test_a_claim_that_is_longer_than_any_honest_one_is_refused() -> None:
    world = World()
    world.claim("c", selectors=[long_selector(9000)] * 8)
    world.pod("p", "c")
    await world.reconcile("p")
    error = world.answers[-1].error
    assert isinstance(error, ConfigError)
    assert "too long" in str(error)


async def test_a_long_claim_that_does_not_fit_is_read_once_a_minute_however_often_its_pod_is_woken() -> None:
    world = World()
    world.claim("c", "5000Mi", selectors=[long_selector(6000)])
    world.pod("p", "c")
    for _ in range(5):
        await world.reconcile("p")
    gets = [one for one in world.transport.requests if one.method == "GET" and one.path.endswith("/c")]
    assert len(gets) == 1


async def test_a_claim_of_others_that_is_long_is_left_alone() -> None:
    world = World()
    world.claim("c", device_class="nic.example", selectors=[long_selector(6000)])
    world.pod("p", "c")
    await world.reconcile("p")
    assert world.answers == []


async def test_a_long_claim_that_cannot_be_read_is_tried_again() -> None:
    world = World()
    world.claim("c", selectors=[long_selector(6000)])
    world.pod("p", "c")
    await world.reconcile("nobody")
    world.refuse = lambda _request: error_for(503, message="busy")
    with pytest.raises(ApiError):
        await world.reconcile("p")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"kind": "ShareAllocation", "shares": []}, "only the allocator writes it"),
        ({"kind": "ShareConfig", "capacity": {"requests": {"memory": "4Gi"}}}, "A class asks for no amounts"),
        ({"kind": "ShareConfig", "corePolicy": "sometimes"}, "corePolicy"),
    ],
)
async def test_what_a_class_must_not_say_is_refused_before_anything_is_allocated(
    parameters: dict[str, Any], words: str
) -> None:
    world = World()
    opaque = {"driver": "dragoman.dev", "parameters": {"apiVersion": "dragoman.dev/v1alpha1", **parameters}}
    world.device_class("accelerator.dragoman.dev", config=[{"opaque": opaque}])
    world.ask("p")
    await world.reconcile("p")
    error = world.answers[-1].error
    assert isinstance(error, ConfigError)
    assert words in str(error)
    assert error.field.startswith("DeviceClass accelerator.dragoman.dev: spec.config")
    assert world.allocation("p") is None


async def test_a_long_claim_of_several_drivers_is_refused_as_a_short_one() -> None:
    world = World()
    nic = {"name": "nic", "exactly": {"deviceClassName": "nic.example"}}
    world.claim("c", more=(nic,), selectors=[long_selector(6000)])
    world.pod("p", "c")
    await world.reconcile("p")
    assert isinstance(world.answers[-1].error, MixedDriversError)
