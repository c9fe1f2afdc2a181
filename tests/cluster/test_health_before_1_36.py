"""Cards that fall ill where the API server knows no taints of devices, before 1.36; our allocator decides.

Flow: the health stream of that release's kubelet (v1alpha1, by its own feature gate) and the slices, of a
simulated card that a file on the node makes sick, and makes well again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from driver.kube.resources import ACCELERATOR_NODES
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.figures import Tell
from tests.cluster.support.illness import CARD, device_of, fall_ill, healthy_of, recover
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, container, pod, request, sharing
from tests.cluster.support.own_cluster import own_cluster
from tests.cluster.support.space import open_space, results

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]


@pytest.fixture(scope="module", params=["1.34.4", "1.35.4"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def old(version: str, images: Images) -> Iterator[Installation]:
    """Stock Kubernetes but for the kubelet's gate, which is off before 1.36."""
    with own_cluster(
        images,
        purpose="oldhealth",
        version=version,
        feature_gates={"ResourceHealthStatus": True},
        controller={"mode": "controller"},
    ) as installed:
        yield installed


def _kubelet_says(word: str) -> Callable[[JSON], bool]:
    def says(pod: JSON) -> bool:
        statuses = pod["status"]["containerStatuses"][0].get("allocatedResourcesStatus") or []
        return word in {each["health"] for status in statuses for each in status["resources"]}

    return says


def test_a_card_that_falls_ill_is_withdrawn_told_by_kubelet_claim_and_event_and_offered_again(
    old: Installation, version: str, tell: Tell
) -> None:
    space = open_space(old.api, "oldhealth")
    if version.startswith("1.34."):
        # Its kubelet tells it of claims alone that have the name by which the pod calls them.
        space.create(claim("card", request(cel=cards.on(CARD))))
        space.create(pod("runs", container("app", "card"), claims={"card": "card"}))
        held = "card"
    else:
        # That of 1.35 of claims alone that are made from templates.
        space.create(*sharing("runs", request(memory="2Gi", cel=cards.on(CARD))))
        held = ""
    space.running("runs")
    held = held or space.claim_of("runs")["metadata"]["name"]
    space.wait_pod("runs", _kubelet_says("Healthy"), what="has a healthy card")
    took = fall_ill(old, lambda now: now and device_of(now) is None, what="the card is withdrawn")
    tell(f"from the fault to the slice without the card: {took:.2f} s")
    space.wait_pod("runs", _kubelet_says("Unhealthy"), what="has an unhealthy card")
    space.event("runs", CARD.device, reason="CardUnhealthy")
    told = space.wait_claim(held, lambda one: healthy_of(one) or {}, what="tells that its card is ill")
    assert (told["status"], told["reason"]) == ("False", "CardLost")
    assert space.pod("runs")["status"]["phase"] == "Running"

    def withdrawn(one: JSON) -> bool:
        conditions = one["status"].get("conditions") or []
        return any(c["type"] == "Published" and "withdrawn: CardLost" in c["message"] for c in conditions)

    assert waiting.wait_for(
        old.api, ACCELERATOR_NODES, old.node, withdrawn, what="says that a card is withdrawn"
    )
    space.create(*sharing("elsewhere", request(memory="1Gi")))
    space.running("elsewhere")
    (given,) = results(space.claim_of("elsewhere"))
    assert given["device"] == cards.NVIDIA_40.device
    recover(old, device_of, what="the card is offered again")
    space.wait_pod("runs", _kubelet_says("Healthy"), what="has a healthy card again")
    space.event("runs", reason="CardRecovered")
    old.expect_nothing_left(space.close())
