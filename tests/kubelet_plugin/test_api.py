"""The contracts with the kubelet, down to the field numbers: whatever is not exactly so fails in silence."""

from typing import Any

import pytest

from kubelet_plugin.api import (
    dra_v1_pb2,
    dra_v1beta1_pb2,
    health_v1_pb2,
    health_v1alpha1_pb2,
    pod_resources_v1_pb2,
    registration_pb2,
)
from tooling import protos

DRA = {
    "Claim": {"namespace": 1, "uid": 2, "name": 3},
    "NodePrepareResourcesRequest": {"claims": 1},
    "NodePrepareResourcesResponse": {"claims": 1},
    "NodePrepareResourceResponse": {"devices": 1, "error": 2},
    "NodeUnprepareResourcesRequest": {"claims": 1},
    "NodeUnprepareResourcesResponse": {"claims": 1},
    "NodeUnprepareResourceResponse": {"error": 1},
}
DEVICE = {"request_names": 1, "pool_name": 2, "device_name": 3, "cdi_device_ids": 4}
HEALTH = {
    "NodeWatchResourcesRequest": {},
    "NodeWatchResourcesResponse": {"devices": 1},
    "DeviceIdentifier": {"pool_name": 1, "device_name": 2},
    "DeviceHealth": {
        "device": 1,
        "health": 2,
        "last_updated_time": 3,
        "health_check_timeout_seconds": 4,
        "message": 5,
    },
}


@pytest.mark.parametrize(
    ("module", "package", "messages"),
    [
        (dra_v1_pb2, "k8s.io.kubelet.pkg.apis.dra.v1", DRA | {"Device": DEVICE | {"share_id": 5}}),
        (dra_v1beta1_pb2, "k8s.io.kubelet.pkg.apis.dra.v1beta1", DRA | {"Device": DEVICE}),
        (health_v1_pb2, "v1", HEALTH),
        (health_v1alpha1_pb2, "v1alpha1", HEALTH),
        (
            registration_pb2,
            "pluginregistration",
            {
                "InfoRequest": {},
                "PluginInfo": {"type": 1, "name": 2, "endpoint": 3, "supported_versions": 4},
                "RegistrationStatus": {"plugin_registered": 1, "error": 2},
                "RegistrationStatusResponse": {},
            },
        ),
        (
            pod_resources_v1_pb2,
            "v1",
            {
                "AllocatableResourcesRequest": {},
                "AllocatableResourcesResponse": {"devices": 1},
                "ContainerDevices": {"resource_name": 1, "device_ids": 2},
                "ListPodResourcesRequest": {},
                "ListPodResourcesResponse": {"pod_resources": 1},
                "PodResources": {"name": 1, "namespace": 2, "containers": 3},
                "ContainerResources": {"name": 1, "devices": 2, "dynamic_resources": 5},
                "DynamicResource": {"claim_name": 2, "claim_namespace": 3, "claim_resources": 4},
                "ClaimResource": {
                    "cdi_devices": 1,
                    "driver_name": 2,
                    "pool_name": 3,
                    "device_name": 4,
                    "share_id": 5,
                },
                "CDIDevice": {"name": 1},
            },
        ),
    ],
)
def test_messages_have_the_kubelets_package_names_and_field_numbers(
    module: Any, package: str, messages: dict[str, dict[str, int]]
) -> None:
    described = module.DESCRIPTOR
    assert described.package == package
    found = {
        name: {field.name: field.number for field in message.fields}
        for name, message in described.message_types_by_name.items()
    }
    assert found == messages


@pytest.mark.parametrize(
    ("module", "service", "methods"),
    [
        (dra_v1_pb2, "DRAPlugin", ["NodePrepareResources", "NodeUnprepareResources"]),
        (dra_v1beta1_pb2, "DRAPlugin", ["NodePrepareResources", "NodeUnprepareResources"]),
        (health_v1_pb2, "DRAResourceHealth", ["NodeWatchResources"]),
        (health_v1alpha1_pb2, "DRAResourceHealth", ["NodeWatchResources"]),
        (registration_pb2, "Registration", ["GetInfo", "NotifyRegistrationStatus"]),
        (pod_resources_v1_pb2, "PodResourcesLister", ["List", "GetAllocatableResources"]),
    ],
)
def test_services_have_the_kubelets_names(module: Any, service: str, methods: list[str]) -> None:
    described = module.DESCRIPTOR.services_by_name[service]
    assert [method.name for method in described.methods] == methods


def test_health_has_the_kubelets_numbers() -> None:
    assert dict(health_v1_pb2.HealthStatus.items()) == {"UNKNOWN": 0, "HEALTHY": 1, "UNHEALTHY": 2}


def test_a_share_id_can_be_told_from_an_empty_one() -> None:
    assert not dra_v1_pb2.Device().HasField("share_id")
    assert dra_v1_pb2.Device(share_id="").HasField("share_id")


def test_the_committed_code_is_what_the_protocol_files_say() -> None:
    assert protos.generate(check=True) == []
