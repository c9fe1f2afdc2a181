"""What the kubelet says about its pods and device plugins: which claims are in use, who else offers cards.

Purpose: a reservation is freed without the kubelet's word only if the kubelet no longer lists the claim; so
no answer means "not known", never "none".

Flow: one short connection for each question, since questions are rare (clean-up) and the kubelet may have
been restarted in between.

Limits: the API names claims, not their UIDs; those are taken from the CDI devices of ours that it lists for
them. A claim that only other drivers prepared is passed over. A claim is listed only under containers that
name it: one that no container uses is not listed although its pod is running.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from driver.cards import DRIVER_NAME
from driver.cdi.spec import CDI_KIND
from kubelet_plugin.api import pod_resources_v1_pb2, pod_resources_v1_pb2_grpc
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.records import CLAIM_UID

log = structlog.get_logger(__name__)

_MAX_ANSWER_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class DevicePluginUse:
    """Extended resources of device plugins on this node.

    Attributes:
        offered: Names of which there are devices to be had.
        held: Names of which running pods hold devices, also where the plugin is gone.
    """

    offered: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()


class PodResourcesClient:
    """Implements `kubelet_plugin.prepare.claims.PodResources` over the kubelet's socket."""

    def __init__(self, socket: Path, *, timeout_s: float = 10.0) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    async def claims_in_use(self) -> frozenset[ClaimRef] | None:
        """See `kubelet_plugin.prepare.claims.PodResources`."""
        try:
            async with self._stub() as stub:
                answer = await stub.List(
                    pod_resources_v1_pb2.ListPodResourcesRequest(), timeout=self._timeout_s
                )
        except grpc.aio.AioRpcError as failed:
            _log_failure("kubelet does not tell which claims are in use", failed)
            return None
        return frozenset(
            ClaimRef(namespace=resource.claim_namespace, name=resource.claim_name, uid=_uid(resource))
            for pod in answer.pod_resources
            for container in pod.containers
            for resource in container.dynamic_resources
            if _may_be_ours(resource)
        )

    async def pods_with_claims(self) -> frozenset[tuple[str, str]] | None:
        """Namespace and name of the pods whose containers use claims that we may have prepared.

        Returns:
            None if the kubelet does not say.
        """
        try:
            async with self._stub() as stub:
                answer = await stub.List(
                    pod_resources_v1_pb2.ListPodResourcesRequest(), timeout=self._timeout_s
                )
        except grpc.aio.AioRpcError as failed:
            _log_failure("kubelet does not tell which pods use claims", failed)
            return None
        return frozenset(
            (pod.namespace, pod.name)
            for pod in answer.pod_resources
            for container in pod.containers
            for resource in container.dynamic_resources
            if _may_be_ours(resource)
        )

    async def device_plugins(self) -> DevicePluginUse | None:
        """Which extended resources device plugins offer here, and which of them pods hold.

        Returns:
            None if the kubelet does not say.
        """
        try:
            async with self._stub() as stub:
                offered = await stub.GetAllocatableResources(
                    pod_resources_v1_pb2.AllocatableResourcesRequest(), timeout=self._timeout_s
                )
                pods = await stub.List(
                    pod_resources_v1_pb2.ListPodResourcesRequest(), timeout=self._timeout_s
                )
        except grpc.aio.AioRpcError as failed:
            _log_failure("kubelet does not tell what device plugins offer", failed)
            return None
        return DevicePluginUse(
            offered=frozenset(one.resource_name for one in offered.devices if one.device_ids),
            held=frozenset(
                one.resource_name
                for pod in pods.pod_resources
                for container in pod.containers
                for one in container.devices
                if one.device_ids
            ),
        )

    @asynccontextmanager
    async def _stub(self) -> AsyncIterator[pod_resources_v1_pb2_grpc.PodResourcesListerAsyncStub]:
        options = (
            # Without it the client sends the percent-encoded path as :authority, which servers may refuse.
            ("grpc.default_authority", "localhost"),
            ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
        )
        async with grpc.aio.insecure_channel(f"unix:{self._socket}", options=options) as channel:
            yield pod_resources_v1_pb2_grpc.PodResourcesListerStub(channel)


def _log_failure(sentence: str, failed: grpc.aio.AioRpcError) -> None:
    log.warning(sentence, code=failed.code().name, error=failed.details())


def _may_be_ours(resource: pod_resources_v1_pb2.DynamicResource) -> bool:
    drivers = {part.driver_name for part in resource.claim_resources}
    return not drivers or DRIVER_NAME in drivers or "" in drivers


def _uid(resource: pod_resources_v1_pb2.DynamicResource) -> str:
    """UID of the claim that was prepared under this name: the kubelet keeps the CDI devices that we named."""
    for part in resource.claim_resources:
        for device in part.cdi_devices:
            kind, _, name = device.name.partition("=")
            uid = name.partition(".")[0]
            if kind == CDI_KIND and CLAIM_UID.fullmatch(uid):
                return uid
    return ""
