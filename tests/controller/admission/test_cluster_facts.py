"""What validation is told of the cluster follows the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from controller.admission.cluster import Cluster
from driver.api.node import AgentStatus, status_of
from driver.api.policy import effective_policy
from driver.cards import Card
from tooling.replay.admit_kept import Kept


@dataclass(frozen=True)
class Inventory:
    status: bytes


def cluster_of(inventories: Kept[Any], *, may_come: bool = False) -> Cluster:
    stores: list[Kept[Any]] = [Kept(), Kept()]
    return Cluster(
        inventories=inventories,
        classes=stores[0],
        policies=stores[1],
        class_is_ours=bool,
        standard=bool,
        release=lambda: "1.36",
        amounts_kept=lambda: True,
        native=True,
        cards_may_come=may_come,
    )


@pytest.mark.parametrize("may_come", [True, False])
def test_whether_larger_cards_may_come_is_the_administrators_to_say(*, may_come: bool) -> None:
    cluster = cluster_of(Kept(), may_come=may_come)
    assert cluster.facts().cards_may_come is may_come


@pytest.mark.parametrize("left", [None, Inventory(b"")], ids=["is gone", "says nothing"])
def test_cards_of_a_node_that_is_not_there_any_more_are_no_kinds_to_convert_to(
    left: Inventory | None,
) -> None:
    inventories: Kept[Any] = Kept()
    cluster = cluster_of(inventories)
    card = Card(name="card-0", vendor="v", model="M", memory_bytes=1 << 30)
    policy = effective_policy([], node_labels={})
    status = status_of([card], agent=AgentStatus(version="1"), policy=policy)
    inventories.put("n1", Inventory(status.model_dump_json(by_alias=True).encode()))
    assert [one.vendor for one in cluster.stock] == ["v"]
    inventories.put("n1", left)
    assert cluster.stock == ()
