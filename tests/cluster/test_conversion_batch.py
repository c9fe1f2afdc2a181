"""Pods of before that a batch system makes: Kueue admits their Jobs, Volcano makes and places its own.

Flow: a cluster for each system, with Dragoman and the system's own chart. The Jobs are as people wrote them
before; what the queue counts, what the container sees and what is left is looked at.
Limits: Kueue without its visibility API, Volcano without its admission webhooks (`tooling.cluster.batch`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from driver.kube.resources import PODS, RESOURCE_CLAIMS, Resource
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JOBS, JSON, TEMPLATES, Api, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.ledger import parse_quantity
from tests.cluster.support.manifests import container
from tests.cluster.support.own_cluster import own_cluster
from tests.cluster.support.space import Space, open_space
from tooling.cluster import batch, build

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

VERSION = "1.36.3"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
CARDS, MEMORY = "nvidia.com/gpu", "nvidia.com/total-gpumem"
QUOTA = {CARDS: 4, MEMORY: 10000, "nvidia.com/total-gpucores": 400}
KUEUE_CONFIG: JSON = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta1",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "metrics": {"bindAddress": ":8443"},
    "webhook": {"port": 9443},
    "leaderElection": {"leaderElect": False},
    "integrations": {"frameworks": ["batch/job", "pod"]},
    "resources": {
        "transformations": [
            {"input": "nvidia.com/gpumem", "strategy": "Replace", "outputs": {MEMORY: 1}},
            {
                "input": "nvidia.com/gpucores",
                "strategy": "Replace",
                "outputs": {"nvidia.com/total-gpucores": 1},
            },
        ]
    },
}
"""What HAMi's users have: amounts by sums over the queue, beside the count."""

VOLCANO_SCHEDULER = """\
actions: "enqueue, allocate, backfill"
tiers:
- plugins:
  - name: priority
  - name: gang
    enablePreemptable: false
  - name: conformance
- plugins:
  - name: overcommit
  - name: drf
    enablePreemptable: false
  - name: predicates
    arguments:
      predicate.DynamicResourceAllocationEnable: true
  - name: proportion
  - name: nodeorder
  - name: binpack
"""
"""Its chart's own, and claims switched on."""


def _of_kueue(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(
        group="kueue.x-k8s.io", version="v1beta1", plural=plural, kind=kind, namespaced=namespaced
    )


FLAVORS = _of_kueue("resourceflavors", "ResourceFlavor", namespaced=False)
CLUSTER_QUEUES = _of_kueue("clusterqueues", "ClusterQueue", namespaced=False)
LOCAL_QUEUES = _of_kueue("localqueues", "LocalQueue", namespaced=True)
WORKLOADS = _of_kueue("workloads", "Workload", namespaced=True)
VOLCANO_JOBS = Resource(
    group="batch.volcano.sh", version="v1alpha1", plural="jobs", kind="Job", namespaced=True
)
POD_GROUPS = Resource(
    group="scheduling.volcano.sh", version="v1beta1", plural="podgroups", kind="PodGroup", namespaced=True
)


def _beside(
    system: batch.System, images: Images, folder: Path, *, values: Mapping[str, Any]
) -> Iterator[Installation]:
    """A cluster with Dragoman and a batch system; not run where either is not built."""
    if not build.is_built(system.tool):
        pytest.skip(
            f"not run: {system.tool.name} is not built here (hack/cluster build --also {system.tool.name})"
        )
    with own_cluster(images, purpose=system.tool.name, version=VERSION) as installed:
        assert installed.target.own is not None
        for tar in batch.write_images(system, folder):
            installed.target.own.load_image(tar)
        (folder / "values.json").write_text(json.dumps(values))
        own = f"{system.tool.name}-system"
        installed.target.must(
            *("helm", "install", system.tool.name, str(batch.chart(system)), "--namespace", own),
            *("--create-namespace", "--values", str(folder / "values.json"), "--wait", "--timeout", "300s"),
        )
        yield installed


@pytest.fixture(scope="module")
def kueue(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Kueue with one queue for the whole cluster."""
    values = {
        **batch.KUEUE_VALUES,
        "managerConfig": {"controllerManagerConfigYaml": json.dumps(KUEUE_CONFIG)},
    }
    for installed in _beside(batch.KUEUE, images, tmp_path_factory.mktemp("kueue"), values=values):
        _make_queue(installed.api)
        yield installed


def _make_queue(api: Api) -> None:
    quotas = [{"name": name, "nominalQuota": amount} for name, amount in QUOTA.items()]
    group = {"coveredResources": list(QUOTA), "flavors": [{"name": "any", "resources": quotas}]}
    # Its webhook answers a little after its pod is ready.
    waiting.eventually(lambda: _made(api, FLAVORS, "any"), what="Kueue takes a flavor")
    api.create(
        CLUSTER_QUEUES,
        {"metadata": {"name": "all"}, "spec": {"namespaceSelector": {}, "resourceGroups": [group]}},
    )


def _made(api: Api, kind: Resource, name: str) -> bool:
    """Whether the object is there; an answer of a webhook that does not listen yet is a "not yet"."""
    try:
        api.create(kind, {"metadata": {"name": name}})
    except Refused as refused:
        if refused.status < 500:
            raise
        return False
    return True


@pytest.fixture(scope="module")
def volcano(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Volcano's controllers and scheduler, the latter with claims and shares of cards switched on."""
    values = {
        **batch.VOLCANO_VALUES,
        "custom": {
            **batch.VOLCANO_VALUES["custom"],
            "scheduler_config_override": VOLCANO_SCHEDULER,
            "scheduler_feature_gates": "DRAConsumableCapacity=true",
        },
    }
    for installed in _beside(batch.VOLCANO, images, tmp_path_factory.mktemp("volcano"), values=values):
        _let_bind(installed.api)
        yield installed


def _let_bind(api: Api) -> None:
    """What 1.36 wants of whoever allocates claims, and Volcano's chart does not give its scheduler."""
    name = "volcano-binds-claims"
    rule = {
        "apiGroups": ["resource.k8s.io"],
        "resources": ["resourceclaims/binding"],
        "verbs": ["update", "patch"],
    }
    api.create(_of_rbac("ClusterRole"), {"metadata": {"name": name}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    who = {"kind": "ServiceAccount", "name": "volcano-scheduler", "namespace": "volcano-system"}
    binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [who]}
    api.create(_of_rbac("ClusterRoleBinding"), binding)


def _of_rbac(kind: str) -> Resource:
    return Resource(
        group="rbac.authorization.k8s.io",
        version="v1",
        plural=f"{kind.lower()}s",
        kind=kind,
        namespaced=False,
    )


def _space(installed: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    one = open_space(installed.api, request.node.name)
    yield one
    installed.expect_nothing_left(one.close())


@pytest.fixture
def queue_space(kueue: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace whose queue is called `mine`; what the test before had is given back."""
    for one in _space(kueue, request):
        # A Job that waits for what a namespace on its way out still holds is not looked at again.
        for name in QUOTA:
            _wait_used(one, name, 0)
        queue = {"metadata": {"name": "mine"}, "spec": {"clusterQueue": "all"}}
        one.api.create(LOCAL_QUEUES, queue, namespace=one.name)
        yield one


@pytest.fixture
def gang_space(volcano: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    for one in _space(volcano, request):
        yield one
        # A Job that is left, because its test failed, would make its pods again.
        for job in one.api.list(VOLCANO_JOBS, namespace=one.name):
            _delete(one, VOLCANO_JOBS, job["metadata"]["name"])


def _template(limits: Mapping[str, str], *, requests: Mapping[str, str] | None = None) -> JSON:
    one = container("app")
    one["resources"] = {"limits": dict(limits), **({"requests": dict(requests)} if requests else {})}
    return {
        "metadata": {
            "annotations": {
                "nvidia.com/use-gpuuuid": cards.NVIDIA_40.uuid,
                "volcano.sh/vgpu-use-gpuuuid": cards.NVIDIA_40.uuid,
            }
        },
        "spec": {"containers": [one], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1},
    }


def _share(memory: int) -> dict[str, str]:
    return {"nvidia.com/gpu": "1", "nvidia.com/gpumem": str(memory), "nvidia.com/gpucores": "30"}


def _queued_job(space: Space, name: str, memory: int, *, pods: int = 1) -> None:
    spec = {"parallelism": pods, "completions": pods, "template": _template(_share(memory))}
    metadata = {"name": name, "labels": {QUEUE_LABEL: "mine"}}
    space.api.create(JOBS, {"metadata": metadata, "spec": spec}, namespace=space.name)


def _running_of(space: Space, job: str, count: int, *, label: str = "job-name") -> list[str]:
    """Names of the pods of a Job, once `count` of them run."""

    def up(found: list[JSON]) -> list[str] | None:
        names = sorted(one["metadata"]["name"] for one in found if waiting.running(one))
        return names if len(names) == count else None

    return waiting.wait_all(
        space.api,
        PODS,
        up,
        what=f"{count} pods of the Job {job} run",
        namespace=space.name,
        labelSelector=f"{label}={job}",
    )


def _delete(space: Space, kind: Resource, name: str) -> None:
    """As kubectl does it: Jobs would leave their pods to themselves if nothing is said."""
    path = kind.path(namespace=space.name, name=name)
    space.api.request("DELETE", path, query={"propagationPolicy": "Background"})


def _used(space: Space) -> dict[str, int]:
    """What Kueue says that is taken of the quota."""
    found = space.api.get(CLUSTER_QUEUES, "all")
    return {
        one["name"]: int(parse_quantity(one["total"]))
        for flavor in (found.get("status") or {}).get("flavorsReservation") or []
        for one in flavor["resources"]
    }


def _wait_used(space: Space, name: str, amount: int) -> None:
    waiting.eventually(lambda: _used(space).get(name, 0) == amount, what=f"Kueue counts {amount} of {name}")


def _nothing_left(space: Space, *, seconds: float = waiting.PATIENCE_S) -> None:
    def gone() -> bool:
        return not any(space.api.list(kind, namespace=space.name) for kind in (RESOURCE_CLAIMS, TEMPLATES))

    waiting.eventually(gone, what="no claim and no template is left", seconds=seconds)


def _limits(space: Space, pod: str) -> list[tuple[str, int | None, int | None]]:
    return [(one.card, one.memory_mib, one.cores) for one in space.seen(pod).limits]


def test_a_job_that_kueue_admits_holds_its_shares_and_one_over_the_quota_waits(queue_space: Space) -> None:
    space = queue_space
    _queued_job(space, "first", 4000, pods=2)
    for name in _running_of(space, "first", 2):
        assert _limits(space, name) == [(cards.NVIDIA_40.uuid, 4000, 30)]
    # The queue counts what the Job asks for by the names of before: these are gone in its pods only.
    _wait_used(space, MEMORY, 8000)
    assert _used(space)[CARDS] == 2
    asks = space.api.get(JOBS, "first", namespace=space.name)["spec"]["template"]["spec"]
    # Kueue writes 4000 as 4k, which is the same amount.
    limits = asks["containers"][0]["resources"]["limits"]
    assert {name: parse_quantity(text) for name, text in limits.items()} == {
        name: int(text) for name, text in _share(4000).items()
    }
    assert "resourceClaims" not in asks

    _queued_job(space, "second", 4000)
    why = waiting.wait_all(
        space.api,
        WORKLOADS,
        lambda found: _why_pending(found, owner="second"),
        what="the second Job's workload is pending",
        namespace=space.name,
    )
    assert MEMORY in why
    assert space.api.get(JOBS, "second", namespace=space.name)["spec"]["suspend"] is True
    assert len(space.claims()) == 2

    _delete(space, JOBS, "first")
    (name,) = _running_of(space, "second", 1)
    assert _limits(space, name) == [(cards.NVIDIA_40.uuid, 4000, 30)]
    _wait_used(space, MEMORY, 4000)
    _delete(space, JOBS, "second")
    _nothing_left(space)
    _wait_used(space, MEMORY, 0)


def _why_pending(workloads: list[JSON], *, owner: str) -> str:
    for one in workloads:
        if any(of["name"] == owner for of in one["metadata"].get("ownerReferences") or []):
            for condition in (one.get("status") or {}).get("conditions") or []:
                if condition["type"] == "QuotaReserved" and condition["status"] == "False":
                    return str(condition["message"])
    return ""


def test_kueue_takes_a_job_back_and_gives_it_out_again_without_anything_left(queue_space: Space) -> None:
    space = queue_space
    _queued_job(space, "stopped", 6000)
    _running_of(space, "stopped", 1)
    # Whoever closes a queue like this ends what runs from it.
    space.api.patch(CLUSTER_QUEUES, "all", {"spec": {"stopPolicy": "HoldAndDrain"}})
    try:
        _nothing_left(space)
        assert space.api.get(JOBS, "stopped", namespace=space.name)["spec"]["suspend"] is True
    finally:
        space.api.patch(CLUSTER_QUEUES, "all", {"spec": {"stopPolicy": "None"}})
    (name,) = _running_of(space, "stopped", 1)
    assert _limits(space, name) == [(cards.NVIDIA_40.uuid, 6000, 30)]
    _delete(space, JOBS, "stopped")
    _nothing_left(space)


def test_a_bare_pod_in_a_queue_of_kueue_runs_with_its_share_but_its_card_is_not_counted(
    queue_space: Space,
) -> None:
    space = queue_space
    one = _template(_share(4000))
    metadata = {**one["metadata"], "name": "bare", "labels": {QUEUE_LABEL: "mine"}}
    space.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": one["spec"]})
    space.running("bare")
    assert _limits(space, "bare") == [(cards.NVIDIA_40.uuid, 4000, 30)]
    # Kueue reads the pod as it is stored, and there it has a claim in place of amounts.
    (workload,) = space.api.list(WORKLOADS, namespace=space.name)
    assert any(one["type"] == "Admitted" for one in workload["status"]["conditions"])
    assert set(_used(space).values()) == {0}
    space.delete("bare")
    _nothing_left(space)


def _volcano_job(space: Space, name: str, template: JSON, *, pods: int, scheduler: str = "volcano") -> None:
    spec = {
        "minAvailable": pods,
        "schedulerName": scheduler,
        "queue": "default",
        "maxRetry": 3,
        "tasks": [{"name": "worker", "replicas": pods, "minAvailable": pods, "template": template}],
    }
    space.api.create(VOLCANO_JOBS, {"metadata": {"name": name}, "spec": spec}, namespace=space.name)


def _vgpu(memory: int) -> dict[str, str]:
    return {
        "volcano.sh/vgpu-number": "1",
        "volcano.sh/vgpu-memory": str(memory),
        "volcano.sh/vgpu-cores": "20",
    }


_OF_JOB = "volcano.sh/job-name"


# Without it a pod is "best effort" to Volcano once its cards are in a claim, and placed outside its gang.
_SOME_CPU = {"cpu": "10m"}


def test_a_job_of_volcano_is_placed_as_a_gang_and_each_pod_holds_its_share(gang_space: Space) -> None:
    space = gang_space
    _volcano_job(space, "gang", _template(_vgpu(3000), requests=_SOME_CPU), pods=2)
    for name in _running_of(space, "gang", 2, label=_OF_JOB):
        assert space.pod(name)["spec"]["schedulerName"] == "volcano"
        assert _limits(space, name) == [(cards.NVIDIA_40.uuid, 3000, 20)]
    (group,) = space.api.list(POD_GROUPS, namespace=space.name)
    assert (group["spec"]["minMember"], group["status"]["phase"]) == (2, "Running")
    _delete(space, VOLCANO_JOBS, "gang")
    _nothing_left(space)


def test_of_a_gang_that_does_not_fit_volcano_places_none(gang_space: Space) -> None:
    space = gang_space
    _volcano_job(space, "large", _template(_vgpu(25000), requests=_SOME_CPU), pods=2)
    waiting.wait_all(
        space.api,
        PODS,
        lambda found: len(found) == 2 or None,
        what="both pods are there",
        namespace=space.name,
    )
    with pytest.raises(waiting.Waited):
        waiting.eventually(
            lambda: any(one["spec"].get("nodeName") for one in space.pods()),
            what="one of them is placed",
            seconds=10,
        )
    _delete(space, VOLCANO_JOBS, "large")
    _nothing_left(space)


def test_a_job_of_volcano_may_be_given_to_the_default_scheduler(gang_space: Space) -> None:
    space = gang_space
    template = _template(_vgpu(3000))
    template["spec"]["schedulerName"] = "default-scheduler"
    _volcano_job(space, "single", template, pods=1)
    (name,) = _running_of(space, "single", 1, label=_OF_JOB)
    assert space.pod(name)["spec"]["schedulerName"] == "default-scheduler"
    assert _limits(space, name) == [(cards.NVIDIA_40.uuid, 3000, 20)]
    _delete(space, VOLCANO_JOBS, "single")
    _nothing_left(space)


def test_volcano_makes_no_pods_of_a_job_that_requests_what_no_node_has_any_more(gang_space: Space) -> None:
    space = gang_space
    _volcano_job(space, "requests", _template(_vgpu(3000), requests=_vgpu(3000)), pods=1)
    group = waiting.wait_all(
        space.api,
        POD_GROUPS,
        lambda found: found[0]["metadata"]["name"] if found else "",
        what="the Job has its PodGroup",
        namespace=space.name,
    )
    space.event(group, "resource in cluster is overused")
    assert space.pods() == []
    _delete(space, VOLCANO_JOBS, "requests")
