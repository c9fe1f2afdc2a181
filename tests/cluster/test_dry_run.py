"""`kubectl --dry-run=server` of anything changes nothing anywhere.

Flow: one namespace with a quota and something of each kind in it; then each kind is made, changed and deleted
by kubectl as a dry run, with every example of manifests/, and every object of the cluster is compared with
what it was.

Limits: what changes by itself (Leases, Events, what a node says of itself) is not compared. Of pods outside
of the namespace, and of what counts them, everything is but their status: a probe may fail where much runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driver.kube.resources import (
    ACCELERATOR_POLICIES,
    ACCELERATOR_QUOTAS,
    DEVICE_CLASSES,
    PODS,
    RESOURCE_QUOTAS,
)
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON, NAMESPACES, Api
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, pod, request, share_config, template
from tests.cluster.support.quotas import QUOTA, make_quota, wait_status
from tests.cluster.support.space import Space
from tests.cluster.support.target import ROOT
from tests.cluster.test_conversion import ON_40, SHARE, legacy

pytestmark = pytest.mark.cluster

CHANGE_BY_THEMSELVES = {"events", "leases", "nodes", "endpoints", "endpointslices"}
READINESS = {"pods", "deployments", "replicasets", "daemonsets"}
_OF_EACH_WRITE = {"resourceVersion", "managedFields"}
POLICY = "dry-run"
OFFERED = 'device.driver == "dragoman.dev"'


def _collections(api: Api) -> Iterator[str]:
    """Paths of all collections that can be listed."""
    groups = [f"/api/{version}" for version in api.request("GET", "/api").json()["versions"]]
    groups += [
        f"/apis/{one['preferredVersion']['groupVersion']}"
        for one in api.request("GET", "/apis").json()["groups"]
    ]
    for group in groups:
        for one in api.request("GET", group).json()["resources"]:
            if "list" in one["verbs"] and "/" not in one["name"] and one["name"] not in CHANGE_BY_THEMSELVES:
                yield f"{group}/{one['name']}"


def _everything(space: Space) -> dict[str, str]:
    """Version of each object of the cluster, by path and UID."""
    return {
        f"{path} {one['metadata'].get('namespace', '')}/{one['metadata']['name']} "
        f"{one['metadata'].get('uid', '')}": _version(one, path=path, space=space)
        for path in _collections(space.api)
        for one in space.api.request("GET", path).json()["items"] or ()
        if one["metadata"].get("resourceVersion")
    }


def _version(one: JSON, *, path: str, space: Space) -> str:
    """What changes with an object: its resource version, but for pods of others and what counts those."""
    if path.rpartition("/")[2] not in READINESS or one["metadata"].get("namespace") == space.name:
        return str(one["metadata"]["resourceVersion"])
    meta = {key: value for key, value in one["metadata"].items() if key not in _OF_EACH_WRITE}
    return json.dumps([meta, one["spec"]], sort_keys=True)


def _at_rest(space: Space) -> dict[str, str]:
    """The same, once nothing has changed for longer than an agent lets pass between two looks at limits."""
    last: dict[str, str] = {}

    def still() -> dict[str, str] | None:
        nonlocal last
        leaving = [one for one in space.api.list(NAMESPACES) if "deletionTimestamp" in one["metadata"]]
        before, last = last, _everything(space)
        if before == last and not leaving:
            return last
        time.sleep(12)
        return None

    return waiting.eventually(still, what="nothing changes by itself")


def _policy(**spec: object) -> JSON:
    return {
        "apiVersion": ACCELERATOR_POLICIES.api_version,
        "kind": ACCELERATOR_POLICIES.kind,
        "metadata": {"name": POLICY},
        "spec": {"nodeSelector": {"matchLabels": {"dry-run": "nowhere"}}, **spec},
    }


def _class(*more: str, **spec: object) -> JSON:
    selectors = [{"cel": {"expression": one}} for one in (OFFERED, *more)]
    return {
        "apiVersion": DEVICE_CLASSES.api_version,
        "kind": DEVICE_CLASSES.kind,
        "metadata": {"name": "dry-run", "labels": {"dragoman.dev/driver": "true"}},
        "spec": {"selectors": selectors, **spec},
    }


def _quota(name: str, memory: str) -> JSON:
    return {
        "apiVersion": ACCELERATOR_QUOTAS.api_version,
        "kind": ACCELERATOR_QUOTAS.kind,
        "metadata": {"name": name},
        "spec": {"hard": {"memory": memory}},
    }


def _makers() -> Iterator[JSON]:
    """Whatever makes pods, with a pod of before in it."""
    one = legacy("unused", SHARE)["spec"]
    inner = {"metadata": {"labels": {"app": "dry"}}, "spec": one}
    once = {**inner, "spec": {**one, "restartPolicy": "Never"}}
    selector = {"matchLabels": {"app": "dry"}}
    specs: dict[str, tuple[str, JSON]] = {
        "Deployment": ("apps/v1", {"selector": selector, "template": inner}),
        "ReplicaSet": ("apps/v1", {"selector": selector, "template": inner}),
        "StatefulSet": ("apps/v1", {"serviceName": "dry", "selector": selector, "template": inner}),
        "DaemonSet": ("apps/v1", {"selector": selector, "template": inner}),
        "Job": ("batch/v1", {"template": once}),
        "CronJob": ("batch/v1", {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}}),
    }
    for kind, (version, spec) in specs.items():
        yield {"apiVersion": version, "kind": kind, "metadata": {"name": "dry"}, "spec": spec}


def _new() -> Iterator[JSON]:
    """One of each kind that a webhook or a controller of ours looks at."""
    yield legacy("dry", SHARE)
    yield legacy("dry-ascend", {"huawei.com/Ascend910B4": "1", "huawei.com/Ascend910B4-memory": "8192"})
    yield legacy("dry-volcano", {"volcano.sh/vgpu-number": "1", "volcano.sh/vgpu-memory": "1000"})
    yield legacy("dry-class", {"deviceclass.resource.kubernetes.io/accelerator.dragoman.dev": "1"})
    yield claim("dry", request(memory="4Gi", cores="10"), config=[share_config(corePolicy="default")])
    yield template("dry", request(memory="4Gi"))
    yield pod("dry-of-template", templates={"card": "stored"})
    yield {**_class(extendedResourceName="example.com/dry"), "metadata": {"name": "dry-run-new"}}
    yield {**_policy(sharing=False), "metadata": {"name": "dry-run-new"}}
    yield _quota("dry", "1Gi")
    yield {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "dry"},
        "spec": {"hard": {"limits.nvidia.com/gpumem": "1000"}},
    }
    yield from _makers()


def _changed() -> Iterator[JSON]:
    """Changes of what is stored."""
    yield _policy(sharing=False, excluded=True)
    yield _class(
        'device.attributes["dragoman.dev"].vendor == "nvidia"', extendedResourceName="example.com/dry"
    )
    yield _quota(QUOTA, "1Gi")
    yield {
        **template("stored", request(memory="1Gi")),
        "metadata": {"name": "stored", "labels": {"dry": "run"}},
    }


@contextmanager
def something_of_each_kind(space: Space) -> Iterator[None]:
    """Fills a namespace; the policy is for no node."""
    space.set_labels({"resource.kubernetes.io/admin-access": "true"})
    make_quota(space, {"memory": "64Gi"})
    space.api.create(ACCELERATOR_POLICIES, _policy(reservedMemory="1Gi"))
    space.api.create(DEVICE_CLASSES, _class())
    space.create(
        legacy("before", SHARE, annotations=ON_40),
        claim("alone", request(memory="1Gi", cel=cards.on(cards.NVIDIA_40))),
        template("stored", request(memory="1Gi")),
    )
    space.running("before")
    # Of a request that got no answer in time something is reserved for a while.
    wait_status(space, lambda now: not now.get("reservations"), what="nothing is reserved any more")
    try:
        yield
    finally:
        space.api.delete(ACCELERATOR_POLICIES, POLICY)
        space.api.delete(DEVICE_CLASSES, "dry-run")
        for kind in (ACCELERATOR_QUOTAS, RESOURCE_QUOTAS):
            for one in space.api.list(kind, namespace=space.name):
                space.api.delete(kind, one["metadata"]["name"], namespace=space.name)


def _seen_in_force(claim: JSON) -> bool:
    devices = (claim.get("status") or {}).get("devices") or []
    told = [one["type"] for each in devices for one in each.get("conditions") or []]
    return "InForce" in told


def dry_runs(space: Space, installed: Installation, *, folder: Path) -> None:
    """Makes, changes and deletes everything as dry runs, and compares the cluster before and after."""

    def dry(verb: str, *rest: str) -> str:
        place = ("--namespace", space.name, "--dry-run=server")

        def said() -> str:
            done = installed.target.run("kubectl", verb, *place, *rest)
            # An API server that got no answer of a webhook in time did nothing either.
            assert done.returncode == 0 or "deadline exceeded" in done.stderr, done.stderr
            return done.stdout if done.returncode == 0 else ""

        return waiting.eventually(said, what=f"kubectl {verb} as a dry run is answered")

    before = _at_rest(space)

    for number, one in enumerate((*_new(), *_changed())):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(one))
        for how in ((), ("--server-side", "--force-conflicts")):
            assert "(server dry run)" in dry("apply", *how, "--filename", str(path))
    for example in sorted((ROOT / "manifests" / "examples").glob("*.yaml")):
        dry("apply", "--filename", str(example))
    dry("label", "resourceclaim", "alone", "dry=run")
    dry("label", "pod", "before", "dry=run")
    dry("delete", "pod,resourceclaim,resourceclaimtemplate,acceleratorquota", "--all")
    dry("delete", "acceleratorpolicy", POLICY)
    dry("delete", "deviceclass", "dry-run")

    # Longer than controllers take for what they have heard of.
    time.sleep(5)
    after = _everything(space)
    assert sorted(set(before.items()) ^ set(after.items())) == []
    assert space.api.get(PODS, "before", namespace=space.name)["status"]["phase"] == "Running"


def test_a_dry_run_of_anything_changes_nothing_anywhere(
    space: Space, installed: Installation, tmp_path: Path
) -> None:
    with something_of_each_kind(space):
        name = space.claim_of("before")["metadata"]["name"]
        space.wait_claim(name, _seen_in_force, what="tells that its limits were seen in force")
        dry_runs(space, installed, folder=tmp_path)
