"""Pods that come past kube-scheduler, where our allocator decides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
    name = place.wait_pod("given", Space.claim_name, what="has its claim")
    place.wait_claim(name, lambda one: (one.get("status") or {}).get("reservedFor"), what="is allocated")
    # The kubelet was there first, and by itself looks again after more than a minute.
    place.touch("given")
    place.running("given")
    assert (place.seen("given").memory_mib(0), place.seen("given").cores(0)) == (4096, 30)
    (holder,) = place.claim_of("given")["status"]["reservedFor"]
    assert holder["name"] == "given"
    place.delete("given")
