"""Quotas on a real API server: held at every instant, exact in the end, and said so that a person can act."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator

import pytest

from driver.kube.resources import ACCELERATOR_QUOTAS, RESOURCE_CLAIMS, RESOURCE_QUOTAS
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, TEMPLATES, Refused
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, request, sharing, template
from tests.cluster.support.quotas import (
    QUOTA,
    Storm,
    Watch,
    asked_gib,
    created,
    make_quota,
    quota,
    shown,
    status,
    wait_status,
)
from tests.cluster.support.space import Space

pytestmark = pytest.mark.cluster

_log = logging.getLogger(__name__)


@pytest.fixture
def limited(space: Space) -> Iterator[Space]:
    """A namespace whose claims may ask for 32 GiB; nothing of the quota outlives it."""
    make_quota(space, {"memory": "32Gi", "cores": "400", "cards": "64"})
    yield space
    for one in space.api.list(ACCELERATOR_QUOTAS, namespace=space.name):
        space.api.delete(ACCELERATOR_QUOTAS, one["metadata"]["name"], namespace=space.name)


def test_a_reservation_has_the_uid_and_the_generated_name_of_the_claim(limited: Space) -> None:
    watch = Watch(limited.api, limited.name).start()
    body = claim("", request(memory="4Gi"))
    body["metadata"] = {"generateName": "made-up-"}

    made = limited.api.create(RESOURCE_CLAIMS, body, namespace=limited.name)

    watch.stop()
    reserved = [one for state in watch.statuses() for one in state.get("reservations") or []]
    assert {(one["uid"], one["name"]) for one in reserved} == {
        (made["metadata"]["uid"], made["metadata"]["name"])
    }
    assert all(one["request"] for one in reserved)


def test_a_refusal_says_the_quota_what_is_asked_used_and_left_and_what_helps(limited: Space) -> None:
    limited.create(claim("a", request(memory="28Gi")))

    with pytest.raises(Refused) as refused:
        limited.create(claim("b", request(memory="8Gi")))

    assert refused.value.status == 403
    assert "QuotaExceeded" in refused.value.message
    assert "Quota q has not enough left: memory: asked 8Gi, used 28Gi of 32Gi, left 4Gi" in (
        refused.value.message
    )
    assert "Ask for less, delete claims that are not needed" in refused.value.message


def test_what_a_claim_held_is_free_again_right_after_it_is_gone(limited: Space) -> None:
    for _ in range(5):
        limited.create(claim("a", request(memory="32Gi")))
        limited.api.delete(RESOURCE_CLAIMS, "a", namespace=limited.name)
        waiting.wait_gone(limited.api, RESOURCE_CLAIMS, "a", namespace=limited.name)
        # Whoever made room may have to wait until the watch has told so.
        waiting.eventually(
            lambda: created(limited, claim("b", request(memory="32Gi"))), what="b fits", seconds=20.0
        )
        limited.api.delete(RESOURCE_CLAIMS, "b", namespace=limited.name)
        waiting.wait_gone(limited.api, RESOURCE_CLAIMS, "b", namespace=limited.name)
        waiting.eventually(
            lambda: created(limited, claim("probe", request(memory="32Gi")), dry_run=True),
            what="all is free",
            seconds=20.0,
        )
    wait_status(limited, lambda now: now["used"]["memory"] == "0", what="nothing is used")


def test_a_dry_run_changes_nothing(limited: Space) -> None:
    before = limited.api.get(ACCELERATOR_QUOTAS, QUOTA, namespace=limited.name)

    limited.api.create(
        RESOURCE_CLAIMS, claim("a", request(memory="4Gi")), namespace=limited.name, dry_run=True
    )
    with pytest.raises(Refused, match="QuotaExceeded"):
        limited.api.create(
            RESOURCE_CLAIMS, claim("b", request(memory="33Gi")), namespace=limited.name, dry_run=True
        )

    time.sleep(2.0)
    assert limited.api.get(ACCELERATOR_QUOTAS, QUOTA, namespace=limited.name) == before
    assert limited.claims() == []


def test_a_reservation_comes_back_within_a_minute_if_something_later_refuses_the_claim(
    limited: Space,
) -> None:
    # ResourceQuota is asked after all webhooks.
    native = {
        "metadata": {"name": "no-claims"},
        "spec": {"hard": {"count/resourceclaims.resource.k8s.io": "0"}},
    }
    limited.api.create(RESOURCE_QUOTAS, native, namespace=limited.name)
    waiting.wait_for(
        limited.api,
        RESOURCE_QUOTAS,
        "no-claims",
        lambda one: (one.get("status") or {}).get("hard"),
        what="the ResourceQuota is in force",
        namespace=limited.name,
    )
    # It is held from a moment after this on: what the request takes must not be taken off.
    began = time.monotonic()
    with pytest.raises(Refused, match="exceeded quota: no-claims"):
        limited.create(claim("a", request(memory="32Gi")))
    assert status(limited)["used"]["memory"] == "32Gi"

    wait_status(limited, lambda now: now["used"]["memory"] == "0", what="it came back")

    assert time.monotonic() - began > 34, "an API server may still store the claim by then"


def test_a_pod_says_why_its_claim_was_refused_and_runs_once_there_is_room(limited: Space) -> None:
    limited.create(claim("a", request(memory="28Gi")))

    limited.create(*sharing("p", request(memory="8Gi")))

    said = limited.event("p", "Quota q has not enough left", reason="FailedResourceClaimCreation")
    assert "asked 8Gi, used 28Gi of 32Gi, left 4Gi" in said
    limited.api.delete(RESOURCE_CLAIMS, "a", namespace=limited.name)
    limited.running("p")


def test_a_claim_that_is_too_large_alone_is_refused_by_the_limit_for_one(space: Space) -> None:
    make_quota(space, {"memory": "32Gi"}, maxPerClaim={"memory": "8Gi"})
    with pytest.raises(Refused, match=r"QuotaPerClaim: .*asked 9Gi, at most 8Gi"):
        space.create(claim("a", request(memory="9Gi")))


def test_a_quota_that_comes_late_says_that_it_is_exceeded_and_leaves_claims_alone(space: Space) -> None:
    space.create(claim("a", request(memory="8Gi")))

    make_quota(space, {"memory": "4Gi"})

    conditions = {one["type"]: one for one in status(space)["conditions"]}
    assert conditions["Exceeded"]["status"] == "True"
    assert [one["metadata"]["name"] for one in space.claims()] == ["a"]
    with pytest.raises(Refused, match="used 8Gi of 4Gi, left 0"):
        space.create(claim("b", request(memory="1Gi")))


@pytest.mark.parametrize("hard", [{"memory": "1.5Mi"}, {"cores": "-1"}, {"cards": "x"}, {"memory": -1}])
def test_a_quota_that_means_nothing_is_not_stored(space: Space, hard: JSON) -> None:
    with pytest.raises(Refused) as refused:
        space.api.create(ACCELERATOR_QUOTAS, quota(hard), namespace=space.name)
    assert refused.value.status == 422
    assert f"spec.hard.{next(iter(hard))}" in refused.value.message


def test_nobody_in_a_namespace_may_write_what_is_used(limited: Space) -> None:
    edit = limited.api.impersonating("somebody")
    for subresource in ("", "status"):
        with pytest.raises(Refused) as refused:
            edit.patch(
                ACCELERATOR_QUOTAS,
                QUOTA,
                {"status": {"used": {"memory": "0"}}},
                namespace=limited.name,
                subresource=subresource,
            )
        assert refused.value.status == 403


def test_a_resource_quota_of_before_holds_for_claims(space: Space) -> None:
    body = {"metadata": {"name": "team"}, "spec": {"hard": {"limits.nvidia.com/gpumem": "8192"}}}
    space.api.create(RESOURCE_QUOTAS, body, namespace=space.name)
    name = "team.nvidia.com.gpu"
    waiting.wait_for(
        space.api,
        ACCELERATOR_QUOTAS,
        name,
        lambda one: (one.get("status") or {}).get("countedVersion"),
        what="it is translated and counted",
        namespace=space.name,
    )

    space.create(claim("a", request(memory="6Gi", of="nvidia.dragoman.dev")))
    with pytest.raises(
        Refused, match=f"Quota {name} has not enough left: memory: asked 4Gi, used 6Gi of 8Gi"
    ):
        space.create(claim("b", request(memory="4Gi", of="nvidia.dragoman.dev")))
    # Another vendor's cards are none of it.
    space.create(claim("c", request(memory="30Gi", of="ascend.dragoman.dev")))

    space.api.patch(
        RESOURCE_QUOTAS,
        "team",
        {"spec": {"hard": {"limits.nvidia.com/gpumem": "16384"}}},
        namespace=space.name,
    )
    waiting.eventually(
        lambda: created(space, claim("b", request(memory="4Gi", of="nvidia.dragoman.dev"))),
        what="more is allowed",
    )
    space.api.delete(RESOURCE_QUOTAS, "team", namespace=space.name)
    waiting.wait_gone(space.api, ACCELERATOR_QUOTAS, name, namespace=space.name)


def test_a_template_is_warned_about_early(limited: Space) -> None:
    path = TEMPLATES.path(namespace=limited.name)

    said = limited.api.request("POST", path, body=template("big", request(memory="33Gi"))).headers

    assert "Its claims will be refused while quota q has 32Gi of 32Gi memory left" in said["Warning"]
    assert (
        "Warning"
        not in limited.api.request("POST", path, body=template("small", request(memory="1Gi"))).headers
    )


def _answered(installed: Installation, name: str) -> float:
    """How many admission requests a replica has answered; asked again where its page cannot be had."""

    def page() -> str:
        return installed.api.pod_get(name, namespace=installed.namespace, port=9090, path="/metrics")

    lines = waiting.eventually(page, what=f"{name} tells its metrics").splitlines()
    counts = [line for line in lines if line.startswith("dragoman_controller_admission_seconds_count")]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def test_a_thousand_claims_at_once_never_take_more_and_are_exact_in_the_end(
    space: Space, installed: Installation
) -> None:
    hard_gib, each_gib, count = 400, 4, 1000
    make_quota(space, {"memory": f"{hard_gib}Gi"})
    watch = Watch(space.api, space.name).start()
    storm = Storm()
    installed.wait_controllers()
    names = [one["metadata"]["name"] for one in installed.controllers()]
    began, both = {name: _answered(installed, name) for name in names}, {}

    def disturb() -> None:
        while len(storm.admitted) < 40:
            time.sleep(0.01)
        both.update({name: _answered(installed, name) - began[name] for name in names})
        # An API server keeps its connections, so it may be that only one of the two is asked before.
        installed.kill_pod(max(both, key=lambda name: both[name]))
        # Room is made meanwhile, and taken again.
        for name in storm.admitted[:20]:
            space.api.delete(RESOURCE_CLAIMS, name, namespace=space.name)

    killer = threading.Thread(target=disturb, daemon=True)
    killer.start()
    storm.run(
        space.api,
        space.name,
        lambda number: claim(f"c{number}", request(memory=f"{each_gib}Gi")),
        count=count,
        threads=100,
    )
    killer.join()
    _log.info("%.1f s for %d claims: %s; before the kill %s", storm.seconds, count, dict(storm.words), both)
    killed, other = sorted(both, key=lambda name: -both[name])
    assert both[killed] > 0
    assert _answered(installed, other) > began[other]
    # Reservations of claims that a dying webhook admitted and nobody stored come back.
    installed.wait_controllers()
    wait_status(
        space,
        lambda now: not now.get("reservations") and now["used"]["memory"] == shown(space),
        what="what is used is exactly what is stored",
    )
    # What is free can be had, to the last share, and no more; a replica that has just started may have to
    # be asked again.
    numbers = itertools.count()

    def full() -> bool:
        while created(space, claim(f"more{next(numbers)}", request(memory=f"{each_gib}Gi"))):
            pass
        return sum(map(asked_gib, space.claims())) >= hard_gib

    waiting.eventually(full, what="all that is free was had", seconds=60)
    watch.stop()
    stored = space.claims()
    assert sum(map(asked_gib, stored)) == hard_gib
    assert watch.most_gib() == hard_gib
    assert watch.unbooked() == []
    assert len(storm.admitted) + len(storm.refused) + len(storm.unanswered) == count
    wait_status(space, lambda now: now["used"]["memory"] == f"{hard_gib}Gi", what="it is full")
