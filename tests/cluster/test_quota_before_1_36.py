"""Quotas where the API server drops what claims ask for: on stock 1.34, in mode controller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from driver.kube.resources import RESOURCE_CLAIMS
from tests.cluster.support import stock as stock_kubernetes
from tests.cluster.support import waiting
from tests.cluster.support.api import Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, request, sharing
from tests.cluster.support.quotas import make_quota, wait_status
from tests.cluster.support.space import Space, open_space

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]


@pytest.fixture(scope="module")
def stock(images: Images) -> Iterator[Installation]:
    yield from stock_kubernetes.in_mode_controller(images, purpose="quota")


@pytest.fixture
def space(stock: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    one = open_space(stock.api, request.node.name)
    yield one
    stock.expect_nothing_left(one.close())


def test_claims_and_claims_of_templates_count_what_was_asked_before_it_was_dropped(space: Space) -> None:
    make_quota(space, {"memory": "16Gi", "cores": "100"})

    space.create(claim("a", request(memory="6Gi", cores="30")))
    space.create(*sharing("p", request(memory="8Gi", cores="20")))

    space.running("p")
    wait_status(
        space,
        lambda now: (
            now["used"] == {"memory": "14Gi", "cores": "50", "cards": "2"} and not now["reservations"]
        ),
        what="both are counted by what was asked",
    )
    # What is stored does not say it any more in the place where it was written.
    stored = space.claim("a")["spec"]["devices"]["requests"][0]["exactly"]
    assert "capacity" not in stored
    with pytest.raises(Refused, match="asked 3Gi, used 14Gi of 16Gi, left 2Gi"):
        space.create(claim("b", request(memory="3Gi")))


def test_a_pod_waits_for_room_and_runs_when_there_is_some(space: Space) -> None:
    make_quota(space, {"cards": "1"})
    space.create(claim("a", request(memory="1Gi")))

    space.create(*sharing("p", request(memory="1Gi")))

    said = space.event("p", "cards: asked 1, used 1 of 1, left 0", reason="FailedResourceClaimCreation")
    assert "QuotaExceeded" in said
    space.api.delete(RESOURCE_CLAIMS, "a", namespace=space.name)
    waiting.wait_gone(space.api, RESOURCE_CLAIMS, "a", namespace=space.name)
    space.running("p")
