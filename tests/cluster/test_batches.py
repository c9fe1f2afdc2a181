"""Many pods at once: nothing leaks, nothing is given twice."""

from __future__ import annotations

import time

import pytest

from driver.kube.resources import ACCELERATOR_NODES, RESOURCE_CLAIMS
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON, Api
from tests.cluster.support.installation import Installation
from tests.cluster.support.ledger import Ledger
from tests.cluster.support.manifests import pod, request, template
from tests.cluster.support.space import Space

pytestmark = pytest.mark.cluster

PODS_AT_ONCE = 50


def _told(claims: list[JSON]) -> list[list[JSON]]:
    """What claims tell of their devices, those that do."""
    return [one["status"]["devices"] for one in claims if one.get("status", {}).get("devices")]


def _round(space: Space, installed: Installation, *, number: int) -> None:
    """50 pods that together need more than half of two cards; all run, all go, nothing stays."""
    names = [f"p{number}-{index}" for index in range(PODS_AT_ONCE)]
    space.create(*(pod(name, templates={"card": "share"}) for name in names))
    space.running(*names)
    uids = [one["metadata"]["uid"] for one in space.claims()]
    assert len(uids) == PODS_AT_ONCE
    # What the agent put in force is told in the claim's status, a while after the pod has it.
    told = waiting.wait_all(
        space.api,
        RESOURCE_CLAIMS,
        lambda claims: _told(claims) if len(_told(claims)) == PODS_AT_ONCE else [],
        what="every claim tells its devices",
        namespace=space.name,
    )
    for devices in told:
        # Under its own pool.
        assert [(entry["driver"], entry["pool"]) for entry in devices] == [("dragoman.dev", installed.pool)]
    space.empty()
    installed.expect_nothing_left(uids)


def _inventory(api: Api, installed: Installation) -> JSON:
    found: JSON = api.get(ACCELERATOR_NODES, installed.node)["status"]
    return found


def _rounds(space: Space, installed: Installation, ledger: Ledger, *, count: int) -> None:
    before = _inventory(space.api, installed)
    version = space.api.get(ACCELERATOR_NODES, installed.node)["metadata"]["resourceVersion"]
    states = ledger.states
    ask = request(
        memory="512Mi", cores="1", cel=f"{cards.on(cards.NVIDIA_24)} || {cards.on(cards.NVIDIA_40)}"
    )
    space.create(template("share", ask))
    for number in range(count):
        _round(space, installed, number=number)
    waiting.eventually(
        lambda: ledger.states - states >= count * PODS_AT_ONCE * 2, what="the watcher has seen each of them"
    )
    assert not ledger.violations
    assert _inventory(space.api, installed) == before
    now = space.api.get(ACCELERATOR_NODES, installed.node)["metadata"]["resourceVersion"]
    assert now == version, "claims that come and go do not write the inventory"


def test_fifty_pods_created_and_deleted_at_once_leave_nothing_behind(
    space: Space, installed: Installation, ledger: Ledger
) -> None:
    _rounds(space, installed, ledger, count=1)


@pytest.mark.long
def test_fifty_pods_created_and_deleted_at_once_five_times_leave_nothing_behind(
    space: Space, installed: Installation, ledger: Ledger
) -> None:
    _rounds(space, installed, ledger, count=5)


def test_more_pods_than_a_card_has_room_for_run_one_after_the_other(
    space: Space, installed: Installation, ledger: Ledger
) -> None:
    space.create(template("share", request(memory="10Gi", cel=cards.on(cards.NVIDIA_24))))
    names = [f"p{index}" for index in range(6)]
    space.create(*(pod(name, templates={"card": "share"}) for name in names))
    left = set(names)
    until = time.monotonic() + 3 * waiting.PATIENCE_S
    while left and time.monotonic() < until:
        up = space.any_running(left)
        assert len(up) <= 2, "24 GiB hold two shares of 10 GiB"
        space.delete(*up)
        left -= set(up)
    assert not left
    assert not ledger.violations


def test_pods_that_are_deleted_before_they_run_leave_nothing_behind(
    space: Space, installed: Installation
) -> None:
    space.create(template("share", request(memory="64Mi", cel=cards.on(cards.NVIDIA_40))))
    names = [f"p{index}" for index in range(20)]
    for name in names:
        space.create(pod(name, templates={"card": "share"}))
    uids = [one["metadata"]["uid"] for one in space.claims()]
    uids += space.empty()
    installed.expect_nothing_left(uids)
