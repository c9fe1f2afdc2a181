"""The examples, unchanged, on a stock Kubernetes that cannot give out shares by itself.

Flow: one cluster of 1.34.4 with the chart in mode controller; each example in a namespace of its own; then
the webhook goes away, a claim and a template are stored without it, and it comes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from driver.api.asked import STAMP
from driver.kube.resources import RESOURCE_CLAIMS
from tests.cluster.support import cards, waiting
from tests.cluster.support import stock as stock_kubernetes
from tests.cluster.support.api import DEPLOYMENTS, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, pod, request, sharing, template
from tests.cluster.support.space import Space, open_space
from tests.cluster.test_examples import EXAMPLES, RUNS, WHOLE

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

NOT_THERE = {
    # kube-scheduler makes these claims itself, and has learned to do so later.
    "extended-resource",
}
ON = cards.on(cards.NVIDIA_40)


@pytest.fixture(scope="module")
def stock(images: Images) -> Iterator[Installation]:
    yield from stock_kubernetes.in_mode_controller(images, purpose="stock")


@pytest.fixture
def space(stock: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    purpose = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
    one = open_space(stock.api, purpose)
    yield one
    stock.expect_nothing_left(one.close())


@pytest.mark.parametrize("name", sorted(RUNS.keys() - NOT_THERE))
def test_an_example_gives_the_same_limits_as_where_kube_scheduler_shares(space: Space, name: str) -> None:
    expected = RUNS[name]
    space.set_labels(dict.fromkeys(expected.needs, "true"))
    space.apply(EXAMPLES / f"{name}.yaml")
    space.running(*expected.containers, seconds=120)
    for one, containers in expected.containers.items():
        for container, amounts in containers.items():
            seen = space.seen(one, container=container)
            assert [(limit.memory_mib, limit.cores) for limit in seen.limits] == list(amounts)
            assert seen.library == any(amount != WHOLE for amount in amounts)


def test_two_pods_share_a_card_and_a_third_is_told_why_it_waits(space: Space) -> None:
    for name in ("one", "two", "three"):
        space.create(*sharing(name, request(memory="18Gi", cores="30", cel=ON)))
    space.any_running(("one", "two", "three"))
    waiting_pod = _the_one_that_waits(space)
    space.event(waiting_pod, "asks 18Gi", reason="NoDevice", seconds=60)


def _the_one_that_waits(space: Space) -> str:
    def look() -> str:
        left = [one for one in space.pods() if one["status"]["phase"] != "Running"]
        return str(left[0]["metadata"]["name"]) if len(left) == 1 else ""

    return waiting.eventually(look, what="two of three pods run", seconds=90)


def test_what_was_stored_without_the_webhook_never_gets_a_card_and_is_told_how_to_be_made_anew(
    stock: Installation, space: Space
) -> None:
    _webhook(stock, replicas=0)
    try:
        space.create(claim("lost", request(memory="4Gi", cel=ON)))
        space.create(template("lost", request(memory="4Gi", cel=ON)))
    finally:
        _webhook(stock, replicas=2)
    space.create(pod("of-claim", claims={"card": "lost"}), pod("of-template", templates={"card": "lost"}))
    for name in ("of-claim", "of-template"):
        space.event(name, "webhook", reason="ClaimNotStamped", seconds=120)
    assert all(not (one.get("status") or {}).get("allocation") for one in space.claims())
    space.create(*sharing("anew", request(memory="4Gi", cel=ON)))
    space.running("anew", seconds=120)
    assert space.seen("anew").memory_mib(0) == 4096


def _webhook(stock: Installation, *, replicas: int) -> None:
    stock.api.patch(DEPLOYMENTS, stock.lease, {"spec": {"replicas": replicas}}, namespace=stock.namespace)

    def settled() -> bool:
        found = stock.api.get(DEPLOYMENTS, stock.lease, namespace=stock.namespace)
        return int((found.get("status") or {}).get("readyReplicas") or 0) == replicas

    waiting.eventually(settled, what=f"{replicas} controllers are ready", seconds=90)


def test_a_dry_run_stores_nothing_and_is_stamped_like_any_other_request(
    stock: Installation, space: Space
) -> None:
    asked = claim("dry", request(memory="4Gi", cel=ON))
    answer = stock.api.create(RESOURCE_CLAIMS, asked, namespace=space.name, dry_run=True)
    assert STAMP in answer["metadata"]["annotations"]
    with pytest.raises(Refused):
        space.claim("dry")
