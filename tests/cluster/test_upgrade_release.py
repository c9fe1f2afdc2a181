"""Upgrading a cluster from 1.35 to 1.36 in place, with pods that run all the while: one cluster, in order.

Flow: 1.35 in mode controller, with shares and a whole card held; the API server becomes 1.36 while all else
is 1.35; then the rest of the control plane; then the kubelet. Handover to mode native: cards that are held
without a shareID follow as their claims go.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from driver.kube.resources import ACCELERATOR_NODES
from tests.cluster.support import cards, waiting
from tests.cluster.support import stock as stock_kubernetes
from tests.cluster.support.api import JSON, TEMPLATES
from tests.cluster.support.history import OURS, SCHEDULER, History
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import pod, request, sharing, template
from tests.cluster.support.own_cluster import need_built
from tests.cluster.support.space import Space, open_space, results
from tests.cluster.support.watcher import Watcher
from tooling.cluster import api as clusters

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

BEFORE, AFTER = "1.35.4", "1.36.3"
ON = cards.on(cards.NVIDIA_40)
SHARE = request(memory="4Gi", cores="30", cel=ON)
SMALL = cards.on(cards.NVIDIA_24)


@pytest.fixture(scope="module")
def own(images: Images) -> Iterator[Installation]:
    need_built(AFTER)
    yield from stock_kubernetes.in_mode_controller(images, purpose="upgrade", version=BEFORE)


@pytest.fixture(scope="module")
def place(own: Installation) -> Space:
    return open_space(own.api, "upgrade")


@pytest.fixture(scope="module")
def watcher(own: Installation) -> Iterator[Watcher]:
    capacity = {(own.pool, one.device): one.memory_mib for one in cards.ALL}
    with Watcher(own.api, capacity) as found:
        yield found


@pytest.fixture(scope="module")
def history(own: Installation) -> Iterator[History]:
    found = History(own.api)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def running(own: Installation, place: Space, watcher: Watcher, history: History) -> dict[str, int]:
    """Restarts of what ran before the upgrade: two shares of one card and another card as a whole."""
    place.create(*sharing("one", SHARE), *sharing("two", SHARE))
    place.create(*sharing("whole", request(cel=SMALL)))
    place.create(template("kept", SHARE))
    place.running("one", "two", "whole")
    assert _limits(place) == {"one": (4096, 30), "two": (4096, 30), "whole": (None, None)}
    return _restarts(place)


def _limits(place: Space) -> dict[str, tuple[int | None, int | None]]:
    found = {name: place.seen(name) for name in ("one", "two", "whole")}
    return {name: (seen.memory_mib(0), seen.cores(0)) for name, seen in found.items()}


def _restarts(place: Space) -> dict[str, int]:
    return {
        one["metadata"]["name"]: sum(each["restartCount"] for each in one["status"]["containerStatuses"])
        for one in place.pods()
        if one["metadata"]["name"] in ("one", "two", "whole")
    }


def _exchange(own: Installation, *components: str, to: str = AFTER) -> None:
    assert own.target.own is not None
    clusters.exchange(own.target.own, kubernetes=to, components=components)


def _condition(own: Installation, kind: str) -> JSON:
    conditions = own.api.get(ACCELERATOR_NODES, own.node)["status"]["conditions"]
    return next((one for one in conditions if one["type"] == kind), {})


def _fenced(own: Installation) -> bool:
    found = own.slices()
    return bool(found) and all("nodeName" not in one["spec"] for one in found)


def test_before_the_upgrade_claims_carry_no_share_ids(running: dict[str, int], place: Space) -> None:
    (result,) = results(place.claim_of("one"))
    assert "shareID" not in result


def test_a_newer_api_server_over_an_older_scheduler_changes_no_mode(
    own: Installation, running: dict[str, int], place: Space
) -> None:
    _exchange(own, "apiserver")
    assert own.api.request("GET", "/version").json()["gitVersion"] == f"v{AFTER}"
    # The controllers ask again what the server can do now and then; a restart makes that now.
    # Until kube-proxy has found the new server too, no pod reaches it.
    own.restart_controllers()
    place.create(*sharing("skew", SHARE))
    place.running("skew")
    assert (place.seen("skew").memory_mib(0), place.seen("skew").cores(0)) == (4096, 30)
    assert _fenced(own)
    assert _condition(own, "HandedOver")["reason"] == "ToController"
    place.delete("skew")


def test_pods_run_through_the_upgrade_with_their_limits(
    own: Installation, running: dict[str, int], place: Space
) -> None:
    _exchange(own, "controller-manager", "scheduler", "kubelet", "proxy")
    own.wait_agent(lambda _: True)
    assert _restarts(place) == running
    assert _limits(place) == {"one": (4096, 30), "two": (4096, 30), "whole": (None, None)}


def test_after_it_the_controller_goes_on_to_allocate(
    own: Installation, running: dict[str, int], place: Space
) -> None:
    place.create(*sharing("after", SHARE))
    place.running("after")
    (result,) = results(place.claim_of("after"))
    assert result["shareID"]
    place.delete("after")


def test_a_template_from_before_has_lost_its_amounts_and_the_webhook_had_kept_them(
    running: dict[str, int], place: Space
) -> None:
    stored = place.api.get(TEMPLATES, "kept", namespace=place.name)["spec"]["spec"]["devices"]
    assert "capacity" not in stored["requests"][0]["exactly"]
    place.create(pod("of-kept", templates={"card": "kept"}))
    place.running("of-kept")
    assert place.seen("of-kept").memory_mib(0) == 4096
    place.delete("of-kept")


def test_in_mode_native_cards_held_without_share_ids_are_withheld(
    own: Installation, running: dict[str, int], place: Space
) -> None:
    own.controller = {"mode": "native"}
    own.install()
    own.wait_slices(
        lambda now: now and all("nodeName" in one["spec"] for one in now),
        what="slices are kube-scheduler's",
    )
    left = sorted({*own.devices} - {cards.NVIDIA_40.device, cards.NVIDIA_24.device})
    own.wait_slices(lambda now: own.devices_of(now) == left, what="the other cards are offered")
    waiting.eventually(
        lambda: _condition(own, "HandedOver").get("reason") == "ClaimsWithoutShareID",
        what="the condition counts what is withheld",
    )
    place.create(*sharing("waits", SHARE))
    place.wait_pod(
        "waits",
        lambda one: any(
            each["type"] == "PodScheduled" and each["status"] == "False"
            for each in one["status"].get("conditions") or []
        ),
        what="waits for the card",
    )
    assert _limits(place) == {"one": (4096, 30), "two": (4096, 30), "whole": (None, None)}


def test_the_first_claim_to_go_frees_nothing_and_the_last_one_hands_the_card_over(
    own: Installation, running: dict[str, int], place: Space
) -> None:
    place.delete("one")
    waiting.eventually(lambda: len(place.claims()) == 3, what="its claim is gone")
    assert cards.NVIDIA_40.device not in own.devices_of(own.slices())
    place.delete("two")
    place.running("waits")
    assert (place.seen("waits").memory_mib(0), place.seen("waits").cores(0)) == (4096, 30)
    place.delete("whole")
    own.wait_all_offered()
    waiting.eventually(
        lambda: _condition(own, "HandedOver").get("reason") == "ToKubeScheduler",
        what="all cards are handed over",
    )


def test_a_claim_of_that_template_is_refused_as_kube_scheduler_would_give_it_a_whole_card(
    own: Installation, running: dict[str, int], place: Space
) -> None:
    place.delete("waits")
    place.create(pod("older", templates={"card": "kept"}))
    place.event("older", "AmountsNotAsked", reason="FailedResourceClaimCreation")
    assert place.claims() == []


def test_made_anew_the_template_gives_the_share_again(
    own: Installation, running: dict[str, int], place: Space
) -> None:
    place.delete("older")
    place.api.delete(TEMPLATES, "kept", namespace=place.name)
    place.create(template("kept", SHARE), pod("newer", templates={"card": "kept"}))
    place.running("newer")
    assert (place.seen("newer").memory_mib(0), place.seen("newer").cores(0)) == (4096, 30)


def test_a_scheduler_that_knows_no_shares_yet_gives_out_nothing_that_runs_and_is_named(
    own: Installation, running: dict[str, int], place: Space
) -> None:
    """Mode native where the API server is upgraded before the scheduler."""
    _exchange(own, "scheduler", to=BEFORE)
    place.create(*sharing("too-early", request(memory="4Gi", cores="30", cel=SMALL)))
    place.event("too-early", "there is no shareID")
    waiting.eventually(
        lambda: _condition(own, "HandedOver").get("reason") == "SharesNotKnown",
        what="the condition says why",
    )
    assert cards.NVIDIA_24.device not in own.devices_of(own.slices())
    assert place.pod("newer")["status"]["phase"] == "Running"
    _exchange(own, "scheduler")
    place.delete("too-early")
    own.wait_all_offered()
    place.create(*sharing("in-time", SHARE))
    place.running("in-time")
    assert (place.seen("in-time").memory_mib(0), place.seen("in-time").cores(0)) == (4096, 30)


def test_nothing_was_over_committed_and_the_allocators_took_turns(watcher: Watcher, history: History) -> None:
    # An API server that was started anew cannot resume a watch from before.
    assert not [one for one in watcher.violations if "states were missed" not in one]
    assert not history.changed
    assert [by for by, _ in history.turns()] == [OURS, SCHEDULER]
