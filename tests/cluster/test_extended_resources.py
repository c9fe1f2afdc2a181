"""Pods that ask for whole devices by the extended resource of a DeviceClass, where our allocator decides.

Flow: a cluster of each release, in mode controller: 1.34.4 knows no such resources, and 1.36.3's scheduler
would make the claims itself if it found devices.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.extended import CARRIED, IMPLICIT
from driver.kube.resources import DEVICE_CLASSES, EVENTS, PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import container, pod
from tests.cluster.support.quotas import make_quota, wait_status
from tests.cluster.support.space import Space, open_space, results
from tests.cluster.support.stock import in_mode_controller

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

GOLD = "example.com/gold"


@pytest.fixture(scope="module", params=["1.34.4", "1.36.3"])
def stock(request: pytest.FixtureRequest, images: Images) -> Iterator[Installation]:
    """A cluster of a release, with Dragoman in mode controller."""
    yield from in_mode_controller(images, purpose="extended", version=request.param)


@pytest.fixture
def space(stock: Installation) -> Iterator[Space]:
    one = open_space(stock.api, "extended")
    yield one
    stock.expect_nothing_left(one.close())


def asking(name: str, resource: str, count: int = 1, *, labels: JSON | None = None) -> JSON:
    made = pod(name, container(resources={"limits": {resource: str(count)}}))
    made["metadata"]["labels"] = labels or {}
    return made


def device_class(space: Space, *, stands_for: str, driver: str) -> str:
    expression = f'device.driver == "{driver}"'
    if driver == "dragoman.dev":
        expression += ' && device.attributes["dragoman.dev"].vendor == "nvidia"'
    spec: JSON = {"selectors": [{"cel": {"expression": expression}}], "extendedResourceName": stands_for}
    space.create({"kind": DEVICE_CLASSES.kind, "metadata": {"name": space.name}, "spec": spec})
    return space.name


def test_such_a_pod_runs_with_a_whole_card_and_takes_its_claim_with_it(space: Space) -> None:
    space.create(asking("whole", f"{IMPLICIT}nvidia.dragoman.dev"))
    (running,) = space.running("whole")
    assert IMPLICIT not in str(running["spec"])
    (limit,) = space.seen("whole").limits
    assert (limit.memory_mib, limit.cores) == (None, None)
    (given,) = results(space.claim_of("whole"))
    assert given["device"] in {one.device for one in cards.ALL if one.vendor == "nvidia"}
    space.delete("whole")
    for kind in (RESOURCE_CLAIMS, RESOURCE_CLAIM_TEMPLATES):
        waiting.wait_all(
            space.api,
            kind,
            lambda found: not found,
            what="claim and template are gone with the pod",
            namespace=space.name,
        )


def test_a_class_of_an_admin_is_served_by_the_resource_that_it_claims(space: Space) -> None:
    name = device_class(space, stands_for=GOLD, driver="dragoman.dev")
    stored = space.api.get(DEVICE_CLASSES, name)
    # The field is gone on 1.34; what was carried over is there on both.
    assert stored["metadata"]["annotations"][CARRIED] == GOLD
    space.create(asking("two", GOLD, 2))
    space.running("two")
    given = results(space.claim_of("two"))
    assert len({one["device"] for one in given}) == 2


def test_a_class_that_is_applied_again_without_its_name_does_not_stand_for_it_any_more(
    stock: Installation, space: Space, tmp_path: Path
) -> None:
    made = {
        "apiVersion": DEVICE_CLASSES.api_version,
        "kind": DEVICE_CLASSES.kind,
        "metadata": {"name": space.name, "labels": {"dragoman.dev/driver": "true"}},
        "spec": {"selectors": [{"cel": {"expression": 'device.driver == "dragoman.dev"'}}]},
    }
    named = {**made, "spec": {**made["spec"], "extendedResourceName": GOLD}}  # type: ignore[dict-item]
    for number, one in enumerate((named, made)):
        (tmp_path / f"{number}.yaml").write_text(json.dumps(one))

    def carried() -> str | None:
        annotations = space.api.get(DEVICE_CLASSES, space.name)["metadata"].get("annotations") or {}
        return str(annotations[CARRIED]) if CARRIED in annotations else None

    try:
        for how in ((), ("--server-side", "--force-conflicts")):
            stock.target.must("kubectl", "apply", *how, "--filename", str(tmp_path / "0.yaml"))
            assert carried() == GOLD
            stock.target.must("kubectl", "label", "deviceclass", space.name, f"seen{len(how)}=yes")
            assert carried() == GOLD, "who changes something else takes nothing away"
            stock.target.must("kubectl", "apply", *how, "--filename", str(tmp_path / "1.yaml"))
            assert carried() is None
            space.api.delete(DEVICE_CLASSES, space.name)
    finally:
        space.api.delete(DEVICE_CLASSES, space.name)


def test_resources_of_others_are_none_of_ours(space: Space) -> None:
    name = device_class(space, stands_for="nic.example.com/port", driver="nic.example.com")
    for number, resource in enumerate((f"{IMPLICIT}{name}", "nic.example.com/port", "example.com/none")):
        space.create(asking(f"other-{number}", resource))
        space.event(f"other-{number}", "nodes are available", reason="FailedScheduling")
        (one,) = space.pod(f"other-{number}")["spec"]["containers"]
        assert resource in one["resources"]["limits"]
    assert space.claims() == []
    reasons = {one["reason"] for one in space.api.list(EVENTS, namespace=space.name)}
    assert "ExtendedResourceNotServed" not in reasons


def test_a_dry_run_makes_nothing_and_shows_the_claim(space: Space) -> None:
    asked = asking("dry", f"{IMPLICIT}nvidia.dragoman.dev")
    shown = space.api.create(PODS, asked, namespace=space.name, dry_run=True)
    assert shown["spec"]["resourceClaims"]
    assert space.claims() == []
    assert space.api.list(RESOURCE_CLAIM_TEMPLATES, namespace=space.name) == []


def test_quotas_count_whole_cards(space: Space) -> None:
    make_quota(space, {"cards": "1"})
    space.create(asking("first", f"{IMPLICIT}nvidia.dragoman.dev"))
    space.running("first")
    wait_status(space, lambda now: now["used"]["cards"] == "1", what="the card is counted")
    space.create(asking("second", f"{IMPLICIT}nvidia.dragoman.dev"))
    space.event("second", "cards: asked 1, used 1 of 1, left 0", reason="FailedResourceClaimCreation")


def test_what_no_claim_can_be_given_is_refused_by_the_place_in_the_pod(space: Space) -> None:
    with pytest.raises(Refused, match=r"spec\.containers\[0\].*at most 32"):
        space.create(asking("many", f"{IMPLICIT}nvidia.dragoman.dev", 33))


def test_a_pod_that_is_not_to_be_converted_is_told_what_to_do(space: Space) -> None:
    resource = f"{IMPLICIT}nvidia.dragoman.dev"
    space.create(asking("left", resource, labels={"dragoman.dev/convert": "false"}))
    space.event("left", "make it anew", reason="ExtendedResourceNotServed")
