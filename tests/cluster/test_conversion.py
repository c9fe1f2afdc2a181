"""Pods with extended resources of before: converted, held to the same limits, and nothing of them left.

What each vendor's names become is in tests/driver/conversion; here a few go all the way to a container.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from driver.kube.resources import PODS, RESOURCE_CLAIMS, Resource
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import DEPLOYMENTS, JOBS, JSON, TEMPLATES, Refused
from tests.cluster.support.manifests import container, request, sharing
from tests.cluster.support.space import Space, results

pytestmark = pytest.mark.cluster

ON_40 = {"nvidia.com/use-gpuuuid": cards.NVIDIA_40.uuid}
SHARE = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "4000", "nvidia.com/gpucores": "30"}


def legacy(
    name: str, limits: Mapping[str, str], *, annotations: Mapping[str, str] | None = None, **more: Any
) -> JSON:
    """A pod as people wrote it before."""
    one = container("app", **more)
    one["resources"] = {"limits": dict(limits)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": dict(annotations or {})},
        "spec": {"containers": [one], "terminationGracePeriodSeconds": 1},
    }


def _left_over(space: Space) -> list[str]:
    return [
        f"{kind.kind} {one['metadata']['name']}"
        for kind in (RESOURCE_CLAIMS, TEMPLATES)
        for one in space.api.list(kind, namespace=space.name)
    ]


def nothing_left(space: Space, *, but: Collection[str] = (), seconds: float = waiting.PATIENCE_S) -> None:
    """Waits until no claim and no template is left, but for templates that the test wrote itself."""
    wanted = {f"{TEMPLATES.kind} {name}" for name in but}
    waiting.eventually(
        lambda: set(_left_over(space)) == wanted or None,
        what="no claim and no template is left",
        seconds=seconds,
    )


def test_a_pod_of_before_sees_what_its_twin_with_a_claim_sees(space: Space) -> None:
    space.create(
        legacy("before", SHARE, annotations=ON_40),
        *sharing("twin", request(memory="4000Mi", cores="30", cel=cards.on(cards.NVIDIA_40))),
    )
    space.running("before", "twin")
    before, twin = (space.seen(name).limits for name in ("before", "twin"))
    assert [(one.card, one.memory_mib, one.cores) for one in before] == [(cards.NVIDIA_40.uuid, 4000, 30)]
    assert before == twin


def test_claim_and_template_are_the_pods_own_and_go_with_it(space: Space) -> None:
    made = space.create(legacy("before", SHARE, annotations=ON_40))[0]
    space.running("before")
    for kind in (RESOURCE_CLAIMS, TEMPLATES):
        (one,) = space.api.list(kind, namespace=space.name)
        assert [owner["uid"] for owner in one["metadata"]["ownerReferences"]] == [made["metadata"]["uid"]]
    space.delete("before")
    nothing_left(space)


def test_volcanos_names_mean_the_same(space: Space) -> None:
    limits = {
        "volcano.sh/vgpu-number": "1",
        "volcano.sh/vgpu-memory": "3000",
        "volcano.sh/vgpu-cores": "20",
    }
    use = {"volcano.sh/vgpu-use-gpuuuid": cards.NVIDIA_40.uuid}
    space.create(legacy("volcano", limits, annotations=use))
    space.running("volcano")
    assert [(one.memory_mib, one.cores) for one in space.seen("volcano").limits] == [(3000, 20)]


def test_an_ascend_pod_of_before_gets_the_template_that_holds_what_it_asks_for(space: Space) -> None:
    limits = {"huawei.com/Ascend910B4": "1", "huawei.com/Ascend910B4-memory": "8192"}
    space.create(legacy("npu", limits))
    # Nothing holds the limit of a simulated Ascend card, so the node refuses the share by that name.
    space.event("npu", "memory", reason="FailedPrepareDynamicResources")
    (result,) = results(space.claim_of("npu"))
    assert result["device"] == cards.ASCEND.device
    assert result["consumedCapacity"] == {"memory": "8Gi", "cores": "25"}


def test_memory_in_percent_is_a_percent_of_the_card_that_was_given(space: Space) -> None:
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem-percentage": "25"}
    space.create(
        legacy("large", limits, annotations=ON_40),
        legacy("small", limits, annotations={"nvidia.com/use-gpuuuid": cards.NVIDIA_24.uuid}),
    )
    space.running("large", "small")
    assert [one.memory_mib for one in space.seen("large").limits] == [cards.NVIDIA_40.memory_mib // 4]
    assert [one.memory_mib for one in space.seen("small").limits] == [cards.NVIDIA_24.memory_mib // 4]


def test_two_shares_of_one_pod_are_on_two_cards(space: Space) -> None:
    space.create(legacy("pair", {**SHARE, "nvidia.com/gpu": "2"}))
    space.running("pair")
    limits = space.seen("pair").limits
    assert {one.card for one in limits} == {cards.NVIDIA_24.uuid, cards.NVIDIA_40.uuid}
    assert {(one.memory_mib, one.cores) for one in limits} == {(4000, 30)}


def test_an_amount_that_means_nothing_is_refused_with_the_field_and_what_to_write(space: Space) -> None:
    with pytest.raises(Refused) as refused:
        space.create(legacy("classic", {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "16Gi"}))
    assert "spec.containers[0].resources.limits[nvidia.com/gpumem]" in refused.value.message
    assert "16384" in refused.value.message


def test_a_dry_run_changes_nothing_anywhere(space: Space) -> None:
    before = _left_over(space)
    made = space.api.create(PODS, legacy("dry", SHARE), namespace=space.name, dry_run=True)
    assert made["spec"]["resourceClaims"][0]["resourceClaimTemplateName"]
    # Long enough for what a real pod gets within a fifth of a second.
    with pytest.raises(waiting.Waited):
        waiting.eventually(lambda: _left_over(space) != before or None, what="something is there", seconds=2)


def test_a_namespace_and_a_pod_can_opt_out(space: Space) -> None:
    out = legacy("out", SHARE)
    out["metadata"]["labels"] = {"dragoman.dev/convert": "false"}
    space.create(out)
    assert "resourceClaims" not in space.pod("out")["spec"]
    space.set_labels({"hami.io/webhook": "ignore"})
    waiting.eventually(
        lambda: (
            "resourceClaims"
            not in space.api.create(PODS, legacy("dry", SHARE), namespace=space.name, dry_run=True)["spec"]
            or None
        ),
        what="pods of the namespace are left alone",
    )


def _deployment(annotation: str) -> JSON:
    one = legacy("unused", SHARE, annotations={**ON_40, "round": annotation})
    metadata = {"labels": {"app": "probe"}, "annotations": one["metadata"]["annotations"]}
    return {
        "metadata": {"name": "probe"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "probe"}},
            "template": {"metadata": metadata, "spec": one["spec"]},
        },
    }


def _rolled_out(space: Space) -> None:
    def done(one: JSON) -> bool:
        status = one["status"]
        counts = {status.get(name) for name in ("updatedReplicas", "readyReplicas", "replicas")}
        return bool(status.get("observedGeneration") == one["metadata"]["generation"] and counts == {2})

    waiting.wait_for(space.api, DEPLOYMENTS, "probe", done, what="is rolled out", namespace=space.name)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.long)])
def test_rolling_a_deployment_leaves_no_claim_and_no_template_behind(space: Space, times: int) -> None:
    space.api.create(DEPLOYMENTS, _deployment("0"), namespace=space.name)
    _rolled_out(space)
    for number in range(1, times + 1):
        space.api.patch(DEPLOYMENTS, "probe", _deployment(str(number)), namespace=space.name)
        _rolled_out(space)
    for one in space.pods():
        if not one["metadata"].get("deletionTimestamp"):
            limits = space.seen(one["metadata"]["name"]).limits
            assert [(found.memory_mib, found.cores) for found in limits] == [(4000, 30)]
    waiting.eventually(
        lambda: len(_left_over(space)) == 4 or None, what="two claims and two templates are left"
    )
    space.api.delete(DEPLOYMENTS, "probe", namespace=space.name)
    nothing_left(space)


def test_pods_made_again_under_their_name_and_jobs_cut_short_leave_nothing_twenty_times(space: Space) -> None:
    job: JSON = {"metadata": {"name": "job"}, "spec": {"template": {"spec": legacy("unused", SHARE)["spec"]}}}
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    for _ in range(20):
        space.create(legacy("again", SHARE))
        space.api.create(JOBS, job, namespace=space.name)
        # Some die before their template is there, some after; none of them is waited for.
        space.api.delete(JOBS, "job", namespace=space.name)
        space.api.delete(PODS, "again", namespace=space.name, grace_s=0)
        waiting.wait_gone(space.api, PODS, "again", namespace=space.name)
        waiting.wait_gone(space.api, JOBS, "job", namespace=space.name)
    for one in space.pods():
        space.api.delete(PODS, one["metadata"]["name"], namespace=space.name, grace_s=0)
    nothing_left(space)


def _controlled(kind: str) -> tuple[Resource, JSON]:
    """An object of a kind that makes pods of before."""
    one = legacy("unused", SHARE, annotations=ON_40)
    inner = {
        "metadata": {"labels": {"app": "made"}, "annotations": one["metadata"]["annotations"]},
        "spec": one["spec"],
    }
    selector = {"matchLabels": {"app": "made"}}
    once: JSON = {**inner, "spec": {**inner["spec"], "restartPolicy": "Never"}}
    specs: dict[str, JSON] = {
        "StatefulSet": {"replicas": 2, "serviceName": "made", "selector": selector, "template": inner},
        "DaemonSet": {"selector": selector, "template": inner},
        "CronJob": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}},
        "ReplicaSet": {"replicas": 1, "selector": selector, "template": inner},
    }
    group = "batch" if kind == "CronJob" else "apps"
    resource = Resource(group=group, version="v1", plural=f"{kind.lower()}s", kind=kind, namespaced=True)
    return resource, {"metadata": {"name": "made"}, "spec": specs[kind]}


def _up(found: list[JSON], *, count: int) -> list[JSON]:
    """So many pods that run, once there are; of a CronJob's there is one more with each minute."""
    up = [one for one in found if waiting.running(one)]
    return up[:count] if len(up) >= count else []


@pytest.mark.parametrize(
    ("kind", "pods"), [("StatefulSet", 2), ("DaemonSet", 1), ("ReplicaSet", 1), ("CronJob", 1)]
)
def test_whoever_makes_the_pods_each_has_its_share_and_takes_it_along(
    space: Space, kind: str, pods: int
) -> None:
    resource, made = _controlled(kind)
    space.api.create(resource, made, namespace=space.name)
    up = waiting.wait_all(
        space.api,
        PODS,
        lambda found: _up(found, count=pods),
        what=f"{pods} pods run",
        namespace=space.name,
        # A CronJob's first minute may have to come.
        labelSelector="app=made",
    )
    for one in up:
        limits = space.seen(one["metadata"]["name"]).limits
        assert [(found.memory_mib, found.cores) for found in limits] == [(4000, 30)]
    space.api.delete(resource, "made", namespace=space.name)
    nothing_left(space)


def test_a_bare_pod_whose_name_is_made_up_later_has_its_share(space: Space) -> None:
    one = legacy("unused", SHARE, annotations=ON_40)
    metadata = {"generateName": "made-up-", "annotations": one["metadata"]["annotations"]}
    (made,) = space.create({**one, "metadata": metadata})
    name = made["metadata"]["name"]
    space.running(name)
    assert [(found.memory_mib, found.cores) for found in space.seen(name).limits] == [(4000, 30)]
    space.delete(name)
    nothing_left(space)
