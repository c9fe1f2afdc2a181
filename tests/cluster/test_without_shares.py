"""Where the API server knows no shares, nothing is published and a condition names the gate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from driver.kube.resources import ACCELERATOR_NODES
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.target import of_cluster
from tooling.cluster import api as clusters
from tooling.cluster import build

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]


def _without_shares(images: Images, **settings: object) -> Iterator[Installation]:
    name = clusters.unique_name("noshares")
    try:
        target = of_cluster(clusters.start(name=name, **settings))  # type: ignore[arg-type] # two known keys
        images.load(target)
        installed = Installation(target, images=images)
        installed.install()
        yield installed
    finally:
        clusters.stop(name)


def _gate_condition(one: JSON) -> JSON | None:
    for condition in one.get("status", {}).get("conditions") or []:
        if condition["status"] == "False" and "DRAConsumableCapacity" in condition["message"]:
            return dict(condition)
    return None


def _expect_the_gate_is_named(installed: Installation) -> None:
    api = installed.target.api
    waiting.wait_for(
        api, ACCELERATOR_NODES, installed.node, _gate_condition, what="tells the gate", seconds=90
    )
    assert installed.slices() == []


@pytest.fixture(scope="module")
def gate_off(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    yield from _without_shares(
        images, kubernetes=kubernetes_version, feature_gates={"DRAConsumableCapacity": False}
    )


def test_nothing_is_published_where_the_gate_is_off_and_a_condition_names_the_gate(
    gate_off: Installation,
) -> None:
    _expect_the_gate_is_named(gate_off)


@pytest.fixture(scope="module")
def stock_134(images: Images) -> Iterator[Installation]:
    if not all(map(build.is_built, build.tools_of("1.34.4"))):
        pytest.skip("not run: Kubernetes 1.34.4 is not built here (hack/cluster build --kubernetes 1.34.4)")
    yield from _without_shares(images, kubernetes="1.34.4")


@pytest.mark.long
def test_nothing_is_published_on_stock_kubernetes_1_34_and_a_condition_names_the_gate(
    stock_134: Installation,
) -> None:
    _expect_the_gate_is_named(stock_134)
