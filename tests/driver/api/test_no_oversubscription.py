"""No policy promises more than a card has: docs/oversubscription.md."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, effective_policy
from driver.cards import CORES_PER_CARD, Card
from driver.errors import DragomanError
from driver.quantities import parse_quantity
from driver.slices import publication_of

MIB = 1 << 20
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "sharing": st.booleans(),
        "allowUncapped": st.booleans(),
        "reservedMemory": st.integers(0, 1 << 18).map(lambda mib: f"{mib}Mi"),
        "isolation": st.lists(
            st.sampled_from(["hardware", "kernel", "service", "preload", "none"]), min_size=1, unique=True
        ),
    },
)


@given(memory_mib=st.integers(1, 1 << 18), specs=st.lists(SETTINGS, max_size=3))
def test_what_is_published_is_never_more_than_the_card_has(
    memory_mib: int, specs: list[dict[str, Any]]
) -> None:
    card = Card(name="nvidia-1", vendor="nvidia", model="m", memory_bytes=memory_mib * MIB, uuid="GPU-1")
    policies = [
        NamedPolicy(name=f"p{number}", spec=decode(AcceleratorPolicySpec, {**spec, "priority": number}))
        for number, spec in enumerate(specs)
    ]
    offered = effective_policy(policies, node_labels={}).apply(card)
    assert offered.memory_bytes <= card.memory_bytes
    if offered.unpublished:
        return
    for one in publication_of([offered], node="worker").slices:
        for device in one["spec"]["devices"]:
            assert parse_quantity(device["capacity"]["memory"]["value"]).exact <= card.memory_bytes
            cores = device["capacity"].get("cores", {"value": str(CORES_PER_CARD)})
            assert parse_quantity(cores["value"]).exact <= CORES_PER_CARD


@pytest.mark.parametrize(
    "field",
    [
        "deviceMemoryScaling",
        "deviceCoreScaling",
        "memoryScaling",
        "oversubscribe",
        "timeSlice",
        "computeMode",
    ],
)
def test_a_setting_that_would_promise_more_is_refused_by_its_name(field: str) -> None:
    with pytest.raises(DragomanError) as refused:
        decode(AcceleratorPolicySpec, json.loads(json.dumps({field: 2})))
    assert field in f"{refused.value.field} {refused.value.message}"
    assert refused.value.remedy
