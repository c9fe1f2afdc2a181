"""What a person or a monitoring system asks the running parts."""

from __future__ import annotations

import re

import pytest

from driver.kube.resources import ACCELERATOR_NODES
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import Api
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, share_config, sharing
from tests.cluster.support.space import Space
from tests.cluster.support.unchecked import unchecked

pytestmark = pytest.mark.cluster


def _value(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels."""
    total = 0.0
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            total += float(found[2])
    return total


def test_the_agent_says_that_it_is_alive_and_connected_to_the_kubelet(installed: Installation) -> None:
    assert installed.agent_get("/healthz")
    assert installed.agent_get("/readyz")


def test_prepares_and_unprepares_are_counted_and_timed(space: Space, installed: Installation) -> None:
    before = installed.agent_get("/metrics")
    space.create(*sharing("a", request(memory="64Mi", cel=cards.on(cards.NVIDIA_40))))
    space.running("a")
    space.empty()

    def counted() -> bool:
        after = installed.agent_get("/metrics")
        return all(
            _value(after, "dragoman_agent_claims_total", operation=operation, result="ok")
            > _value(before, "dragoman_agent_claims_total", operation=operation, result="ok")
            and _value(after, "dragoman_agent_call_duration_seconds_count", operation=operation)
            > _value(before, "dragoman_agent_call_duration_seconds_count", operation=operation)
            for operation in ("prepare", "unprepare")
        )

    waiting.eventually(counted, what="both show in /metrics")
    assert "dragoman_agent_phase_duration_seconds_bucket" in installed.agent_get("/metrics")


def test_refusals_are_counted_by_their_reason(space: Space, installed: Installation) -> None:
    bad = share_config({"apiVersion": "dragoman.dev/v1alpha1", "kind": "Nonsense"})
    ask = request(memory="64Mi", cel=cards.on(cards.NVIDIA_40))
    with unchecked(space):
        space.create(*sharing("a", ask, config=[bad]))
        space.event("a", "Nonsense", reason="FailedPrepareDynamicResources")

    metrics = installed.agent_get("/metrics")
    labels = {"operation": "prepare", "result": "refused", "reason": "InvalidConfig"}
    assert _value(metrics, "dragoman_agent_claims_total", **labels) >= 1


def test_kubectl_shows_the_nodes_with_their_cards(api: Api, installed: Installation) -> None:
    table = api.table(ACCELERATOR_NODES)
    names = [one["name"].lower() for one in table["columnDefinitions"] if one["priority"] == 0]
    row = next(row["cells"] for row in table["rows"] if row["cells"][0] == installed.node)
    shown = dict(zip((one["name"].lower() for one in table["columnDefinitions"]), row, strict=True))
    assert names[0] == "name"
    assert str(shown["cards"]) == str(len(cards.ALL)), shown
    assert {"name", "cards", "age"} <= set(names)


def test_the_inventory_lists_each_card_with_its_memory(api: Api, installed: Installation) -> None:
    status = api.get(ACCELERATOR_NODES, installed.node)["status"]
    found = {card["uuid"]: (card["name"], card["memoryMiB"]) for card in status["cards"]}
    assert found == {card.uuid: (card.device, card.memory_mib) for card in cards.ALL}
    assert status["simulated"] is True


def test_slices_offer_each_card_with_percent_and_bytes(installed: Installation) -> None:
    for one in installed.slices():
        assert one["spec"]["pool"]["name"] == f"{installed.node}/dragoman"
        assert one["spec"]["nodeName"] == installed.node
    device = installed.published[cards.NVIDIA_24.device]
    assert device["allowMultipleAllocations"] is True
    assert device["capacity"]["memory"]["value"] == "24Gi"
    policy = device["capacity"]["memory"]["requestPolicy"]
    assert (policy["default"], policy["validRange"]) == ("24Gi", {"min": "1Mi", "max": "24Gi", "step": "1Mi"})
    cores = device["capacity"]["cores"]
    assert (cores["value"], cores["requestPolicy"]["default"]) == ("100", "0")
