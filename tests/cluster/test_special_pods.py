"""Pods that come past kube-scheduler, or by extended resources, where our allocator decides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.extended import IMPLICIT
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.stock import in_mode_controller

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]


@pytest.fixture(scope="module", params=["1.34.4", "1.36.3"])
def stock(request: pytest.FixtureRequest, images: Images) -> Iterator[Installation]:
    """A cluster of a release, with Dragoman in mode controller."""
    yield from in_mode_controller(images, purpose="special", version=request.param)


@pytest.fixture(scope="module")
def place(stock: Installation) -> Space:
    """One namespace for all tests of a cluster."""
    return open_space(stock.target.api, "special")


def test_a_pod_that_was_made_for_its_node_gets_its_share_there(stock: Installation, place: Space) -> None:
    template, pod = sharing("given", request(memory="4Gi", cores="30"))
    pod["spec"]["nodeName"] = stock.node
    place.create(template, pod)
    place.running("given", seconds=120)
    assert (place.seen("given").memory_mib(0), place.seen("given").cores(0)) == (4096, 30)
    (holder,) = place.claim_of("given")["status"]["reservedFor"]
    assert holder["name"] == "given"
    place.delete("given")


def test_a_pod_that_asks_by_an_extended_resource_is_told_what_to_write(place: Space) -> None:
    _, pod = sharing("resource", request())
    del pod["spec"]["resourceClaims"]
    resource = f"{IMPLICIT}accelerator.dragoman.dev"
    pod["spec"]["containers"][0]["resources"] = {"limits": {resource: "1"}}
    place.create(pod)
    place.event("resource", "Make a ResourceClaimTemplate", reason="ExtendedResourceNotServed", seconds=60)
    place.delete("resource")
