from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from driver.errors import KubeError
from driver.shares import Share
from kubelet_plugin.in_force.containers import AGAIN_S, ASKED_S, KEPT_S, MAX_ASKED, Containers
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord

pytestmark = pytest.mark.asyncio

SHARE = Share(claim_uid="u1", request="gpu", device="nvidia-1", memory_mib=10)
RECORD = ClaimRecord(
    uid="u1",
    namespace="ns",
    name="claim-1",
    allocation="",
    shares=(ShareRecord(share=SHARE, pool="n/dragoman", cdi_device="d"),),
)


def pod(*, containers: dict[str, str | None], init: dict[str, str | None] | None = None) -> dict[str, Any]:
    def spec(names: dict[str, str | None]) -> list[dict[str, Any]]:
        return [{"name": name, "resources": {"claims": [{"name": "c"}]}} for name in names]

    def status(names: dict[str, str | None]) -> list[dict[str, Any]]:
        return [
            {"name": name, "containerID": f"containerd://{one}", "state": {"running": {}}}
            if one
            else {"name": name, "state": {"waiting": {}}}
            for name, one in names.items()
        ]

    return {
        "metadata": {"uid": "p1", "name": "pod"},
        "spec": {
            "resourceClaims": [{"name": "c", "resourceClaimName": "claim-1"}],
            "containers": [*spec(containers), {"name": "beside"}],
            "initContainers": spec(init or {}),
        },
        "status": {"containerStatuses": status(containers), "initContainerStatuses": status(init or {})},
    }


class Pods:
    def __init__(self, **pods: Any) -> None:
        self.pods = pods
        self.asked: list[str] = []

    async def get_pod(self, *, namespace: str, name: str, cached: bool = False) -> Any:
        self.asked.append(name)
        found = self.pods.get(name)
        if isinstance(found, Exception):
            raise found
        return found

    async def get_claim(self, *, namespace: str, name: str) -> Any:
        raise NotImplementedError


async def running(containers: Containers, *names: str, now: float = 0.0) -> list[tuple[str, str, str]]:
    found = await containers.running([("ns", name) for name in names], records=[RECORD], now=now)
    return sorted((one.pod, one.name, one.container_id) for one in found)


async def test_containers_that_run_and_name_a_claim_are_found() -> None:
    pods = Pods(a=pod(containers={"app": "id-1", "other": "id-2"}))
    assert await running(Containers(pods), "a") == [("a", "app", "id-1"), ("a", "other", "id-2")]


async def test_a_pod_whose_containers_run_is_asked_once_for_a_long_time() -> None:
    pods = Pods(a=pod(containers={"app": "id-1"}))
    containers = Containers(pods)
    for now in (0.0, 10.0, KEPT_S - 1):
        await running(containers, "a", now=now)
    assert len(pods.asked) == 1
    await running(containers, "a", now=KEPT_S)
    assert len(pods.asked) == 2


async def test_a_pod_whose_container_does_not_run_yet_is_asked_again_with_growing_pauses() -> None:
    pods = Pods(a=pod(containers={"app": None}))
    containers = Containers(pods)
    times = []
    for now in range(200):
        before = len(pods.asked)
        await running(containers, "a", now=float(now))
        times += [now] * (len(pods.asked) - before)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps[0] == AGAIN_S
    assert gaps == sorted(gaps)
    assert gaps[-1] <= 60


async def test_a_pod_that_is_listed_before_its_claim_is_prepared_is_asked_again_when_it_is() -> None:
    pods = Pods(a=pod(containers={"app": "id-1"}))
    containers = Containers(pods)
    assert await containers.running([("ns", "a")], records=[], now=0.0) == []
    assert await containers.running([("ns", "a")], records=[], now=1.0) == []
    assert len(pods.asked) == 1
    assert await running(containers, "a", now=2.0) == [("a", "app", "id-1")]
    assert await running(containers, "a", now=10.0) == [("a", "app", "id-1")]
    assert len(pods.asked) == 2


async def test_a_container_that_was_started_anew_is_found_when_its_processes_are_gone() -> None:
    pods = Pods(a=pod(containers={"app": "id-1"}))
    containers = Containers(pods)
    found = await containers.running([("ns", "a")], records=[RECORD], now=0.0)
    pods.pods["a"] = pod(containers={"app": "id-2"})
    containers.without_processes(found)
    assert await running(containers, "a", now=AGAIN_S) == [("a", "app", "id-2")]


async def test_an_init_container_that_is_done_is_not_waited_for() -> None:
    pods = Pods(a=pod(containers={"app": "id-1"}, init={"setup": None}))
    containers = Containers(pods)
    assert await running(containers, "a") == [("a", "app", "id-1")]
    await running(containers, "a", now=60.0)
    assert len(pods.asked) == 1


async def test_a_pod_that_is_gone_and_an_api_server_that_is_away_are_no_trouble() -> None:
    pods = Pods(b=KubeError("away"))
    containers = Containers(pods)
    assert await running(containers, "a", "b") == []
    pods.pods["b"] = pod(containers={"app": "id-1"})
    assert await running(containers, "a", "b", now=1.0) == [("b", "app", "id-1")]


async def test_a_round_asks_a_bounded_number_of_pods() -> None:
    pods = Pods()
    await running(Containers(pods), *(f"p{number}" for number in range(3 * MAX_ASKED)))
    assert len(pods.asked) == MAX_ASKED


async def test_what_is_not_listed_any_more_is_forgotten() -> None:
    pods = Pods(a=pod(containers={"app": "id-1"}))
    containers = Containers(pods)
    await running(containers, "a")
    assert await running(containers, now=1.0) == []
    await running(containers, "a", now=2.0)
    assert len(pods.asked) == 2


@pytest.mark.looptime
async def test_an_api_server_that_hangs_holds_a_round_up_once_and_what_is_known_stays_known() -> None:
    class Hanging(Pods):
        hangs = False

        async def get_pod(self, *, namespace: str, name: str, cached: bool = False) -> Any:
            if self.hangs:
                self.asked.append(name)
                await asyncio.sleep(10)
                raise KubeError("no answer in time")
            return await super().get_pod(namespace=namespace, name=name, cached=cached)

    pods = Hanging(a=pod(containers={"app": "id-1"}))
    containers = Containers(pods)
    assert await running(containers, "a") == [("a", "app", "id-1")]
    pods.hangs = True
    began = asyncio.get_running_loop().time()
    others = [f"new-{number}" for number in range(MAX_ASKED)]
    assert await running(containers, "a", *others, now=KEPT_S) == [("a", "app", "id-1")]
    assert asyncio.get_running_loop().time() - began <= ASKED_S + 10
    assert len(pods.asked) == 2
