"""What can only be tried by ending parts of a cluster: one cluster for all of this file, in order.

Flow: install the chart of the previous commit, upgrade it with pods running, roll back and forward; take the
API server away; then uninstall, refused first and forced afterwards, and look what is left.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from driver.kube.resources import PODS, RESOURCE_CLAIMS
from tests.cluster.support import cards, previous, waiting
from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.own_cluster import bare_cluster
from tests.cluster.support.space import Space, containers_of, open_space

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

ASK = request(memory="1Gi", cores="10", cel=cards.on(cards.NVIDIA_40))


@pytest.fixture(scope="module")
def own(images: Images, kubernetes_version: str) -> Iterator[Installation]:
    """What is to be installed in a cluster: first as the previous commit has it, if that has a chart."""
    with bare_cluster(purpose="own", version=kubernetes_version) as target:
        images.load(target)
        yield Installation(target, images=images)


@pytest.fixture(scope="module")
def place(own: Installation) -> Space:
    """One namespace for all tests of this file: what runs in it lives through all of them."""
    return open_space(own.target.api, "own")


@pytest.fixture(scope="module")
def upgraded(own: Installation, place: Space) -> list[JSON]:
    """The pod before, after the upgrade, after the rollback and after the second upgrade."""
    older = previous.checkout()
    if older is None:
        own.install()
    else:
        own.install(chart=older.chart, image=own.load_previous(older))
    own.wait_ready()
    place.create(*sharing("holder", ASK))
    place.running("holder")
    states = [place.pod("holder")]
    if older is None:
        return states
    own.install()
    own.wait_ready()
    states.append(place.pod("holder"))
    place.create(*sharing("after-upgrade", ASK))
    place.running("after-upgrade")
    own.rollback()
    own.wait_ready()
    states.append(place.pod("holder"))
    place.create(*sharing("after-rollback", ASK))
    place.running("after-rollback")
    own.install()
    own.wait_ready()
    states.append(place.pod("holder"))
    place.delete("after-upgrade", "after-rollback")
    return states


def test_running_pods_do_not_notice_an_upgrade_from_the_previous_commit_and_a_rollback(
    upgraded: list[JSON],
) -> None:
    if len(upgraded) == 1:
        pytest.skip("not run: the previous commit has no chart to upgrade from")
    first, *later = upgraded
    for one in later:
        assert containers_of(one) == containers_of(first)


def test_a_claim_is_prepared_once_the_api_server_is_back(
    upgraded: list[JSON], own: Installation, place: Space
) -> None:
    node = own.own_node
    place.create(*sharing("during", ASK, gated=True))
    place.wait_pod("during", place.claim_name, what="has its claim")
    place.api.patch(PODS, "during", {"spec": {"schedulingGates": None}}, namespace=place.name)
    place.wait_pod("during", lambda one: one["spec"].get("nodeName"), what="is placed")
    node.stop_component("apiserver", kill=True)
    node.start_component("apiserver")

    place.running("during")
    assert (place.seen("during").memory_mib(0), place.seen("during").cores(0)) == (1024, 10)


def test_a_kubelet_that_starts_while_the_api_server_is_away_ends_with_slices_and_working_pods(
    upgraded: list[JSON], own: Installation, place: Space
) -> None:
    node = own.own_node
    before = containers_of(place.pod("holder"))
    waiting.eventually(own.connected_to_kubelet, what="the agent has its kubelet")
    node.stop_component("apiserver")
    node.stop_kubelet()
    waiting.eventually(lambda: not own.connected_to_kubelet(), what="the agent lost the kubelet")
    starting = threading.Thread(target=node.start_kubelet)
    starting.start()
    try:
        # The kubelet finds the agent's socket on its own; the API server comes back only after that.
        waiting.eventually(own.connected_to_kubelet, what="the kubelet has found the agent")
    finally:
        node.start_component("apiserver")
        starting.join()

    own.wait_all_offered()
    place.create(*sharing("later", ASK))
    place.running("later")
    assert containers_of(place.pod("holder")) == before


def test_uninstalling_with_live_claims_is_refused_and_lists_them(
    upgraded: list[JSON], own: Installation, place: Space
) -> None:
    claim = place.claim_of("holder")["metadata"]["name"]
    done = own.uninstall()
    assert done.returncode != 0
    assert f"{place.name}/{claim}" in own.uninstall_words(done)
    own.wait_ready()
    place.create(*sharing("still", ASK))
    place.running("still")


def test_a_forced_uninstall_removes_what_the_chart_made(
    upgraded: list[JSON], own: Installation, place: Space
) -> None:
    done = own.uninstall(force=True)
    assert done.returncode == 0, done.stderr
    own.wait_nothing_runs()
    # A forced uninstall does not reach into running containers; and nothing is offered any more.
    assert waiting.running(place.pod("holder"))
    own.wait_slices(lambda now: not now, what="the kubelet took the slices away")


def test_an_installation_afterwards_takes_the_running_claims_up_again(
    upgraded: list[JSON], own: Installation, place: Space
) -> None:
    uids = [one["metadata"]["uid"] for one in place.claims()]
    own.install()
    own.wait_ready()
    own.wait_all_offered()
    assert place.seen("holder").memory_mib(0) == 1024
    place.close()
    own.expect_nothing_left(uids)
    assert not place.api.list(RESOURCE_CLAIMS, namespace=place.name)
    done = own.uninstall()
    assert done.returncode == 0, done.stderr
