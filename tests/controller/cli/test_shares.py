"""What claims hold, whatever users wrote into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.allocating.views import claim_view
from controller.cli.shares import by_card, shares_of, trimmed, used_of
from driver.cards import Partition
from tests.controller.cli.cases import two_nodes, waiting
from tests.controller.cli.world import JSON, World, allocated, card, claim, dragoman

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["shares", "request", "pool", "memory", "kind", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def given_by_us(parameters: Any) -> JSON:
    found = allocated(claim("one"), "n1", "a")
    whole = {"kind": "ShareAllocation", "apiVersion": "dragoman.dev/v1alpha1", **parameters}
    opaque = {"driver": "dragoman.dev", "parameters": whole}
    found["status"]["allocation"]["devices"]["config"] = [{"source": "FromClaim", "opaque": opaque}]
    return found


@given(shares=ANYTHING, data=ANYTHING, conditions=ANYTHING)
@settings(max_examples=100, deadline=None)
def test_whatever_is_written_there_a_claim_holds_a_share_or_the_card(
    shares: Any, data: Any, conditions: Any
) -> None:
    found = given_by_us({"shares": shares})
    entry = {"driver": "dragoman.dev", "pool": "n1/dragoman", "device": "a"}
    found["status"]["devices"] = [{**entry, "data": data, "conditions": conditions}]
    (one,) = shares_of(found)
    assert one.words()
    assert one.to_json()["card"] == "a"


@pytest.mark.parametrize("number", [True, False])
@pytest.mark.parametrize("amounts", [{}, {"memory": "4Gi"}, {"memory": "4Gi", "cores": "30"}])
def test_what_is_shown_is_what_the_allocator_counts(number: bool, amounts: dict[str, str]) -> None:
    document = allocated(claim("one"), "n1", "a", number=number, **amounts)
    (one,) = shares_of(document)
    counted = claim_view(document).held.decode()
    assert ("consumedCapacity" in counted) == (one.memory is not None)
    if one.memory is not None:
        assert f'"memory":"{amounts["memory"]}"' in counted
        assert f'"cores":"{one.cores}"' in counted


def test_amounts_that_cannot_be_read_hold_the_whole_card() -> None:
    document = allocated(claim("one"), "n1", "a", memory="many")
    (one,) = shares_of(document)
    assert one.memory is None
    assert used_of([one], memory=1 << 30) == (1 << 30, 100)


def test_devices_of_other_drivers_are_not_kept() -> None:
    document = allocated(claim("one"), "n1", "a")
    document["status"]["allocation"]["devices"]["results"][0]["driver"] = "fpga.example.com"
    assert trimmed(document) is None
    assert shares_of(document) == ()


def test_administrative_access_is_no_share_of_a_card() -> None:
    document = allocated(claim("one"), "n1", "a")
    document["status"]["allocation"]["devices"]["results"][0]["adminAccess"] = True
    assert by_card(shares_of(document)) == {}


def test_somebody_elses_strange_claim_ends_nobodys_command(tmp_path: Path) -> None:
    world = waiting(two_nodes(), claim("want", memory="24Gi"))
    world.claims.append(given_by_us({"shares": ["x", 7, {"request": []}]}))
    for arguments in (("status",), ("explain", "pod/train")):
        assert dragoman(world, tmp_path, *arguments).status == 0


def test_what_may_be_made_of_a_card_is_counted_with_the_card_and_what_is_held_of_it_too(
    tmp_path: Path,
) -> None:
    part = card(
        "nvidia-a-mig-9-4-4",
        gib=20,
        cores=42,
        shareable=False,
        partition=Partition(card_uuid="GPU-a", profile="3g.20gb"),
        counters={"slot-4": 1},
    )
    world = World()
    world.node("n1", card("nvidia-a", counters={"slot-4": 1}), part).controllers()
    world.claims.append(allocated(claim("half"), "n1", part.name))
    (one,) = shares_of(world.claims[0])
    assert one.words() == "the whole partition"
    told = json.loads(dragoman(world, tmp_path, "status", "--output", "json").out)
    (node,) = told["nodes"]
    assert (node["cards"], node["offered"]) == (1, 1)
    assert (node["memory"]["used"], node["memory"]["total"]) == ("20Gi", "40Gi")
    assert node["cores"] == {"usedPercent": 42, "totalPercent": 100}
