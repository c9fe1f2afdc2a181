"""Somebody's policy refuses the first writes of a leader: it goes on where it can, and says where it cannot.

One cluster in mode controller for all of this file, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from controller.allocating.fencing import NOBODY, blank
from driver.cards import DRIVER_NAME
from driver.kube.resources import RESOURCE_CLAIMS, Resource
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, pod, request, sharing
from tests.cluster.support.own_cluster import SOON_S, own_cluster
from tests.cluster.support.space import Space, open_space, results

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

FINALIZER = "resource.kubernetes.io/delete-protection"
NAME = "guard.example.com"
LEASE = "dragoman-controller"
_POLICIES, _BINDINGS = (
    Resource(
        group="admissionregistration.k8s.io",
        version="v1",
        plural=f"{kind.lower()[:-1]}ies" if kind.endswith("y") else f"{kind.lower()}s",
        kind=kind,
        namespaced=False,
    )
    for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
)


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    """Dragoman in mode controller, in a cluster of its own."""
    with own_cluster(
        images,
        purpose="guarded",
        version=kubernetes_version,
        controller={"mode": "controller", "handoverWait": SOON_S},
    ) as installed:
        yield installed


@pytest.fixture(scope="module")
def place(own: Installation) -> Space:
    """One namespace for all tests of this file."""
    return open_space(own.target.api, "guarded")


@contextmanager
def guarded(space: Space, *resources: str) -> Iterator[None]:
    """A policy under which nobody may change the claim `left`, in one of these resources."""
    api = space.api
    rule = {
        "apiGroups": ["resource.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": list(resources),
        "resourceNames": ["left"],
    }
    api.create(
        _POLICIES,
        {
            "metadata": {"name": NAME},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": "false", "message": "nobody touches this one"}],
            },
        },
    )
    api.create(
        _BINDINGS,
        {"metadata": {"name": NAME}, "spec": {"policyName": NAME, "validationActions": ["Deny"]}},
    )
    try:
        waiting.eventually(lambda: all(_refuses(space, one) for one in resources), what="the guard is there")
        yield
    finally:
        api.delete(_BINDINGS, NAME)
        api.delete(_POLICIES, NAME)


def _refuses(space: Space, resource: str) -> bool:
    part = resource.partition("/")[2]
    try:
        space.api.replace(RESOURCE_CLAIMS, space.claim("left"), namespace=space.name, subresource=part)
    except Refused as refused:
        return "nobody touches this one" in refused.message
    return False


def _leave_one(space: Space) -> JSON:
    """A claim as a leader leaves it that ended between the finalizer and the allocation."""
    left = claim("left", request(memory="1Gi", cel=cards.on(cards.NVIDIA_40)))
    left["metadata"]["finalizers"] = [FINALIZER]
    (made,) = space.create(left)
    return made


def test_a_leader_that_may_not_take_a_finalizer_off_allocates_all_the_same(
    own: Installation, place: Space
) -> None:
    made = _leave_one(place)
    with guarded(place, "resourceclaims"):
        own.restart_controllers()
        place.create(*sharing("p", request(memory="1Gi", cel=cards.on(cards.NVIDIA_40))))
        place.running("p")
        stored = place.claim("left")
    assert stored["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    assert "allocation" not in (stored.get("status") or {})
    assert FINALIZER in stored["metadata"]["finalizers"]


def test_where_it_may_change_nothing_of_a_claim_that_is_told_and_nothing_is_allocated_until_it_may(
    own: Installation, place: Space
) -> None:
    with guarded(place, "resourceclaims", "resourceclaims/status"):
        own.restart_controllers()
        place.create(*sharing("q", request(memory="1Gi", cel=cards.on(cards.NVIDIA_40))))
        place.event("q", "may not change a claim", reason="AllocationHeldUp")
        said = waiting.wait_event(own.api, namespace=own.namespace, about=LEASE, reason="AllocationHeldUp")
        assert f"ResourceClaim {place.name}/left" in said["message"]
        assert "nobody touches this one" in said["message"]
        place.event("left", "nobody touches this one", reason="AllocationHeldUp")
        assert "allocation" not in (place.claim_of("q").get("status") or {})
    place.running("q")
    assert place.pod("p")["status"]["phase"] == "Running"


def test_a_pod_on_its_node_is_not_started_with_a_blank_allocation_but_with_its_card_once_that_is_gone(
    own: Installation, place: Space
) -> None:
    bound = claim("bound", request(cel=cards.on(cards.NVIDIA_24)))
    bound["metadata"]["finalizers"] = [FINALIZER]
    (made,) = place.create(bound)
    status = {"allocation": blank(made, now=datetime.now(UTC))}
    # As a leader leaves it that ends before it takes it back.
    place.api.replace(RESOURCE_CLAIMS, {**made, "status": status}, namespace=place.name, subresource="status")
    place.create(pod("bound", claims={"card": "bound"}, node=own.node))
    place.event("bound", NOBODY)
    place.running("bound", seconds=240)
    assert {one["driver"] for one in results(place.claim("bound"))} == {DRIVER_NAME}
