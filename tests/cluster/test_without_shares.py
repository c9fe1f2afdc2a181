"""Where the API server knows no shares, nothing is published and a condition names the gate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from driver.kube.resources import ACCELERATOR_NODES
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.own_cluster import own_cluster

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]


def _gate_condition(one: JSON) -> JSON | None:
    for condition in one.get("status", {}).get("conditions") or []:
        if condition["status"] == "False" and "DRAConsumableCapacity" in condition["message"]:
            return dict(condition)
    return None


def _expect_the_gate_is_named(installed: Installation) -> None:
    api = installed.target.api
    waiting.wait_for(api, ACCELERATOR_NODES, installed.node, _gate_condition, what="tells the gate")
    assert installed.slices() == []


@pytest.fixture(scope="module")
def gate_off(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    gates = {"DRAConsumableCapacity": False}
    with own_cluster(
        images, purpose="noshares", version=kubernetes_version, feature_gates=gates, offers=False
    ) as installed:
        yield installed


def test_nothing_is_published_where_the_gate_is_off_and_a_condition_names_the_gate(
    gate_off: Installation,
) -> None:
    _expect_the_gate_is_named(gate_off)


@pytest.fixture(scope="module")
def stock_134(images: Images) -> Iterator[Installation]:
    with own_cluster(images, purpose="noshares", version="1.34.4", offers=False) as installed:
        yield installed


@pytest.mark.long
def test_nothing_is_published_on_stock_kubernetes_1_34_and_a_condition_names_the_gate(
    stock_134: Installation,
) -> None:
    _expect_the_gate_is_named(stock_134)
