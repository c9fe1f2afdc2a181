"""Cards that fall ill and recover on a running cluster: one cluster for each part of this file, in order.

Flow: a file on the node makes a simulated card sick -> taint in the slice, new claims elsewhere, the claim
that holds the card told -> the file goes -> the taint goes after the hold-off. First with kube-scheduler,
then with our own allocator, then where the API server knows no taints. How long it took is told.
Limits: a card that relapses is held off for longer each time, so each recovery here is the first of its card;
the longer ones are tried with a clock of their own, without a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from driver.kube.resources import ACCELERATOR_NODES, ACCELERATOR_POLICIES, PODS
from kubelet_plugin.card_health.book import HOLD_OFF_S
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.cards import SimulatedCard
from tests.cluster.support.figures import Tell
from tests.cluster.support.illness import LOST, TAINT, device_of, fall_ill, healthy_of, recover, taint_of
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.own_cluster import SOON_S, own_cluster
from tests.cluster.support.space import Space, open_space, results

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

CARD = cards.NVIDIA_24
OTHER = cards.NVIDIA_40


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    with own_cluster(images, purpose="health", version=kubernetes_version) as installed:
        yield installed


@pytest.fixture(scope="module")
def place(own: Installation) -> Space:
    return open_space(own.target.api, "health")


def _where(space: Space, pod: str) -> list[str]:
    return [str(one["device"]) for one in results(space.claim_of(pod))]


def _tolerating(name: str, card: SimulatedCard = CARD) -> list[JSON]:
    wanted = request(memory="1Gi", cel=cards.on(card))
    wanted["exactly"]["tolerations"] = [{"key": TAINT, "operator": "Exists"}]
    return sharing(name, wanted)


def test_a_card_that_falls_ill_is_tainted(own: Installation, place: Space, tell: Tell) -> None:
    place.create(*sharing("runs", request(memory="2Gi", cel=cards.on(CARD))))
    place.running("runs")
    took = fall_ill(own, taint_of, what="the card is tainted")
    tell(f"from the fault to the taint in the slice: {took:.2f} s")
    taint = taint_of(own.slices())
    assert taint is not None
    assert (taint["value"], taint["effect"]) == ("CardLost", "NoSchedule")


def test_the_inventory_says_what_is_wrong_with_the_card(own: Installation) -> None:
    status = own.api.get(ACCELERATOR_NODES, own.node)["status"]
    (fault,) = (one["fault"] for one in status["cards"] if one["uuid"] == CARD.uuid)
    assert (fault["reason"], fault["message"]) == ("CardLost", "It fell off the bus.")
    assert status["summary"]["faulty"] == 1
    assert not any("fault" in one for one in status["cards"] if one["uuid"] != CARD.uuid)


def test_the_claim_that_holds_the_card_is_told_and_its_pod_runs_on(own: Installation, place: Space) -> None:
    claim = place.claim_of("runs")["metadata"]["name"]
    told = place.wait_claim(
        claim, lambda one: healthy_of(one) or {}, what="tells that its card is not healthy"
    )
    assert (told["status"], told["reason"]) == ("False", "CardLost")
    assert "fell off the bus" in place.event("runs", CARD.device, reason="CardUnhealthy")
    pod = place.pod("runs")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_the_kubelet_tells_it_in_the_pods_status(own: Installation, place: Space) -> None:
    def health(one: JSON) -> bool:
        statuses = one["status"]["containerStatuses"][0].get("allocatedResourcesStatus") or []
        return any(each["health"] == "Unhealthy" for status in statuses for each in status["resources"])

    assert place.wait_pod("runs", health, what="has an unhealthy card")


def test_a_new_claim_goes_elsewhere_and_one_that_tolerates_the_fault_does_not(
    own: Installation, place: Space
) -> None:
    place.create(*sharing("elsewhere", request(memory="1Gi")))
    place.create(*sharing("nowhere", request(memory="1Gi", cel=cards.on(CARD))))
    place.create(*_tolerating("tolerates"))
    place.running("elsewhere", "tolerates")
    assert _where(place, "elsewhere") == [cards.NVIDIA_40.device]
    assert _where(place, "tolerates") == [CARD.device]
    assert not results(place.claim_of("nowhere"))


def test_a_restart_of_the_agent_does_not_make_the_card_well(own: Installation) -> None:
    before = taint_of(own.slices())
    own.restart_agent_softly()
    own.wait_ready()
    assert taint_of(own.slices()) == before


def test_a_card_that_flaps_does_not_flap_in_the_slices(own: Installation) -> None:
    (before,) = own.slices()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        own.target.node.remove_files(own.health_file(CARD.uuid))
        time.sleep(2.5)
        own.target.node.write_file(own.health_file(CARD.uuid), LOST)
        time.sleep(2.5)
    # However late the agent looks: when the card recovers, it is to have been seen ill before.
    time.sleep(10)
    (after,) = own.slices()
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_the_taint_goes_when_the_card_was_well_for_a_while_and_who_waited_for_it_runs(
    own: Installation, place: Space, tell: Tell
) -> None:
    took = recover(own, lambda now: device_of(now) and not taint_of(now), what="the taint is gone")
    tell(f"from recovery to the slice without the taint: {took:.1f} s")
    assert took >= HOLD_OFF_S
    place.running("nowhere")
    claim = place.claim_of("runs")["metadata"]["name"]
    told = place.wait_claim(
        claim,
        lambda one: c if (c := healthy_of(one)) and c["status"] == "True" else {},
        what="tells that its card is well again",
    )
    assert told["reason"] == "Recovered"
    place.event("runs", reason="CardRecovered")
    place.delete("elsewhere", "tolerates", "nowhere", "runs")


def test_where_a_policy_says_so_kubernetes_ends_the_pods_that_use_a_card_that_is_lost(
    own: Installation, place: Space, tell: Tell
) -> None:
    policy = {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": "test-no-execute"},
        "spec": {"cards": [{"uuid": OTHER.uuid, "unhealthyEffect": "NoExecute"}]},
    }
    own.api.apply(policy)
    place.create(*sharing("ends", request(memory="1Gi", cel=cards.on(OTHER))))
    place.create(*sharing("stays", request(memory="1Gi", cel=cards.on(CARD))))
    place.running("ends", "stays")
    fall_ill(own, _has_effect("NoExecute"), what="pods on the card are to end", card=OTHER)
    began = time.monotonic()
    waiting.wait_gone(own.api, PODS, "ends", namespace=place.name)
    tell(f"from the taint to the end of the pod: {time.monotonic() - began:.1f} s")
    assert place.pod("stays")["status"]["phase"] == "Running"
    own.api.delete(ACCELERATOR_POLICIES, "test-no-execute")
    own.wait_slices(_has_effect("NoSchedule"), what="only new claims are kept away")
    place.delete("stays")


def _has_effect(effect: str) -> Callable[[list[JSON]], bool]:
    return lambda now: (taint_of(now, OTHER) or {}).get("effect") == effect


def test_our_own_allocator_keeps_new_claims_away_as_well_and_honours_tolerations(
    own: Installation, place: Space
) -> None:
    """From a card that was ill before it took over."""
    own.controller = {"mode": "controller", "handoverWait": SOON_S}
    own.install()
    own.wait_ready()
    own.wait_slices(lambda now: now and all("nodeSelector" in one["spec"] for one in now), what="is fenced")
    assert taint_of(own.slices(), OTHER)
    place.create(*sharing("elsewhere-2", request(memory="1Gi")))
    place.create(*sharing("nowhere-2", request(memory="1Gi", cel=cards.on(OTHER))))
    place.create(*_tolerating("tolerates-2", OTHER))
    place.running("elsewhere-2", "tolerates-2")
    assert _where(place, "elsewhere-2") == [CARD.device]
    assert _where(place, "tolerates-2") == [OTHER.device]
    place.event("nowhere-2", "taint", reason="NoDevice")
    recover(
        own,
        lambda now: device_of(now, OTHER) and not taint_of(now, OTHER),
        what="the taint is gone",
        card=OTHER,
    )
    place.running("nowhere-2")


def test_our_own_allocator_gives_no_card_that_has_just_fallen_ill(
    own: Installation, place: Space, tell: Tell
) -> None:
    took = fall_ill(own, taint_of, what="the card is tainted")
    tell(f"from the fault to the taint in a fenced slice: {took:.2f} s")
    place.create(*sharing("elsewhere-3", request(memory="1Gi")))
    place.create(*sharing("nowhere-3", request(memory="1Gi", cel=cards.on(CARD))))
    place.running("elsewhere-3")
    assert _where(place, "elsewhere-3") == [OTHER.device]
    place.event("nowhere-3", "taint", reason="NoDevice")
    assert not results(place.claim_of("nowhere-3"))


@pytest.fixture(scope="module")
def no_taints(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    gates = {"DRADeviceTaints": False}
    with own_cluster(
        images, purpose="notaints", version=kubernetes_version, feature_gates=gates
    ) as installed:
        yield installed


def test_where_the_api_server_knows_no_taints_the_card_is_withdrawn_and_its_pod_runs_on(
    no_taints: Installation, tell: Tell
) -> None:
    space = open_space(no_taints.api, "withdrawn")
    space.create(*sharing("runs", request(memory="2Gi", cel=cards.on(CARD))))
    space.running("runs")
    took = fall_ill(no_taints, lambda now: now and device_of(now) is None, what="the card is withdrawn")
    tell(f"from the fault to the slice without the card: {took:.2f} s")
    assert device_of(no_taints.slices(), cards.NVIDIA_40) is not None
    space.event("runs", CARD.device, reason="CardUnhealthy")
    assert space.pod("runs")["status"]["phase"] == "Running"

    def withdrawn(one: JSON) -> bool:
        conditions = one["status"].get("conditions") or []
        return any(c["type"] == "Published" and "withdrawn: CardLost" in c["message"] for c in conditions)

    assert waiting.wait_for(
        no_taints.api, ACCELERATOR_NODES, no_taints.node, withdrawn, what="says that a card is withdrawn"
    )
    recover(no_taints, device_of, what="the card is offered again")
    space.delete("runs")
    no_taints.expect_nothing_left(space.close())
