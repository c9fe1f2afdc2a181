"""What validation is told of the cluster follows the settings."""

from __future__ import annotations

from typing import Any

import pytest

from controller.admission.cluster import Cluster
from tooling.replay.admit_kept import Kept


@pytest.mark.parametrize("may_come", [True, False])
def test_whether_larger_cards_may_come_is_the_administrators_to_say(*, may_come: bool) -> None:
    stores: list[Kept[Any]] = [Kept(), Kept(), Kept()]
    cluster = Cluster(
        inventories=stores[0],
        classes=stores[1],
        policies=stores[2],
        class_is_ours=bool,
        standard=bool,
        release=lambda: "1.36",
        amounts_kept=lambda: True,
        native=True,
        cards_may_come=may_come,
    )
    assert cluster.facts().cards_may_come is may_come
