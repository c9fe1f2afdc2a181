"""The cluster side: one leader, slices that come back, and words for whoever waits."""

from __future__ import annotations

import pytest

from driver.kube.resources import LEASES, RESOURCE_SLICES
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON, Api
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.space import Space

pytestmark = pytest.mark.cluster


def _holder(lease: JSON) -> str:
    return str(lease["spec"].get("holderIdentity") or "")


def test_of_two_controllers_one_leads_and_the_other_takes_over_when_it_is_killed(
    api: Api, installed: Installation
) -> None:
    pods = {one["metadata"]["name"] for one in installed.controllers()}
    assert len(pods) == 2
    lease = installed.lease
    first = waiting.wait_for(api, LEASES, lease, _holder, what="is held", namespace=installed.namespace)
    (leader,) = (name for name in pods if first.startswith(name))

    installed.kill_pod(leader)

    second = waiting.wait_for(
        api,
        LEASES,
        lease,
        lambda one: _holder(one) if _holder(one) not in ("", first) else "",
        what="is held by the other",
        namespace=installed.namespace,
    )
    assert any(second.startswith(one["metadata"]["name"]) for one in installed.controllers())
    # The new leader does the leader's work.
    for one in installed.slices():
        api.delete(RESOURCE_SLICES, one["metadata"]["name"])
    installed.wait_all_offered()
    installed.wait_controllers()


def test_a_pending_claim_is_told_which_card_lacks_how_much(space: Space) -> None:
    space.create(*sharing("holder", request(memory="20Gi", cel=cards.on(cards.NVIDIA_24))))
    space.running("holder")
    space.create(*sharing("waiter", request(memory="8Gi", cel=cards.on(cards.NVIDIA_24))))
    claim = space.wait_pod("waiter", space.claim_name, what="has its claim")

    said = space.event(claim, cards.NVIDIA_24.device)
    assert "4096 MiB" in said or "4Gi" in said or "4 GiB" in said, said


def test_a_claim_that_no_card_matches_is_told_that_its_selector_is_why(space: Space) -> None:
    nobody = 'device.attributes["dragoman.dev"].model == "no such card"'
    space.create(*sharing("waiter", request(cel=nobody)))
    claim = space.wait_pod("waiter", space.claim_name, what="has its claim")

    # Of the two selectors, the class's and the claim's, its author can change the second.
    said = space.event(claim, "no such card", reason="NoDevice")
    assert "0 of 1 node" in said
