"""What an allocation gives and what it holds."""

from __future__ import annotations

import pytest

from driver.allocation import Snapshot, allocate
from tests.driver.allocation.builders import (
    DRIVER,
    NODE,
    allocated,
    card,
    claim,
    decide,
    device_class,
    exclusive,
    given,
    pool,
    request,
)


def test_a_share_is_written_exactly_as_kube_scheduler_writes_it() -> None:
    decision = decide([claim(request(ask={"memory": "4Gi", "cores": "30"}))], slices=[pool(card("card-0"))])
    assert decision.allocations == (
        {
            "devices": {
                "results": [
                    {
                        "request": "r",
                        "driver": DRIVER,
                        "pool": NODE,
                        "device": "card-0",
                        "shareID": "share-0",
                        "consumedCapacity": {"cores": "30", "memory": "4Gi"},
                    }
                ]
            },
            "nodeSelector": {
                "nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [NODE]}]}
                ]
            },
        },
    )
    assert decision.refusal is None


def test_memory_is_rounded_up_to_the_next_mebibyte() -> None:
    decision = decide([claim(request(ask={"memory": "1500k"}))], slices=[pool(card("card-0"))])
    assert decision.allocations is not None
    assert decision.allocations[0]["devices"]["results"][0]["consumedCapacity"]["memory"] == "2Mi"


@pytest.mark.parametrize(("asked", "written"), [("4096Mi", "4Gi"), ("1.5Gi", "1536Mi"), ("1000Mi", "1000Mi")])
def test_amounts_are_written_in_the_form_that_the_api_server_stores(asked: str, written: str) -> None:
    capacity = {"memory": {"value": "80Gi"}}
    decision = decide([claim(request(ask={"memory": asked}))], slices=[pool(card("a", capacity=capacity))])
    assert decision.allocations is not None
    assert decision.allocations[0]["devices"]["results"][0]["consumedCapacity"] == {"memory": written}


def test_who_asks_for_nothing_gets_the_card_to_itself() -> None:
    slices = [pool(card("card-0"))]
    first = decide([claim(request())], slices=slices)
    assert first.allocations is not None
    assert first.allocations[0]["devices"]["results"][0]["consumedCapacity"] == {
        "cores": "0",
        "memory": "80Gi",
    }
    second = decide(
        [claim(request(ask={"memory": "1Mi"}), name="d")],
        slices=slices,
        held=[allocated(claim(request()), first)],
    )
    assert second.allocations is None


def test_devices_are_taken_in_the_order_of_pools_slices_and_lists() -> None:
    slices = [
        pool(card("z"), card("a"), name="pool-b"),
        pool(card("m"), name="pool-a"),
    ]
    claims = [claim(request(ask={"memory": "80Gi"}), name=name) for name in ("one", "two", "three")]
    assert given(decide(claims, slices=slices)) == ["m", "z", "a"]


def test_first_available_falls_back_and_names_the_sub_request() -> None:
    big = f'device.capacity["{DRIVER}"].memory.compareTo(quantity("90Gi")) >= 0'
    wanted = {
        "name": "gpu",
        "firstAvailable": [
            {
                "name": "big",
                "deviceClassName": "any",
                "selectors": [{"cel": {"expression": big}}],
            },
            {"name": "small", "deviceClassName": "any", "capacity": {"requests": {"memory": "8Gi"}}},
        ],
    }
    decision = decide([claim(wanted)], slices=[pool(card("card-0"))])
    assert decision.allocations is not None
    assert decision.allocations[0]["devices"]["results"][0]["request"] == "gpu/small"


@pytest.mark.parametrize("release", ["1.36", "1.37"])
def test_distinct_devices_are_distinct_from_all_earlier_ones(release: str) -> None:
    claims = [
        claim(
            request("two", count=2, ask={"memory": "1Gi"}),
            request("one", ask={"memory": "1Gi"}),
            constraints=[{"distinctAttribute": f"{DRIVER}/uuid"}],
        )
    ]
    two = decide(claims, slices=[pool(card("a"), card("b"))], release=release)
    assert two.refusal is not None
    three = decide(claims, slices=[pool(card("a"), card("b"), card("c"))], release=release)
    assert given(three) == ["a", "b", "c"]


def test_matching_devices_share_a_value_even_if_the_first_has_no_partner() -> None:
    slices = [
        pool(
            *(
                exclusive(name, attributes={"resource.kubernetes.io/numaNode": {"int": numa}})
                for name, numa in (("a", 0), ("b", 1), ("c", 1))
            )
        )
    ]
    wanted = claim(request(count=2), constraints=[{"matchAttribute": "resource.kubernetes.io/numaNode"}])
    assert given(decide([wanted], slices=slices)) == ["b", "c"]


def test_admin_access_gets_a_device_that_is_held_and_holds_nothing() -> None:
    slices = [pool(exclusive("a"))]
    normal, admin = claim(request()), claim(request(adminAccess=True), name="admin")
    first = decide([normal], slices=slices)
    second = decide([admin], slices=slices, held=[allocated(normal, first)])
    assert second.allocations is not None
    assert second.allocations[0]["devices"]["results"][0]["adminAccess"] is True
    assert given(decide([normal], slices=slices, held=[allocated(admin, second)])) == ["a"]


def test_all_claims_of_a_pod_are_met_or_none() -> None:
    claims = [claim(request(), name="one"), claim(request(), name="two")]
    assert decide(claims, slices=[pool(exclusive("a"))]).allocations is None
    assert given(decide(claims, slices=[pool(exclusive("a"), exclusive("b"))])) == ["a", "b"]


def test_config_of_the_class_comes_before_that_of_the_claim() -> None:
    config = [{"opaque": {"driver": DRIVER, "parameters": {"from": "class"}}}]
    mine = [{"requests": ["r"], "opaque": {"driver": DRIVER, "parameters": {"from": "claim"}}}]
    other = [{"requests": ["s/x"], "opaque": {"driver": DRIVER, "parameters": {}}}]
    either = {
        "name": "s",
        "firstAvailable": [{"name": name, "deviceClassName": "any"} for name in ("y", "x")],
    }
    decision = decide(
        [claim(request(deviceClassName="mine"), either, config=mine + other)],
        slices=[pool(card("a"), card("b"))],
        classes=[device_class("mine", config=config)],
    )
    assert decision.allocations is not None
    assert decision.allocations[0]["devices"]["config"] == [
        {"source": "FromClass", "requests": ["r"], **config[0]},
        {"source": "FromClaim", **mine[0]},
    ]


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    newer = pool(exclusive("new"), slice_name="s2")
    newer["spec"]["pool"]["generation"] = 2
    assert given(decide([claim(request())], slices=[pool(exclusive("old")), newer])) == ["new"]


def test_slices_may_choose_nodes_by_label() -> None:
    selector = {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["x"]}]}]
    }
    one = pool(exclusive("a"), nodeSelector=selector)
    del one["spec"]["nodeName"]
    nodes = [
        {"metadata": {"name": name, "labels": {"zone": zone}}} for name, zone in (("n1", "x"), ("n2", "y"))
    ]
    snapshot = Snapshot.build(slices=[one], classes=[device_class()], nodes=nodes)
    there = allocate(snapshot, node="n1", claims=[claim(request())])
    assert there.allocations is not None
    assert there.allocations[0]["nodeSelector"] == selector
    assert allocate(snapshot, node="n2", claims=[claim(request())]).allocations is None


def test_a_share_whose_amounts_cannot_be_read_holds_the_whole_card() -> None:
    broken = {"request": "r", "driver": DRIVER, "pool": NODE, "device": "a", "shareID": "s"}
    held = [
        {"status": {"allocation": {"devices": {"results": [broken | {"consumedCapacity": {"memory": "?"}}]}}}}
    ]
    assert (
        decide([claim(request(ask={"memory": "1Mi"}))], slices=[pool(card("a"))], held=held).refusal
        is not None
    )


def test_a_stored_negative_amount_makes_no_room() -> None:
    result = {"request": "r", "driver": DRIVER, "pool": NODE, "device": "a", "shareID": "s"}
    amounts = ({"memory": "-40Gi"}, {"memory": "60Gi"})
    held = [
        {"status": {"allocation": {"devices": {"results": [result | {"consumedCapacity": one}]}}}}
        for one in amounts
    ]
    assert (
        decide([claim(request(ask={"memory": "30Gi"}))], slices=[pool(card("a"))], held=held).refusal
        is not None
    )
    assert given(decide([claim(request(ask={"memory": "20Gi"}))], slices=[pool(card("a"))], held=held)) == [
        "a"
    ]


def test_no_claims_and_claims_without_requests_are_solved() -> None:
    assert decide([], slices=[]).allocations == ()
    assert decide([claim()], slices=[]).allocations == ({},)
