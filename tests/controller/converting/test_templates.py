"""Templates of converted pods: made after the pod, owned by it, never more than conversion would make."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.converting.templates import Templates
from controller.converting.views import ConvertedPod, converted_pod
from controller.events import Events
from controller.metrics import Metrics
from driver.api.asked import check_stamp, restored
from driver.errors import ConfigError
from driver.kube.client import ApiError, KubeClient, error_for
from tests.support.scripted_api import Request, ScriptedTransport

KEY = "team/web"
OURS = "nvidia.dragoman.dev"


def pod(uid: str = "pod-uid") -> Any:
    return {"metadata": {"name": "web", "namespace": "team", "uid": uid}, "spec": {}}


def template(name: str = "web-cards") -> Any:
    exactly = {"deviceClassName": OURS, "count": 1, "capacity": {"requests": {"memory": "4000Mi"}}}
    devices = {"requests": [{"name": "main", "exactly": exactly}]}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name},
        "spec": {"spec": {"devices": devices}},
    }


class World:
    def __init__(self, *, made: Any = (), kept: bool | None = True, found: Any = None) -> None:
        self.views: dict[str, ConvertedPod] = {KEY: ConvertedPod(uid="pod-uid", going=False)}
        self.pod: Any = found if found is not None else pod()
        self.cached: Any = self.pod
        self.templates: dict[str, Any] = {}
        self.events: list[Any] = []
        self.failure: ApiError | None = None
        self._made = made or [template()]
        client = KubeClient(ScriptedTransport(self._answer))
        self.templates_maker = Templates(
            client,
            self,
            Events(client, instance="one", metrics=Metrics()),
            made_of=self._made_of,
            amounts_kept=lambda: kept,
            is_ours=lambda name: name == OURS,
        )

    def get(self, key: str) -> ConvertedPod | None:
        return self.views.get(key)

    def keys(self) -> list[str]:
        return list(self.views)

    def run(self) -> float | None:
        return asyncio.run(self.templates_maker.reconcile(KEY))

    def _made_of(self, found: Any) -> Any:
        if isinstance(self._made, Exception):
            raise self._made
        return self._made

    def _answer(self, request: Request) -> Any:
        if self.failure:
            return self.failure
        if "/events" in request.path:
            self.events.append(request.body)
            return request.body
        if "/pods/" in request.path:
            found = self.cached if (request.query or {}).get("resourceVersion") == "0" else self.pod
            return found or error_for(404, message="none")
        if request.method == "GET":
            return self.templates[request.path.rpartition("/")[2]]
        name = request.body["metadata"]["name"]
        if name in self.templates:
            return error_for(409, message="exists")
        self.templates[name] = request.body
        return request.body


def test_a_template_is_owned_by_its_pod_and_by_nobody_else() -> None:
    world = World()
    assert world.run() is None
    metadata = world.templates["web-cards"]["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "pod-uid"}
    assert metadata["ownerReferences"] == [owner]
    assert metadata["namespace"] == "team"


def test_what_was_made_before_is_left_alone() -> None:
    world = World()
    world.run()
    before = dict(world.templates)
    assert world.run() is None
    assert world.templates == before
    assert not world.events


def test_a_template_of_somebody_else_is_not_used_and_the_pod_is_told() -> None:
    world = World()
    world.templates["web-cards"] = {"metadata": {"name": "web-cards", "ownerReferences": [{"uid": "other"}]}}
    assert world.run() == 60.0
    assert [event["reason"] for event in world.events] == ["TemplateNameTaken"]
    assert world.events[0]["regarding"]["name"] == "web"


def test_a_pod_whose_amounts_mean_nothing_is_told_and_gets_no_template() -> None:
    world = World(made=ConfigError("This is no record of a conversion.", field="metadata.annotations"))
    assert world.run() == 60.0
    assert not world.templates
    assert [event["reason"] for event in world.events] == ["InvalidConfig"]


def test_a_pod_that_was_told_is_not_told_again_at_each_try() -> None:
    world = World(made=ConfigError("This is no record of a conversion.", field="metadata.annotations"))
    for _ in range(3):
        assert world.run() is not None
    assert len(world.events) == 1


@pytest.mark.parametrize("kept", [True, False, None])
def test_whatever_the_server_was_seen_to_do_the_template_carries_and_stamps_amounts(
    kept: bool | None,
) -> None:
    world = World(kept=kept)
    world.run()
    inner = world.templates["web-cards"]["spec"]
    devices = inner["spec"]["devices"]
    devices["requests"][0]["exactly"].pop("capacity")
    check_stamp(devices, inner["metadata"]["annotations"], is_ours=lambda name: name == OURS)
    (request,) = restored(devices, is_ours=lambda name: name == OURS)["requests"]
    assert request["exactly"]["capacity"]["requests"] == {"memory": "4000Mi"}


def test_where_the_server_keeps_amounts_constraints_stay_in_their_place() -> None:
    made = template()
    apart = {"requests": ["main"], "distinctAttribute": "dragoman.dev/uuid"}
    made["spec"]["spec"]["devices"]["constraints"] = [apart]
    world = World(made=[made], kept=True)
    world.run()
    devices = world.templates["web-cards"]["spec"]["spec"]["devices"]
    assert devices["constraints"] == [apart]
    assert devices["requests"] == made["spec"]["spec"]["devices"]["requests"]


def test_a_pod_that_is_another_one_by_now_gets_nothing() -> None:
    world = World(found=pod(uid="new"))
    assert world.run() is None
    assert not world.templates


@pytest.mark.parametrize(
    "cached",
    [
        pytest.param({}, id="an API server that has not heard of the pod yet"),
        pytest.param(
            pod(uid="before"), id="one that has the pod of this name before it, as of a StatefulSet"
        ),
    ],
)
def test_a_pod_that_the_api_servers_memory_does_not_have_yet_gets_its_template(cached: Any) -> None:
    world = World()
    world.cached = cached
    assert world.run() is None
    assert list(world.templates) == ["web-cards"]


def test_a_pod_that_is_gone_or_going_gets_nothing() -> None:
    gone = World(found={})
    assert gone.run() is None
    going = World()
    going.views[KEY] = ConvertedPod(uid="pod-uid", going=True)
    assert going.run() is None
    unknown = World()
    unknown.views.clear()
    assert unknown.run() is None
    assert not gone.templates
    assert not going.templates
    assert not unknown.templates


def test_what_the_api_server_refuses_is_tried_again_by_the_queue() -> None:
    world = World()
    world.failure = error_for(429, message="too many")
    with pytest.raises(ApiError):
        world.run()


def test_all_pods_have_their_turn_when_a_replica_begins_to_lead() -> None:
    assert World().templates_maker.begin() == [KEY]


def test_of_a_pod_its_uid_is_kept_and_whether_it_goes() -> None:
    assert converted_pod(pod()) == ConvertedPod(uid="pod-uid", going=False)
    dying = pod()
    dying["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert converted_pod(dying).going
