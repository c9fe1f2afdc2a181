"""Containers and what each of them can use."""

from __future__ import annotations

import pytest

from driver.shares import Share
from kubelet_plugin.prepare.pods import claim_names, container_uses, is_pod_owned, reserving_pods, runs_here
from tests.support.node_world import NODE, claim, container, pod, result, uid_of


def share(request: str, *, uid: str = "c1") -> Share:
    return Share(claim_uid=uid, request=request, device="card-0", share_id=request, memory_mib=1)


def uses_of(found: dict[str, object], **shares: tuple[Share, ...]) -> dict[str, set[str]]:
    return {use.container: {key.request for key in use.uses} for use in container_uses(found, shares=shares)}


def test_a_container_that_names_a_request_gets_that_request_alone() -> None:
    found = pod(
        claims={"gpu": "c"}, containers=(container("a", ("gpu", "r1")), container("b", ("gpu", "r2")))
    )
    assert uses_of(found, c=(share("r1"), share("r2/small"))) == {"a": {"r1"}, "b": {"r2"}}


def test_a_container_that_names_the_claim_gets_all_requests() -> None:
    found = pod(claims={"gpu": "c"}, containers=(container("a", ("gpu", "")),))
    assert uses_of(found, c=(share("r1"), share("r2"))) == {"a": {"r1", "r2"}}


def test_a_container_that_names_nothing_gets_nothing() -> None:
    found = pod(claims={"gpu": "c"}, containers=(container("a"),))
    assert uses_of(found, c=(share("r1"),)) == {"a": set()}


def test_kinds_and_order_follow_the_spec() -> None:
    found = pod(
        claims={"gpu": "c"},
        init=(container("first"), container("side", restartPolicy="Always")),
        containers=(container("app"),),
    )
    uses = container_uses(found, shares={})
    assert [(use.container, use.kind, use.order) for use in uses] == [
        ("first", "init", 0),
        ("side", "sidecar", 1),
        ("app", "app", 0),
    ]


def test_a_claim_from_a_template_is_found_through_the_pods_status() -> None:
    found = pod(claims={}, containers=(container("a", ("gpu", "")),))
    found["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "t"}]
    found["status"] = {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "generated"}]}
    assert claim_names(found) == {"generated"}
    assert uses_of(found, generated=(share("r1"),)) == {"a": {"r1"}}


def test_extended_resources_reach_the_container_that_they_are_mapped_to() -> None:
    found = pod(claims={}, containers=(container("a"), container("b")))
    found["status"] = {
        "extendedResourceClaimStatus": {
            "resourceClaimName": "ext",
            "requestMappings": [
                {"containerName": "b", "resourceName": "x/y", "requestName": "container-1-request-0"}
            ],
        }
    }
    assert claim_names(found) == {"ext"}
    assert uses_of(found, ext=(share("container-1-request-0"),)) == {
        "a": set(),
        "b": {"container-1-request-0"},
    }


def test_a_privileged_container_is_reported_as_such() -> None:
    found = pod(containers=(container("a", securityContext={"privileged": True}),))
    assert [use.privileged for use in container_uses(found, shares={})] == [True]


def test_only_pods_count_as_reserving() -> None:
    found = claim("c", result(), pods=("p",))
    found["status"]["reservedFor"].append({"resource": "others", "name": "o", "uid": "1"})
    assert reserving_pods(found) == (("p", uid_of("p")),)


@pytest.mark.parametrize(
    ("owner", "expected"),
    [("pod", True), ("", False)],
)
def test_a_claim_is_pod_owned_by_its_controlling_owner(owner: str, expected: bool) -> None:
    assert is_pod_owned(claim("c", result(), owner=owner)) is expected


@pytest.mark.parametrize("pods", [("another",), ("pod", "another")])
def test_a_claim_that_another_pod_uses_is_not_that_of_its_owner_alone(pods: tuple[str, ...]) -> None:
    assert not is_pod_owned(claim("c", result(), owner="pod", pods=pods))


def test_a_pod_of_another_node_or_another_uid_does_not_run_here() -> None:
    assert runs_here(pod("p"), uid=uid_of("p"), node=NODE)
    assert not runs_here(pod("p"), uid="another", node=NODE)
    assert not runs_here(pod("p", node="elsewhere"), uid=uid_of("p"), node=NODE)
    assert not runs_here(None, uid=uid_of("p"), node=NODE)
