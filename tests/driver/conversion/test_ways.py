"""Modes of sharing: what a pod that names one is refused, and what its claim asks for."""

from __future__ import annotations

import pytest

from driver.conversion import CardKind, ConversionError
from tests.driver.conversion.pods import JSON, asked, converted, devices_of, pod

GPU, MODE = "nvidia.com/gpu", "nvidia.com/vgpu-mode"


def test_a_share_and_a_partition_of_one_vendor_are_refused_in_one_container() -> None:
    limits = {GPU: "1", "nvidia.com/gpumem": "4000", "volcano.sh/vgpu-number": "1"}
    with pytest.raises(ConversionError) as refused:
        converted(pod(limits, annotations={"volcano.sh/vgpu-mode": "mig"}))
    assert refused.value.field == "spec.containers[0].resources.limits[volcano.sh/vgpu-number]"
    assert converted(pod(limits, annotations={MODE: "mig", "volcano.sh/vgpu-mode": "mig"}))


def test_a_privileged_container_has_no_part_of_a_card_by_partition_either() -> None:
    document = pod({GPU: "1", "nvidia.com/gpumem": "4000"}, annotations={MODE: "mig"})
    document["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with pytest.raises(ConversionError) as refused:
        converted(document)
    assert refused.value.field == "spec.containers[0].securityContext.privileged"


def test_a_request_has_no_more_alternatives_than_the_api_knows() -> None:
    many = tuple(
        CardKind(vendor="nvidia", model="A", memory_mib=size, profile=f"1g.{size}gb", of_mib=100, there=True)
        for size in range(50, 70)
    )
    cards = tuple(CardKind(vendor="nvidia", model="A", memory_mib=size) for size in range(1000, 1006))
    for limits, mode, number in (
        ({GPU: "1", "nvidia.com/gpumem": "50"}, "mig", 8),
        ({GPU: "1", "nvidia.com/gpumem": "50"}, "hami-core,mig", 8),
        ({GPU: "1", "nvidia.com/gpumem-percentage": "50"}, "mig", 8),
        ({GPU: "1", "nvidia.com/gpumem-percentage": "50"}, "hami-core,mig", 8),
    ):
        found = converted(pod(limits, annotations={MODE: mode}), stock=(*many, *cards))
        (request,) = devices_of(found)["requests"]
        assert len(request["firstAvailable"]) == number
        assert len({one["name"] for one in request["firstAvailable"]}) == number


def test_a_cap_that_is_not_to_hold_asks_nothing_of_mps() -> None:
    document = pod({GPU: "1", "nvidia.com/gpucores": "30"}, annotations={MODE: "mps"})
    document["spec"]["containers"][0]["env"] = [{"name": "GPU_CORE_UTILIZATION_POLICY", "value": "disable"}]
    (config,) = devices_of(converted(document))["config"]
    assert "minimumIsolation" not in config["opaque"]["parameters"]


@pytest.mark.parametrize(
    "spec",
    [{"os": {"name": "windows"}}, {"nodeSelector": {"kubernetes.io/os": "windows"}}],
    ids=["os", "nodeSelector"],
)
def test_a_pod_for_windows_is_left_to_that_systems_device_plugins(spec: JSON) -> None:
    assert asked(pod({GPU: "1"}, **spec)) is None
    assert asked(pod({GPU: "1"}, os={"name": "linux"}, nodeSelector={})) is not None
