"""Both handovers, while pods come and go every second: one cluster for all of this file, in order.

Flow: install in mode native, start the stream; mode controller; a pod that kube-scheduler was binding when
its slices went; mode native. Then what was written all the while is looked at as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from driver.kube.resources import ACCELERATOR_NODES, PODS
from tests.cluster.support import people, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.figures import Tell
from tests.cluster.support.history import FENCED, OPEN, OURS, SCHEDULER, History
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.ledger import Ledger
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.own_cluster import SOON_S, own_cluster
from tests.cluster.support.people import Person
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.stream import Stream

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

SHARE = request(memory="9Gi", cores="20")
"""Six of these fill the NVIDIA cards of the node: four more wait all the time."""
MOST = 10
STEADY = 8
DEFAULT_WAIT_S = 30


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    """Dragoman in mode native, in a cluster of its own."""
    with own_cluster(images, purpose="handover", version=kubernetes_version) as installed:
        yield installed


@pytest.fixture(scope="module")
def place(own: Installation) -> Space:
    return open_space(own.api, "stream")


@pytest.fixture(scope="module")
def history(own: Installation) -> Iterator[History]:
    found = History(own.api)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def ledger(own: Installation) -> Iterator[Ledger]:
    found = Ledger(own.api)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def stream(place: Space, history: History, ledger: Ledger) -> Iterator[Stream]:
    found = Stream(place, SHARE, most=MOST)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def admin(own: Installation, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return people.administrator(own.target, tmp_path_factory.mktemp("path"))


def _change(own: Installation, mode: str, *, wait_s: int = DEFAULT_WAIT_S) -> float:
    """Asks for the other mode; when that was."""
    own.controller = {"mode": mode, "handoverWait": wait_s}
    begun = time.monotonic()
    own.install()
    return begun


def _condition(one: JSON) -> JSON:
    found = (one.get("status") or {}).get("conditions") or []
    return next((each for each in found if each["type"] == "HandedOver"), {})


def _wait_condition(own: Installation, done: Callable[[JSON], object], *, what: str) -> JSON:
    def look(one: JSON) -> JSON:
        found = _condition(one)
        return found if found and done(found) else {}

    return waiting.wait_for(own.api, ACCELERATOR_NODES, own.node, look, what=what)


def test_native_to_controller_under_a_stream_of_pods(
    own: Installation, stream: Stream, history: History, admin: Person, tell: Tell
) -> None:
    stream.wait_ran(STEADY)
    begun = _change(own, "controller")
    resting = _wait_condition(
        own,
        lambda one: one["reason"] in ("KubeSchedulerMayBind", "ToController"),
        what="tells of the handover",
    )
    if resting["reason"] == "KubeSchedulerMayBind":
        said = admin.dragoman("status", "-o", "json").document["mode"]
        assert (said["seen"], said["wanted"]) == ("controller", "controller")
        # It may be over by the time that this is asked.
        now = _condition(own.api.get(ACCELERATOR_NODES, own.node))["reason"]
        assert now != resting["reason"] or any(own.node in text for text in said["waitsFor"])
    _wait_condition(own, lambda one: one["status"] == "True", what="is handed over")
    stream.wait_ran(STEADY)
    _wait_turn(history, OURS)
    first = next(one for one in history.allocated if one.by == OURS)
    last = max(one.seen for one in history.allocated if one.by == SCHEDULER)
    fenced = next(one for one in history.fences if one.state == FENCED)
    tell(
        f"native -> controller: slices fenced {fenced.seen - begun:.1f} s after `helm upgrade` began, first "
        f"allocation of ours {first.seen - begun:.1f} s after it; nothing was allocated for "
        f"{first.seen - last:.1f} s",
    )


def _wait_turn(history: History, by: str) -> None:
    """Waits until the allocation that was written last is this allocator's."""
    waiting.eventually(lambda: history.turns()[-1][0] == by, what=f"{by} allocates")


def test_a_pod_that_a_scheduler_has_chosen_the_node_for_is_waited_for(
    own: Installation, stream: Stream, place: Space, history: History, admin: Person
) -> None:
    """Its claim is not written: so it is while a Permit plugin holds a pod, here of a second scheduler."""
    _wait_turn(history, OURS)
    _change(own, "native")
    _wait_condition(own, lambda one: one["reason"] == "ToKubeScheduler", what="is handed back")
    _wait_turn(history, SCHEDULER)
    claims, binding = sharing("binding", request(memory="9Gi", cores="20"))
    binding["spec"]["schedulerName"] = "gang-scheduler"
    place.create(claims, binding)
    place.wait_pod("binding", Space.claim_name, what="has its claim")
    chosen = {"status": {"nominatedNodeName": own.node}}
    place.api.patch(PODS, "binding", chosen, namespace=place.name, subresource="status")
    _change(own, "controller", wait_s=SOON_S)
    said = _wait_condition(
        own,
        lambda one: one["reason"] == "KubeSchedulerMayBind" and "1 pod " in one["message"],
        what="tells of the pod",
    )
    assert "binding" not in said["message"]
    # Long enough for whoever only waited for the fence to be seen.
    time.sleep(2 * SOON_S)
    assert _condition(own.api.get(ACCELERATOR_NODES, own.node)) == said
    waits = admin.dragoman("status", "-o", "json").document["mode"]["waitsFor"]
    assert any("1 pod " in text for text in waits)
    place.api.delete(PODS, "binding", namespace=place.name, grace_s=0)
    _wait_condition(own, lambda one: one["status"] == "True", what="goes on at once")
    stream.wait_ran(STEADY)
    _wait_turn(history, OURS)


def test_controller_to_native_under_a_stream_of_pods(
    own: Installation, stream: Stream, history: History, tell: Tell
) -> None:
    before = len(history.fences)
    begun = _change(own, "native")
    _wait_condition(own, lambda one: one["reason"] == "ToKubeScheduler", what="is handed back")
    stream.wait_ran(STEADY)
    _wait_turn(history, SCHEDULER)
    opened = next(one for one in history.fences[before:] if one.state == OPEN)
    first = next(one for one in history.allocated if one.by == SCHEDULER and one.version > opened.version)
    last = max(one.seen for one in history.allocated if one.by == OURS)
    tell(
        f"controller -> native: slices open {opened.seen - begun:.1f} s after `helm upgrade` began, first "
        f"allocation of kube-scheduler {first.seen - begun:.1f} s after it; nothing was allocated for "
        f"{first.seen - last:.1f} s",
    )


def test_no_claim_was_lost_and_nothing_was_over_committed_at_any_instant(
    stream: Stream, ledger: Ledger, history: History, tell: Tell
) -> None:
    stream.stop()
    stream.wait_all_ran()
    tell(
        f"{len(stream.made)} pods, {len(history.allocated)} allocations, {ledger.states} states of claims",
    )
    assert not stream.lost()
    assert not ledger.violations
    assert not history.changed


def test_the_two_allocators_never_decided_at_the_same_time(history: History) -> None:
    assert not history.gaps
    assert [by for by, _ in history.turns()] == [SCHEDULER, OURS, SCHEDULER, OURS, SCHEDULER]
    for one in history.allocated:
        if one.by == OURS:
            assert history.state_at(one.version).state == FENCED, one
