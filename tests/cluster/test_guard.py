"""The node is the last guard: whoever allocated, a card is never given out twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.support import cards
from tests.cluster.support.handwritten import pod_with, result
from tests.cluster.support.installation import Installation
from tests.cluster.support.ledger import Ledger
from tests.cluster.support.manifests import claim, pod, request, share_config, sharing, template
from tests.cluster.support.space import Space, results
from tests.cluster.support.unchecked import unchecked

pytestmark = pytest.mark.cluster

NONSENSE = share_config({"apiVersion": "dragoman.dev/v1alpha1", "kind": "Nonsense"})


@pytest.fixture
def forged(space: Space, ledger: Ledger) -> Space:
    """A namespace in which allocations are written by hand, which the ledger therefore leaves out."""
    ledger.excuse(space.name)
    return space


def test_a_second_claim_that_exceeds_the_card_is_refused_and_the_event_says_what_is_held(
    forged: Space, installed: Installation
) -> None:
    card = cards.NVIDIA_24

    def sixteen() -> dict[str, object]:
        return result(pool=installed.pool, device=card.device, consumed={"memory": "16Gi", "cores": "0"})

    pod_with(forged, "a", request(memory="16Gi"), [sixteen()], node=installed.node)
    forged.running("a")
    pod_with(forged, "b", request(memory="16Gi"), [sixteen()], node=installed.node)

    said = forged.event("b", card.device, reason="FailedPrepareDynamicResources")
    assert "16384" in said
    assert forged.seen("a").memory_mib(0) == 16 * 1024


def test_what_was_refused_for_want_of_room_is_prepared_once_the_holder_is_gone(
    forged: Space, installed: Installation
) -> None:
    card = cards.NVIDIA_24
    whole = result(pool=installed.pool, device=card.device, consumed={"memory": "24Gi", "cores": "0"})
    part = result(pool=installed.pool, device=card.device, consumed={"memory": "1Gi", "cores": "0"})
    pod_with(forged, "a", request(), [whole], node=installed.node)
    forged.running("a")
    pod_with(forged, "b", request(memory="1Gi"), [part], node=installed.node)
    forged.event("b", reason="FailedPrepareDynamicResources")

    forged.delete("a")

    # The kubelet tries again within two minutes, and at once when the pod changes.
    forged.touch("b")
    forged.running("b")
    assert forged.seen("b").memory_mib(0) == 1024


def test_a_claim_that_was_given_a_card_which_is_gone_is_refused_by_the_cards_name(
    forged: Space, installed: Installation
) -> None:
    share = result(pool=installed.pool, device="nvidia-gone", consumed={"memory": "1Gi", "cores": "0"})
    pod_with(forged, "a", request(memory="1Gi"), [share], node=installed.node)

    forged.event("a", "nvidia-gone", reason="FailedPrepareDynamicResources")


def test_a_result_without_amounts_is_never_taken_for_the_whole_card(
    forged: Space, installed: Installation
) -> None:
    share = result(pool=installed.pool, device=cards.NVIDIA_24.device, consumed={})
    pod_with(forged, "a", request(memory="1Gi"), [share], node=installed.node)

    forged.event("a", "does not say how much memory", reason="FailedPrepareDynamicResources")


@pytest.fixture
def unseen(space: Space) -> Iterator[Space]:
    """A namespace whose objects are stored without being checked."""
    with unchecked(space):
        yield space


def test_one_bad_claim_in_a_batch_of_pods_fails_alone(unseen: Space) -> None:
    space = unseen
    good = [f"good-{number}" for number in range(8)]
    ask = request(memory="64Mi", cel=cards.on(cards.NVIDIA_24))
    space.create(*sharing("bad", ask, config=[NONSENSE]))
    for name in good:
        space.create(*sharing(name, ask))

    space.running(*good)
    space.event("bad", "Nonsense", reason="FailedPrepareDynamicResources")
    assert results(space.claim_of("bad"))


def test_a_pod_with_a_good_and_a_bad_claim_waits_and_leaves_the_good_one_usable(unseen: Space) -> None:
    space = unseen
    space.create(
        claim("good", request(cel=cards.on(cards.NVIDIA_24))),
        template("bad", request(memory="64Mi", cel=cards.on(cards.NVIDIA_40)), config=[NONSENSE]),
        pod("both", claims={"one": "good"}, templates={"two": "bad"}),
    )
    space.event("both", "Nonsense", reason="FailedPrepareDynamicResources")
    space.delete("both")

    space.create(pod("alone", claims={"card": "good"}))
    space.running("alone")
    assert space.seen("alone").devices
