"""The kubelet's PodResources API, served by a stand-in over a real socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubelet_plugin.api import pod_resources_v1_pb2, pod_resources_v1_pb2_grpc
from kubelet_plugin.pod_resources import DevicePluginUse, PodResourcesClient
from kubelet_plugin.prepare.claims import ClaimRef

pytestmark = pytest.mark.asyncio


class Lister(pod_resources_v1_pb2_grpc.PodResourcesListerServicer):
    def __init__(self, answer: pod_resources_v1_pb2.ListPodResourcesResponse | None) -> None:
        self._answer = answer

    async def List(self, request: Any, context: Any) -> pod_resources_v1_pb2.ListPodResourcesResponse:  # noqa: N802
        if self._answer is None:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "rate limited")
        assert self._answer is not None
        return self._answer

    async def GetAllocatableResources(  # noqa: N802
        self, request: Any, context: Any
    ) -> pod_resources_v1_pb2.AllocatableResourcesResponse:
        return pod_resources_v1_pb2.AllocatableResourcesResponse(
            devices=[
                pod_resources_v1_pb2.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=["GPU-1"]),
                pod_resources_v1_pb2.ContainerDevices(resource_name="example.com/gone", device_ids=[]),
            ]
        )


@asynccontextmanager
async def kubelet(
    folder: Path, answer: pod_resources_v1_pb2.ListPodResourcesResponse | None
) -> AsyncIterator[PodResourcesClient]:
    path = folder / "kubelet.sock"
    server = grpc.aio.server()
    pod_resources_v1_pb2_grpc.add_PodResourcesListerServicer_to_server(Lister(answer), server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    yield PodResourcesClient(path, timeout_s=60)
    await server.stop(0)


def ref(name: str, uid: str = "") -> ClaimRef:
    return ClaimRef(namespace="ns", name=name, uid=uid)


def pod(*claims: str, parts: dict[str, str] | None = None) -> pod_resources_v1_pb2.PodResources:
    """A pod with claims; `parts` maps drivers to CDI devices that each claim got from them."""
    prepared = [
        pod_resources_v1_pb2.ClaimResource(
            driver_name=driver, cdi_devices=[pod_resources_v1_pb2.CDIDevice(name=device)]
        )
        for driver, device in (parts or {}).items()
    ]
    resources = [
        pod_resources_v1_pb2.DynamicResource(claim_name=claim, claim_namespace="ns", claim_resources=prepared)
        for claim in claims
    ]
    return pod_resources_v1_pb2.PodResources(
        name="pod",
        namespace="ns",
        containers=[pod_resources_v1_pb2.ContainerResources(name="app", dynamic_resources=resources)],
    )


async def test_claims_of_all_pods_are_told_by_namespace_and_name(short_dir: Path) -> None:
    answer = pod_resources_v1_pb2.ListPodResourcesResponse(pod_resources=[pod("a", "b"), pod("a"), pod()])
    async with kubelet(short_dir, answer) as client:
        assert await client.claims_in_use() == frozenset({ref("a"), ref("b")})


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"dragoman.dev": "dragoman.dev/share=11-22.gpu.card-0.33"}, {ref("a", "11-22")}),
        (
            {"gpu.example.com": "example.com/gpu=0", "dragoman.dev": "dragoman.dev/share=1.g.c"},
            {ref("a", "1")},
        ),
        ({"gpu.example.com": "example.com/gpu=0"}, set()),
        ({"dragoman.dev": "example.com/gpu=11-22.gpu.card-0"}, {ref("a")}),
        ({"dragoman.dev": "dragoman.dev/share=..."}, {ref("a")}),
        ({"dragoman.dev": ""}, {ref("a")}),
    ],
    ids=["ours", "both", "another driver's", "of another kind", "no UID", "no CDI device"],
)
async def test_the_uid_of_a_claim_of_ours_is_that_of_its_cdi_devices(
    short_dir: Path, parts: dict[str, str], expected: set[ClaimRef]
) -> None:
    answer = pod_resources_v1_pb2.ListPodResourcesResponse(pod_resources=[pod("a", parts=parts)])
    async with kubelet(short_dir, answer) as client:
        assert await client.claims_in_use() == frozenset(expected)


async def test_no_pods_is_an_answer(short_dir: Path) -> None:
    async with kubelet(short_dir, pod_resources_v1_pb2.ListPodResourcesResponse()) as client:
        assert await client.claims_in_use() == frozenset()


async def test_a_kubelet_that_refuses_leaves_it_unknown(short_dir: Path) -> None:
    async with kubelet(short_dir, None) as client:
        assert await client.claims_in_use() is None


async def test_a_kubelet_that_is_away_leaves_it_unknown(short_dir: Path) -> None:
    assert await PodResourcesClient(short_dir / "kubelet.sock", timeout_s=1).claims_in_use() is None


async def test_device_plugins_are_told_by_what_they_offer_and_what_pods_hold(short_dir: Path) -> None:
    held = pod_resources_v1_pb2.ContainerDevices(resource_name="amd.com/gpu", device_ids=["0"])
    container = pod_resources_v1_pb2.ContainerResources(name="app", devices=[held])
    answer = pod_resources_v1_pb2.ListPodResourcesResponse(
        pod_resources=[pod_resources_v1_pb2.PodResources(name="pod", namespace="ns", containers=[container])]
    )
    async with kubelet(short_dir, answer) as client:
        assert await client.device_plugins() == DevicePluginUse(
            offered=frozenset({"nvidia.com/gpu"}), held=frozenset({"amd.com/gpu"})
        )


async def test_what_is_not_answered_is_not_taken_for_nothing(short_dir: Path) -> None:
    async with kubelet(short_dir, None) as client:
        assert await client.device_plugins() is None
