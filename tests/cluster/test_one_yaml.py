"""The examples, unchanged, on stock Kubernetes of each release, in mode controller.

Flow: one cluster of each release, the chart in mode controller: 1.34.4 and 1.35.4 drop what claims ask for
and cannot give out shares by themselves, 1.36.3 and 1.37.1 keep it. Each example in a namespace of its own;
then the webhook goes away, a claim and a template are stored without it, and it comes back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from driver.api.asked import STAMP
from driver.kube.resources import PODS, RESOURCE_CLAIMS, VALIDATING_WEBHOOKS
from tests.cluster.support import cards, waiting
from tests.cluster.support import stock as stock_kubernetes
from tests.cluster.support.api import DEPLOYMENTS, JSON, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation, ready
from tests.cluster.support.manifests import claim, pod, request, sharing, template
from tests.cluster.support.space import Space, open_space, results
from tests.cluster.test_examples import EXAMPLES, REFUSED, RUNS, WHOLE, wait_promised

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

ON = cards.on(cards.NVIDIA_40)
WEBHOOKS = "dragoman-webhook"
DROPS = ("1.34.4", "1.35.4")
"""The releases whose API servers drop the amounts that claims ask for."""


@pytest.fixture(scope="module", params=[*DROPS, "1.36.3", "1.37.1"])
def release(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def stock(images: Images, release: str) -> Iterator[Installation]:
    yield from stock_kubernetes.in_mode_controller(images, purpose="stock", version=release)


@pytest.fixture
def space(stock: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    one = open_space(stock.api, request.node.name)
    yield one
    stock.expect_nothing_left(one.close())


@pytest.mark.parametrize("name", sorted(RUNS))
def test_an_example_gives_the_same_limits_as_where_kube_scheduler_shares(space: Space, name: str) -> None:
    expected = RUNS[name]
    space.set_labels(dict.fromkeys(expected.needs, "true"))
    space.apply(EXAMPLES / f"{name}.yaml")
    space.running(*expected.containers)
    for one, containers in expected.containers.items():
        for container, amounts in containers.items():
            seen = space.seen(one, container=container)
            assert [(limit.memory_mib, limit.cores) for limit in seen.limits] == list(amounts)
            assert seen.library == any(amount != WHOLE for amount in amounts)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_example_that_is_refused_says_so_in_the_same_words(space: Space, name: str) -> None:
    path = EXAMPLES / f"{name}.yaml"
    space.apply(path)
    wait_promised(space, REFUSED[name], text=path.read_text())


@pytest.mark.parametrize(
    "selectors", [[], ["true"], ['device.driver != "somebody-else"'], ["device.driver.size() > 1"]]
)
def test_no_class_of_an_admin_makes_kube_scheduler_take_a_card(
    stock: Installation, space: Space, selectors: list[str]
) -> None:
    spec = {"selectors": [{"cel": {"expression": one}} for one in selectors]}
    space.create({"kind": "DeviceClass", "metadata": {"name": space.name}, "spec": spec})
    space.create(*sharing("sly", request(of=space.name)), *sharing("ours", request(memory="1Gi", cel=ON)))
    space.event("sly", reason="FailedScheduling")
    # Ours is quick, so kube-scheduler's would have been there as well.
    space.running("ours")
    assert not results(space.claim_of("sly"))
    assert "nodeName" not in space.pod("sly")["spec"]


def test_two_pods_share_a_card_and_a_third_is_told_why_it_waits(space: Space) -> None:
    for name in ("one", "two", "three"):
        space.create(*sharing(name, request(memory="18Gi", cores="30", cel=ON)))
    space.any_running(("one", "two", "three"))
    waiting_pod = _the_one_that_waits(space)
    space.event(waiting_pod, "asks 18Gi", reason="NoDevice")


def _the_one_that_waits(space: Space) -> str:
    def look() -> str:
        left = [one for one in space.pods() if one["status"]["phase"] != "Running"]
        return str(left[0]["metadata"]["name"]) if len(left) == 1 else ""

    return waiting.eventually(look, what="two of three pods run")


def test_without_the_webhook_no_claim_of_ours_is_stored_unless_an_admin_says_so(
    stock: Installation, space: Space
) -> None:
    _webhook(stock, replicas=0)
    try:
        with pytest.raises(Refused, match="failed calling webhook"):
            space.create(claim("lost", request(memory="4Gi", cel=ON)))
    finally:
        _webhook(stock, replicas=2)
    assert space.claims() == []


@pytest.fixture
def lenient(stock: Installation) -> Iterator[None]:
    """Claims are stored while no webhook answers, as with the chart's `quotaFailurePolicy: Ignore`."""
    before = stock.api.get(VALIDATING_WEBHOOKS, WEBHOOKS)
    after = [{**one, "failurePolicy": "Ignore"} for one in before["webhooks"]]
    stock.api.patch(VALIDATING_WEBHOOKS, WEBHOOKS, {"webhooks": after})
    yield
    stock.api.patch(VALIDATING_WEBHOOKS, WEBHOOKS, {"webhooks": before["webhooks"]})


@pytest.mark.usefixtures("lenient")
def test_what_was_stored_without_the_webhook_never_gets_a_whole_card(
    stock: Installation, space: Space, release: str
) -> None:
    """Where the server dropped the amounts, the pod is told how to get them; elsewhere they are there."""
    _webhook(stock, replicas=0)
    try:
        space.create(claim("lost", request(memory="4Gi", cel=ON)))
        space.create(template("lost", request(memory="4Gi", cel=ON)))
        space.create(pod("early", templates={"card": "lost"}))
        space.wait_pod("early", Space.claim_name, what="has its claim")
    finally:
        _webhook(stock, replicas=2)
    space.create(pod("of-claim", claims={"card": "lost"}), pod("of-template", templates={"card": "lost"}))
    names = ("early", "of-claim", "of-template")
    if release in DROPS:
        for name in names:
            space.event(name, "webhook", reason="ClaimNotStamped")
        assert not any(map(results, space.claims()))
    else:
        (given,) = space.wait_claim("lost", results, what="is allocated")
        assert given["consumedCapacity"]["memory"] == "4Gi"
        # A claim that several pods could use is allocated, and refused when its limit is to be put in force.
        space.running("early", "of-template")
        assert [space.seen(name).memory_mib(0) for name in ("early", "of-template")] == [4096] * 2
    space.create(*sharing("anew", request(memory="4Gi", cel=ON)))
    space.running("anew")
    assert space.seen("anew").memory_mib(0) == 4096


def _webhook(stock: Installation, *, replicas: int) -> None:
    """Sets how many controllers there are; goes on when claims are stamped by them, or when none is left."""
    stock.api.patch(DEPLOYMENTS, stock.lease, {"spec": {"replicas": replicas}}, namespace=stock.namespace)

    def settled(found: list[JSON]) -> bool:
        # One that is about to end still answers.
        return len(found) == sum(map(ready, found)) == replicas

    waiting.wait_all(
        stock.api,
        PODS,
        settled,
        what=f"{replicas} controllers are there, and ready",
        namespace=stock.namespace,
        labelSelector="app.kubernetes.io/component=controller",
    )

    def answers() -> bool:
        asked = claim("dry", request(memory="1Gi"))
        made = stock.api.create(RESOURCE_CLAIMS, asked, namespace="default", dry_run=True)
        return STAMP in (made["metadata"].get("annotations") or {})

    if replicas:
        waiting.eventually(answers, what="the API server reaches them")


def test_a_dry_run_stores_nothing_and_is_stamped_like_any_other_request(
    stock: Installation, space: Space, release: str
) -> None:
    asked = claim("dry", request(memory="4Gi", cel=ON))
    answer = stock.api.create(RESOURCE_CLAIMS, asked, namespace=space.name, dry_run=True)
    (one,) = answer["spec"]["devices"]["requests"]
    assert STAMP in answer["metadata"]["annotations"]
    assert ("capacity" in one["exactly"]) == (release not in DROPS)
    with pytest.raises(Refused):
        space.claim("dry")
