"""Modes of sharing: what a pod that names one is refused, and what its claim asks for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.allocation.limits import check_claim
from driver.conversion import CardKind, ConversionError
from driver.quantities import MIB, parse_quantity
from tests.driver.conversion.pods import JSON, asked, converted, devices_of, pod

GPU, MODE = "nvidia.com/gpu", "nvidia.com/vgpu-mode"
MEMORY, PERCENT, CORES = "nvidia.com/gpumem", "nvidia.com/gpumem-percentage", "nvidia.com/gpucores"


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


def test_where_cards_are_shared_as_well_an_amount_without_a_mode_is_a_share() -> None:
    part = CardKind(vendor="nvidia", model="A", memory_mib=50, profile="1g.50gb", of_mib=100)
    card = CardKind(vendor="nvidia", model="A", memory_mib=100)
    found = converted(pod({GPU: "1", "nvidia.com/gpumem": "50"}), stock=(part, card))
    (request,) = devices_of(found)["requests"]
    assert request["exactly"]["deviceClassName"] == "nvidia.dragoman.dev"


def test_a_size_that_is_enough_of_one_model_only_is_had_of_that_model_only() -> None:
    half, quarter = (
        CardKind(vendor="nvidia", model=model, memory_mib=50, profile="p", of_mib=of_mib, there=True)
        for model, of_mib in (("Small", 100), ("Large", 200))
    )
    limits = {GPU: "1", "nvidia.com/gpumem-percentage": "50"}
    found = converted(pod(limits, annotations={MODE: "mig"}), stock=(half, quarter))
    (request,) = devices_of(found)["requests"]
    (option,) = request["firstAvailable"]
    told = " ".join(one["cel"]["expression"] for one in option["selectors"])
    assert '"small"' in told
    assert '"large"' not in told


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


PARTITIONS = st.lists(
    st.builds(
        CardKind,
        vendor=st.just("nvidia"),
        model=st.sampled_from(["A", "B", "C"]),
        memory_mib=st.integers(1, 41) | st.sampled_from([4864, 9856, 19968]),
        profile=st.sampled_from(["1g.5gb", "2g.10gb", "3g.20gb", "1g"]),
        of_mib=st.sampled_from([0, 40, 40960]),
        there=st.booleans(),
    ),
    max_size=24,
)
CARDS = st.lists(
    st.builds(
        CardKind, vendor=st.just("nvidia"), model=st.just("A"), memory_mib=st.sampled_from([40, 40960])
    ),
    max_size=2,
)


@settings(max_examples=150, deadline=None)
@given(
    mode=st.lists(st.sampled_from(["hami-core", "mps", "mig", "x"]), min_size=1, max_size=4).map(",".join),
    amounts=st.sampled_from(
        [{}, {MEMORY: "4000"}, {MEMORY: "40"}, {PERCENT: "50"}, {PERCENT: "100"}, {CORES: "30"}]
    ),
    count=st.integers(1, 3),
    partitions=PARTITIONS,
    cards=CARDS,
)
def test_whatever_is_in_stock_no_alternative_gives_less_than_is_asked_or_more_than_the_mode_says(
    mode: str, amounts: JSON, count: int, partitions: list[CardKind], cards: list[CardKind]
) -> None:
    stock = tuple(sorted({*partitions, *cards}))
    try:
        found = converted(pod({GPU: str(count), **amounts}, annotations={MODE: mode}), stock=stock)
    except ConversionError:
        return
    check_claim(devices_of(found), "spec.devices")
    (request,) = devices_of(found)["requests"]
    options = request.get("firstAvailable") or [request["exactly"]]
    words = mode.split(",")
    for one in options:
        is_part = one["deviceClassName"] == "partition.dragoman.dev"
        assert ("mig" in words) if is_part else {"hami-core", "mps"} & {*words}
        assert one["count"] == count
        asked = one.get("capacity", {}).get("requests", {})
        if is_part:
            assert asked
            wanted = int(amounts.get(MEMORY, 0))
            has = int(parse_quantity(asked.get("memory", "0")).exact) // MIB
            called = {kind.called_mib for kind in partitions if kind.memory_mib == has}
            assert has >= wanted or any(size >= wanted for size in called)
        elif amounts and amounts != {PERCENT: "100"}:
            assert asked
        service = 'coresIsolation == "service"' in str(one)
        assert service is (not is_part and "hami-core" not in words)
