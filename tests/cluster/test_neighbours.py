"""Beside others where our own allocator decides: pod preemption, and gangs of kube-scheduler's own.

Flow: on each release a second Node without cards, as every cluster has some: kube-scheduler takes allocations
back only where there are nodes that they are not for. Then pods of a higher priority come. Gangs have a
cluster of their own, because their API is alpha.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3

from driver.kube.resources import ACCELERATOR_NODES, NODES, PODS, Resource
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import DEPLOYMENTS, EVENTS, JSON, Api, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import pod, request, sharing
from tests.cluster.support.own_cluster import SOON_S, own_cluster
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.stock import in_mode_controller

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

ON = cards.on(cards.NVIDIA_40)
PORT = 8899
_GANGS = "1.36.3"
UNPLACED_S = 80
"""How long gangs that hold half each are left alone: longer than it takes to look at them."""
_PRIORITY_CLASSES = Resource(
    group="scheduling.k8s.io", version="v1", plural="priorityclasses", kind="PriorityClass", namespaced=False
)
_POD_GROUPS = Resource(
    group="scheduling.k8s.io", version="v1alpha2", plural="podgroups", kind="PodGroup", namespaced=True
)


@pytest.fixture(scope="module", params=["1.34.4", "1.36.3"])
def stock(request: pytest.FixtureRequest, images: Images) -> Iterator[Installation]:
    """A cluster in mode controller, with priorities."""
    for installed in in_mode_controller(images, purpose="neighbours", version=request.param):
        for name, value in (("low", 10), ("high", 1000)):
            installed.api.create(_PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value})
        yield installed


@pytest.fixture(scope="module")
def gangs(images: Images) -> Iterator[Installation]:
    """A cluster in mode controller, with kube-scheduler's gangs."""
    with own_cluster(
        images,
        purpose="gangs",
        version=_GANGS,
        controller={"mode": "controller", "handoverWait": SOON_S, "unplacedAfter": UNPLACED_S},
        feature_gates={"GenericWorkload": True, "GangScheduling": True},
        api_arguments=["--runtime-config=scheduling.k8s.io/v1alpha2=true"],
    ) as installed:
        yield installed


def _space(installed: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    purpose = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
    one = open_space(installed.api, purpose)
    yield one
    installed.expect_nothing_left(one.close())


@pytest.fixture
def space(stock: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    yield from _space(stock, request)


@pytest.fixture
def gang_space(gangs: Installation, request: pytest.FixtureRequest) -> Iterator[Space]:
    yield from _space(gangs, request)


@pytest.fixture
def elsewhere(stock: Installation) -> Iterator[str]:
    """A second Node without a kubelet; for 50 s after it was last said to be Ready it is taken for that."""
    name = "without-cards"
    stock.api.create(NODES, {"metadata": {"name": name}})
    ended = threading.Event()
    keeper = threading.Thread(target=_keep_ready, args=(stock.api, name, ended), daemon=True)
    try:
        for _ in range(3):
            # The control plane looks every five seconds; its taints come and go until it has seen all of it.
            _ready(stock.api, name)
            time.sleep(3)
            waiting.wait_for(
                stock.api,
                NODES,
                name,
                lambda one: not one["spec"].get("taints"),
                what="has no taints",
            )
        keeper.start()
        yield name
    finally:
        ended.set()
        if keeper.is_alive():
            keeper.join(60)
        stock.api.delete(NODES, name)


def _keep_ready(api: Api, node: str, ended: threading.Event) -> None:
    while not ended.wait(10):
        with contextlib.suppress(Refused, urllib3.exceptions.HTTPError):
            _ready(api, node)


def _ready(api: Api, node: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    amounts = {"cpu": "2", "memory": "8Gi", "pods": "10"}
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": now}
    conditions = [{**ready, "lastHeartbeatTime": now}]
    status = {"capacity": amounts, "allocatable": amounts, "conditions": conditions}
    api.patch(NODES, node, {"status": status}, subresource="status")


def _node_with_cards(api: Api) -> str:
    (one,) = api.list(ACCELERATOR_NODES)
    return str(one["metadata"]["name"])


def _prioritized(name: str, priority: str, memory: str = "", **spec: Any) -> list[JSON]:
    """A pod of a priority, with a share if it asks for one."""
    objects = sharing(name, request(memory=memory, cores="10", cel=ON)) if memory else [pod(name)]
    objects[-1]["spec"].update(priorityClassName=priority, **spec)
    return objects


def _with(objects: list[JSON], **container: Any) -> list[JSON]:
    (one,) = objects[-1]["spec"]["containers"]
    resources = {**(one.get("resources") or {}), **container.pop("resources", {})}
    one.update(container, **({"resources": resources} if resources else {}))
    return objects


def _ended(space: Space) -> list[str]:
    """Pods that kube-scheduler ended for others."""
    found = space.api.list(EVENTS, namespace=space.name)
    return [one["involvedObject"]["name"] for one in found if one["reason"] == "Preempted"]


def _holds_the_port(space: Space, node: str) -> None:
    """A Deployment of low priority whose pod holds a port, and comes again whenever it is ended."""
    (one,) = _prioritized("unused", "low", nodeSelector={"kubernetes.io/hostname": node})
    (container,) = one["spec"]["containers"]
    container["ports"] = [{"hostPort": PORT, "containerPort": PORT}]
    # As most programs do, it takes a while to end.
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
    one["spec"]["terminationGracePeriodSeconds"] = 10
    labels = {"app": "holder"}
    template = {"metadata": {"labels": labels}, "spec": one["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    space.api.create(DEPLOYMENTS, {"metadata": {"name": "holder"}, "spec": spec}, namespace=space.name)
    waiting.wait_all(
        space.api,
        PODS,
        lambda found: any(map(waiting.running, found)),
        what="the Deployment's pod runs",
        namespace=space.name,
    )


def test_a_pod_that_preempts_others_runs_where_it_did_and_ends_each_once(
    stock: Installation, elsewhere: str, space: Space
) -> None:
    _holds_the_port(space, _node_with_cards(stock.api))
    ports = [{"hostPort": PORT, "containerPort": PORT}]
    space.create(*_with(_prioritized("high", "high", "10Gi"), ports=ports))
    (running,) = space.running("high")
    assert running["spec"]["nodeName"] == _node_with_cards(stock.api)
    # The Deployment's next pod waits for the port, and is not ended in its turn.
    time.sleep(5)
    assert len(_ended(space)) == 1
    assert space.seen("high").memory_mib(0) == 10 * 1024


def test_nobody_is_ended_for_a_card_and_whoever_waits_is_told_that_it_is_in_use(
    stock: Installation, elsewhere: str, space: Space
) -> None:
    space.create(*_prioritized("low", "low", "36Gi"))
    space.running("low")
    space.create(*_prioritized("high", "high", "10Gi"))
    space.event("high", "capacity in use", reason="NoDevice")
    space.event("high", "Preemption is not helpful", reason="FailedScheduling")
    assert _ended(space) == []
    assert space.pod("low")["status"]["phase"] == "Running"


def test_nobody_is_ended_for_processor_time_and_whoever_waits_is_told_what_is_missing(
    stock: Installation, elsewhere: str, space: Space
) -> None:
    cpu = int(stock.api.get(NODES, _node_with_cards(stock.api))["status"]["allocatable"]["cpu"])
    asks = {"requests": {"cpu": f"{cpu * 1000 - 700}m"}}
    here = {"kubernetes.io/hostname": _node_with_cards(stock.api)}
    space.create(*_with(_prioritized("low", "low", nodeSelector=here), resources=asks))
    space.running("low")
    space.create(*_with(_prioritized("high", "high", "10Gi"), resources={"requests": {"cpu": "1"}}))
    space.event("high", "too little processor time left", reason="NoNode")
    assert _ended(space) == []


def _gang(space: Space, name: str, count: int) -> None:
    policy = {"gang": {"minCount": count}}
    document = {"metadata": {"name": name}, "spec": {"schedulingPolicy": policy}}
    space.api.create(_POD_GROUPS, document, namespace=space.name)


def _member(space: Space, name: str, *, of: str, memory: str) -> None:
    template, one = sharing(name, request(memory=memory, cores="5", cel=ON))
    one["spec"]["schedulingGroup"] = {"podGroupName": of}
    space.create(template, one)


def _away(space: Space, *names: str) -> None:
    for name in names:
        with contextlib.suppress(Refused):
            space.api.delete(_POD_GROUPS, name, namespace=space.name)


def test_a_gang_of_kube_scheduler_starts_together_or_not_at_all(gang_space: Space) -> None:
    _gang(gang_space, "three", 3)
    for number in range(2):
        _member(gang_space, f"three-{number}", of="three", memory="10Gi")
    time.sleep(5)
    assert not any(one["spec"].get("nodeName") for one in gang_space.pods())
    _member(gang_space, "three-2", of="three", memory="10Gi")
    gang_space.running(*(f"three-{number}" for number in range(3)))
    _away(gang_space, "three")


def test_of_two_gangs_that_hold_half_each_the_younger_gives_way_and_has_its_turn_later(
    gang_space: Space,
) -> None:
    for name in ("one", "two"):
        _gang(gang_space, name, 2)
        _member(gang_space, f"{name}-0", of=name, memory="15Gi")
    for name in ("one", "two"):
        gang_space.wait_pod(f"{name}-0", Space.claim_name, what="has its claim")
        claim = Space.claim_name(gang_space.pod(f"{name}-0"))
        gang_space.wait_claim(
            claim, lambda one: (one.get("status") or {}).get("allocation"), what="is allocated"
        )
    for name in ("one", "two"):
        _member(gang_space, f"{name}-1", of=name, memory="15Gi")
    for name in ("one", "two"):
        gang_space.event(f"{name}-1", "asks 15Gi, free 10Gi", reason="NoDevice")
    assert not any(one["spec"].get("nodeName") for one in gang_space.pods())
    gang_space.running("one-0", "one-1", seconds=UNPLACED_S + waiting.PATIENCE_S)
    gang_space.event("two-0", "others wait", reason="CardsGivenBack")
    assert not any(gang_space.pod(f"two-{number}")["spec"].get("nodeName") for number in range(2))
    gang_space.delete("one-0", "one-1")
    gang_space.running("two-0", "two-1")
    _away(gang_space, "one", "two")
