"""Claims in what people really create: Deployments, Jobs, pods with several claims."""

from __future__ import annotations

import pytest

from tests.cluster.support import cards, waiting
from tests.cluster.support.api import DEPLOYMENTS, JOBS, JSON
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import (
    ANY,
    claim,
    container,
    pod,
    request,
    share_config,
    sharing,
    template,
)
from tests.cluster.support.space import Space, results

pytestmark = pytest.mark.cluster

ASK = request(memory="2Gi", cores="20", cel=cards.on(cards.NVIDIA_40))


def _in_template(one: JSON) -> JSON:
    return {"metadata": {"labels": {"app": "probe"}}, "spec": one["spec"]}


def test_each_replica_of_a_deployment_gets_a_share_of_its_own(space: Space) -> None:
    space.create(template("share", ASK))
    spec = {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "probe"}},
        "template": _in_template(pod("unused", templates={"card": "share"})),
    }
    space.api.create(DEPLOYMENTS, {"metadata": {"name": "probe"}, "spec": spec}, namespace=space.name)
    waiting.wait_for(
        space.api,
        DEPLOYMENTS,
        "probe",
        lambda one: one["status"].get("readyReplicas") == 3,
        what="has three ready pods",
        namespace=space.name,
    )
    shares = {results(one)[0]["shareID"] for one in space.claims()}
    assert len(shares) == 3
    for one in space.pods():
        seen = space.seen(one["metadata"]["name"])
        assert (seen.memory_mib(0), seen.cores(0)) == (2048, 20)
    space.api.delete(DEPLOYMENTS, "probe", namespace=space.name)


def test_a_job_that_is_done_gives_its_share_back(space: Space, installed: Installation) -> None:
    space.create(template("share", request(memory="24Gi", cores="100", cel=cards.on(cards.NVIDIA_24))))
    once = container("app", "card", args=["--once"])
    spec = {"template": _in_template(pod("unused", once, templates={"card": "share"}, restart="Never"))}
    for name in ("first", "second"):
        # The second needs what the first held: all of the card.
        space.api.create(JOBS, {"metadata": {"name": name}, "spec": spec}, namespace=space.name)
    for name in ("first", "second"):
        waiting.wait_for(
            space.api,
            JOBS,
            name,
            lambda one: one["status"].get("succeeded") == 1,
            what="is done",
            namespace=space.name,
        )
    for name in ("first", "second"):
        space.api.delete(JOBS, name, namespace=space.name)


def test_a_pod_with_claims_on_two_cards_sees_each_limit_on_its_card(space: Space) -> None:
    space.create(
        template("small", request(memory="1Gi", cores="10", cel=cards.on(cards.NVIDIA_40))),
        template("large", request(memory="3Gi", cores="30", cel=cards.on(cards.NVIDIA_24))),
        pod("a", templates={"one": "small", "two": "large"}),
    )
    space.running("a")
    limits = space.seen("a").limits
    # The container's view is in PCI order, whatever the order of the claims.
    assert [(one.card, one.memory_mib, one.cores) for one in limits] == [
        (cards.NVIDIA_24.uuid, 3072, 30),
        (cards.NVIDIA_40.uuid, 1024, 10),
    ]


def test_containers_of_a_pod_may_share_a_whole_card(space: Space) -> None:
    space.create(
        template("whole", request(cel=cards.on(cards.NVIDIA_24))),
        pod("a", container("left", "card"), container("right", "card"), templates={"card": "whole"}),
    )
    space.running("a")
    for name in ("left", "right"):
        seen = space.seen("a", container=name)
        assert [(one.card, one.memory_mib, one.cores) for one in seen.limits] == [
            (cards.NVIDIA_24.uuid, None, None)
        ]


def test_a_container_that_names_no_claim_sees_no_card(space: Space) -> None:
    space.create(
        template("share", ASK),
        pod("a", container("app", "card"), container("beside"), templates={"card": "share"}),
    )
    space.running("a")
    seen = space.seen("a", container="beside")
    assert (seen.cards, seen.devices, seen.library) == ([], [], False)


def test_cards_of_other_vendors_are_given_out_whole(space: Space) -> None:
    wanted = {"npu": cards.ASCEND, "gpu": cards.AMD}
    for name, card in wanted.items():
        space.create(*sharing(name, request(of=ANY, cel=cards.on(card))))
    space.running(*wanted)
    for name, card in wanted.items():
        seen = space.seen(name)
        assert (seen.cards, seen.memory_mib(0), seen.library) == ([card.uuid], None, False)


def test_a_share_that_nothing_can_hold_is_refused_by_the_name_of_what_is_missing(space: Space) -> None:
    space.create(*sharing("a", request(of=ANY, memory="1Gi", cel=cards.on(cards.AMD))))
    words = ("request card", "library for HIP is missing on this node")
    said = space.event("a", *words, reason="FailedPrepareDynamicResources")
    assert "preload.amd" in said


def test_a_share_runs_without_a_limit_where_its_author_says_so_and_the_status_tells(
    space: Space, installed: Installation
) -> None:
    open_config = share_config(onUnavailable="FailOpen")
    space.create(*sharing("a", request(of=ANY, memory="1Gi", cel=cards.on(cards.AMD)), config=[open_config]))
    space.running("a")

    def told(claim: JSON) -> bool:
        (entry,) = claim["status"].get("devices") or [{}]
        return any("limit" in condition["message"] for condition in entry.get("conditions") or [])

    assert space.wait_claim(space.claim_of("a")["metadata"]["name"], told, what="tells of its limit")


def test_a_pods_status_tells_the_health_of_its_card(space: Space) -> None:
    space.create(*sharing("a", ASK))
    space.running("a")

    def health(one: JSON) -> list[str]:
        statuses = one["status"]["containerStatuses"][0].get("allocatedResourcesStatus") or []
        return [
            resource["health"]
            for status in statuses
            if status["name"].startswith("claim:card")
            for resource in status["resources"]
        ]

    assert set(space.wait_pod("a", health, what="tells its card's health")) <= {"Healthy", "Unknown"}


def test_a_claim_that_no_pod_uses_any_more_frees_its_card(space: Space) -> None:
    whole = request(cel=cards.on(cards.NVIDIA_24))
    space.create(claim("kept", whole), pod("a", claims={"card": "kept"}))
    space.running("a")
    space.delete("a")
    space.wait_claim("kept", lambda one: not results(one), what="is deallocated")
    space.create(*sharing("b", whole))
    space.running("b")
