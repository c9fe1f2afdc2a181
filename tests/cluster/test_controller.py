"""The cluster side: one leader, slices that come back, and words for whoever waits."""

from __future__ import annotations

import pytest

from driver.kube.resources import LEASES, RESOURCE_SLICES
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import Api
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.space import Space

pytestmark = pytest.mark.cluster


def _leader(installed: Installation) -> str:
    """The controller's pod that holds the Lease; "" while a pod that is gone does."""
    lease = installed.api.get(LEASES, installed.lease, namespace=installed.namespace)
    holder = str(lease["spec"].get("holderIdentity") or "")
    names = [str(one["metadata"]["name"]) for one in installed.controllers()]
    return next((name for name in names if holder.startswith(name)), "")


def test_of_two_controllers_one_leads_and_the_other_takes_over_when_it_is_killed(
    api: Api, installed: Installation
) -> None:
    installed.wait_controllers()
    first = waiting.eventually(lambda: _leader(installed), what="one of the two holds the Lease")

    installed.kill_pod(first)

    waiting.eventually(lambda: _leader(installed) not in ("", first), what="another one holds the Lease")
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

    space.event(claim, cards.NVIDIA_24.device, "free 4Gi of 24Gi", reason="NoDevice")


def test_a_claim_that_no_card_matches_is_told_that_its_selector_is_why(space: Space) -> None:
    nobody = 'device.attributes["dragoman.dev"].model == "no such card"'
    space.create(*sharing("waiter", request(cel=nobody)))
    claim = space.wait_pod("waiter", space.claim_name, what="has its claim")

    # Of the two selectors, the class's and the claim's, its author can change the second.
    space.event(claim, "no such card", "0 of 1 node", reason="NoDevice")
