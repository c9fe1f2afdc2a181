"""Our own allocator on a real cluster: one cluster for all of this file, in order.

Flow: install in mode native and start a pod; hand over to mode controller; share a card; fill it; what
kube-scheduler does with our slices and with a pod that cannot go where it was sent; hand back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from driver.api.share_allocation import is_share_allocation
from driver.cards import DRIVER_NAME
from driver.kube.resources import DEVICE_CLASSES
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.new_node import given_on_a_copy
from tests.cluster.support.own_cluster import SOON_S, own_cluster
from tests.cluster.support.space import Space, open_space

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

ON = cards.on(cards.NVIDIA_40)


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    """Dragoman in mode native, in a cluster of its own."""
    with own_cluster(images, purpose="ours", version=kubernetes_version) as installed:
        yield installed


@pytest.fixture(scope="module")
def place(own: Installation) -> Space:
    """One namespace for all tests of this file."""
    return open_space(own.target.api, "ours")


@pytest.fixture(scope="module")
def handed_over(own: Installation, place: Space) -> Installation:
    """The same installation in mode controller, with a pod that kube-scheduler gave its share."""
    place.create(*sharing("native", request(memory="10Gi", cores="20", cel=ON)))
    place.running("native")
    own.controller = {"mode": "controller", "handoverWait": SOON_S}
    own.install()
    own.wait_ready()
    own.wait_slices(
        lambda now: now and all("nodeSelector" in one["spec"] for one in now), what="slices are fenced"
    )
    return own


def _given(claim: JSON) -> list[JSON]:
    entries = claim["status"]["allocation"]["devices"]["config"]
    return [
        share
        for one in entries
        if is_share_allocation(one)
        for share in one["opaque"]["parameters"]["shares"]
    ]


def test_after_the_handover_our_allocator_gives_shares_and_the_container_has_its_limits(
    handed_over: Installation, place: Space
) -> None:
    place.create(*sharing("ours", request(memory="4Gi", cores="30", cel=ON)))
    place.running("ours")
    (given,) = _given(place.claim_of("ours"))
    assert (given["device"], given["memory"], given["cores"]) == (cards.NVIDIA_40.device, "4Gi", "30")
    assert (place.seen("ours").memory_mib(0), place.seen("ours").cores(0)) == (4096, 30)


def test_what_kube_scheduler_gave_before_counts_and_its_pod_runs_on(
    handed_over: Installation, place: Space
) -> None:
    place.create(*sharing("too-much", request(memory="30Gi", cores="10", cel=ON)))
    place.event("too-much", "asks 30Gi", reason="NoDevice")
    assert place.pod("native")["status"]["phase"] == "Running"
    assert "allocation" not in (place.claim_of("too-much").get("status") or {})


def test_a_pod_that_waits_gets_its_share_when_another_one_ends(
    handed_over: Installation, place: Space
) -> None:
    place.delete("native")
    place.running("too-much")
    assert place.seen("too-much").memory_mib(0) == 30 * 1024
    place.delete("too-much")


def test_kube_scheduler_cannot_take_a_card_under_any_class(handed_over: Installation, place: Space) -> None:
    name = f"anything-{place.name}"
    selectors = [{"cel": {"expression": "true"}}]
    handed_over.api.create(DEVICE_CLASSES, {"metadata": {"name": name}, "spec": {"selectors": selectors}})
    place.create(*sharing("sly", request(of=name)))
    pod = place.wait_pod(
        "sly",
        lambda one: [
            c for c in (one.get("status") or {}).get("conditions") or [] if c["type"] == "PodScheduled"
        ],
        what="was looked at by kube-scheduler",
    )
    assert pod[0]["status"] == "False"
    place.delete("sly")


def test_an_autoscaler_that_imagines_another_node_like_this_one_sees_no_card_on_it(
    handed_over: Installation,
) -> None:
    asked = request(memory="1Gi")
    assert given_on_a_copy(handed_over.api, node=handed_over.node, asked=asked) == []


def test_a_pod_that_cannot_use_the_node_waits_and_is_told(handed_over: Installation, place: Space) -> None:
    template, pod = sharing("elsewhere", request(memory="1Gi", cel=ON))
    pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "other"}
    place.create(template, pod)
    place.event("elsewhere", "nodeSelector", reason="NoNode")
    place.delete("elsewhere")


def test_a_whole_card_is_given_to_one_and_then_to_the_next(handed_over: Installation, place: Space) -> None:
    whole = request(cel=cards.on(cards.NVIDIA_24))
    place.create(*sharing("first", whole))
    place.running("first")
    place.create(*sharing("second", whole))
    place.event("second", reason="NoDevice")
    place.delete("first")
    place.running("second")
    place.delete("second")


def test_two_controllers_are_one_allocator(handed_over: Installation, place: Space) -> None:
    names = [f"one-of-ten-{number}" for number in range(10)]
    for name in names:
        place.create(*sharing(name, request(memory="3Gi", cores="5", cel=ON)))
    place.running(*names)
    held = [share for name in names for share in _given(place.claim_of(name))]
    assert len(held) == 10
    place.delete(*names)


def test_back_in_mode_native_kube_scheduler_gives_shares_again(
    handed_over: Installation, place: Space
) -> None:
    handed_over.controller = {}
    handed_over.install()
    handed_over.wait_ready()
    handed_over.wait_slices(
        lambda now: now and all("nodeName" in one["spec"] for one in now), what="slices are open again"
    )
    place.create(*sharing("again", request(memory="4Gi", cores="30", cel=ON)))
    place.running("again")
    assert _given_nothing(place.claim_of("again"))
    assert place.pod("ours")["status"]["phase"] == "Running"
    waiting.eventually(lambda: place.seen("ours").memory_mib(0) == 4096, what="the older share holds")


def test_an_autoscaler_that_imagines_another_node_like_this_one_sees_its_cards_in_mode_native(
    own: Installation,
) -> None:
    asked = request(memory="1Gi")
    (given,) = given_on_a_copy(own.api, node=own.node, asked=asked)
    assert (given["driver"], given["consumedCapacity"]["memory"]) == (DRIVER_NAME, "1Gi")


def _given_nothing(claim: JSON) -> bool:
    entries = claim["status"]["allocation"]["devices"].get("config") or []
    return not any(map(is_share_allocation, entries))
