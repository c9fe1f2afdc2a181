"""The agent, the kubelet and the node's files come and go; running pods keep what they have."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from driver.kube.resources import ACCELERATOR_POLICIES, PODS, RESOURCE_SLICES
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import DAEMON_SETS, EVENTS, JSON
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import pod, request, sharing, template
from tests.cluster.support.space import Space

pytestmark = [pytest.mark.cluster, pytest.mark.node]

ASK = request(memory="1Gi", cores="10", cel=cards.on(cards.NVIDIA_40))


def _containers(one: JSON) -> list[tuple[str, int]]:
    return [(status["containerID"], status["restartCount"]) for status in one["status"]["containerStatuses"]]


def _cdi(installed: Installation, uid: str) -> dict[str, bytes]:
    """The CDI files of a claim: name and content."""
    return {name: installed.read_cdi(name) for name in installed.cdi_files() if uid in name}


@pytest.fixture
def holder(space: Space) -> Iterator[JSON]:
    """A running pod with a share, which must not notice anything."""
    space.create(*sharing("holder", ASK))
    (before,) = space.running("holder")
    yield before
    after = space.pod("holder")
    assert _containers(after) == _containers(before), "the running container was disturbed"


def _new_pod_works(space: Space, name: str = "new") -> None:
    space.create(*sharing(name, ASK))
    space.running(name)
    assert (space.seen(name).memory_mib(0), space.seen(name).cores(0)) == (1024, 10)


def test_an_agent_that_is_killed_comes_back_with_the_same_cdi_files(
    space: Space, installed: Installation, holder: JSON
) -> None:
    uid = space.claim_of("holder")["metadata"]["uid"]
    before = _cdi(installed, uid)
    agent = installed.agent()
    (pid, *_) = installed.target.node.container_pids(
        pod_uid=agent["metadata"]["uid"], container=installed.agent_container
    )
    installed.target.node.signal(pid, signal.SIGKILL)

    restarts = agent["status"]["containerStatuses"][0]["restartCount"]
    installed.wait_agent(lambda one: one["status"]["containerStatuses"][0]["restartCount"] > restarts)
    assert before
    assert _cdi(installed, uid) == before
    _new_pod_works(space)


def test_pods_start_without_a_gap_while_the_agent_is_updated(
    space: Space, installed: Installation, holder: JSON
) -> None:
    old = installed.agent()["metadata"]["uid"]
    space.create(template("share", request(memory="64Mi", cel=cards.on(cards.NVIDIA_40))))
    installed.restart_agent_softly()
    names: list[str] = []

    def replaced() -> bool:
        name = f"p{len(names)}"
        names.append(name)
        space.create(pod(name, templates={"card": "share"}))
        # A steady arrival of pods is what this test is about; no node takes more than 110 of them.
        time.sleep(0.4 if len(names) < 50 else 5.0)
        return installed.agents() != [old] and old not in installed.agents()

    waiting.eventually(replaced, what="the new agent has taken over")
    space.running(*names)
    failed = [
        event
        for event in space.api.list(EVENTS, namespace=space.name)
        if event["reason"] == "FailedPrepareDynamicResources"
    ]
    assert not failed, [event["message"] for event in failed]
    # The old one may still be ending.
    waiting.eventually(lambda: installed.sockets_of(old) == [], what="it takes its sockets along")


def test_cdi_files_that_were_wiped_are_back_before_a_container_restarts(
    space: Space, installed: Installation
) -> None:
    space.create(*sharing("worker", ASK))
    (before,) = space.running("worker")
    uid = before["metadata"]["uid"]
    node = installed.target.node
    wiped = [node.cdi_folder / name for name in node.list_files(node.cdi_folder)]
    assert wiped
    node.remove_files(*wiped)
    (pid, *_) = node.container_pids(pod_uid=uid, container="app")
    node.signal(pid, signal.SIGKILL)

    space.wait_pod(
        "worker",
        lambda one: waiting.running(one) and one["status"]["containerStatuses"][0]["restartCount"] >= 1,
        what="runs again",
    )
    assert (space.seen("worker").memory_mib(0), space.seen("worker").cores(0)) == (1024, 10)


def test_slices_that_the_kubelet_wipes_at_its_start_are_made_again(
    space: Space, installed: Installation, holder: JSON
) -> None:
    before = installed.slices()
    installed.target.node.restart_kubelet()
    installed.wait_slices(
        lambda now: (
            installed.devices_of(now) == installed.devices_of(before)
            and {one["metadata"]["uid"] for one in now}.isdisjoint(one["metadata"]["uid"] for one in before)
        ),
        what="the kubelet's start wiped them, and all are there anew",
        # It may wipe them minutes after its start.
        seconds=2 * waiting.PATIENCE_S,
    )
    _new_pod_works(space)


def test_a_pod_deleted_while_the_kubelet_was_away_leaves_nothing_behind(
    space: Space, installed: Installation
) -> None:
    space.create(*sharing("gone", ASK))
    space.running("gone")
    uid = space.claim_of("gone")["metadata"]["uid"]
    node = installed.target.node
    node.kill_kubelet()
    try:
        space.api.delete(PODS, "gone", namespace=space.name, grace_s=0)
        waiting.wait_gone(space.api, PODS, "gone", namespace=space.name)
    finally:
        node.start_kubelet()
    # The kubelet finds the pod's remains and unprepares, or the agent's own collection does.
    installed.expect_nothing_left([uid], seconds=waiting.PATIENCE_S)


@pytest.fixture
def cut(installed: Installation) -> Iterator[Callable[[], None]]:
    """Cuts the agent, and nobody else, off from the API server; calling it again joins them."""
    node, table = installed.target.node, "dragoman_tests"
    address = installed.agent()["status"]["podIP"]
    done = False

    def begin_or_end() -> None:
        nonlocal done
        if done:
            node.run("nft", "delete", "table", "inet", table)
        else:
            chain = "{ type filter hook input priority 0 ; }"
            node.run("nft", "add", "table", "inet", table)
            node.run("nft", "add", "chain", "inet", table, "in", chain)
            port = ["tcp", "dport", "6443", "reject", "with", "tcp", "reset"]
            node.run("nft", "add", "rule", "inet", table, "in", "ip", "saddr", address, *port)
        done = not done

    yield begin_or_end
    if done:
        begin_or_end()


def test_a_claim_is_prepared_once_the_agent_reaches_the_api_server_again(
    space: Space, holder: JSON, cut: Callable[[], None]
) -> None:
    cut()
    space.create(*sharing("waiter", ASK))
    space.event("waiter", reason="FailedPrepareDynamicResources")

    cut()

    def runs() -> JSON | None:
        # By itself the kubelet looks again after more than a minute; the first look may come too soon.
        space.touch("waiter")
        return waiting.running(space.pod("waiter"))

    waiting.eventually(runs, what="the waiter runs", every=5.0)
    assert (space.seen("waiter").memory_mib(0), space.seen("waiter").cores(0)) == (1024, 10)


def test_a_share_on_a_card_that_was_excluded_meanwhile_survives_the_agent_and_the_kubelet(
    space: Space, installed: Installation
) -> None:
    space.create(*sharing("holder", ASK))
    space.running("holder")
    body = {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "AcceleratorPolicy",
        "metadata": {"name": "test-excluded-meanwhile"},
        "spec": {"cards": [{"uuid": cards.NVIDIA_40.uuid, "excluded": True}]},
    }
    space.api.apply(body)
    node = installed.target.node
    try:
        installed.wait_slices(
            lambda now: cards.NVIDIA_40.device not in installed.devices_of(now), what="it is not offered"
        )
        node.restart_kubelet()
        # The kubelet has forgotten what it prepared: a container that restarts is prepared anew.
        uid = space.pod("holder")["metadata"]["uid"]
        (pid, *_) = node.container_pids(pod_uid=uid, container="app")
        node.signal(pid, signal.SIGKILL)
        space.wait_pod(
            "holder",
            lambda one: waiting.running(one) and one["status"]["containerStatuses"][0]["restartCount"] >= 1,
            what="runs again",
        )
        assert (space.seen("holder").memory_mib(0), space.seen("holder").cores(0)) == (1024, 10)
    finally:
        space.api.delete(ACCELERATOR_POLICIES, "test-excluded-meanwhile")
        installed.wait_all_offered()


@pytest.mark.long
def test_an_agent_that_was_stopped_for_a_minute_publishes_again(
    space: Space, installed: Installation, holder: JSON
) -> None:
    agent = installed.agent()
    (pid, *_) = installed.target.node.container_pids(
        pod_uid=agent["metadata"]["uid"], container=installed.agent_container
    )
    installed.target.node.signal(pid, signal.SIGSTOP)
    try:
        time.sleep(60)  # the fault itself: a process that does not run for a minute
    finally:
        installed.target.node.signal(pid, signal.SIGCONT)
    installed.wait_all_offered()
    _new_pod_works(space)


@pytest.mark.long
def test_slices_go_while_the_agent_is_away_and_come_back_with_it(
    space: Space, installed: Installation, holder: JSON
) -> None:
    space.create(*sharing("deleted-meanwhile", ASK))
    space.running("deleted-meanwhile")
    uid = space.claim_of("deleted-meanwhile")["metadata"]["uid"]
    name = installed.daemon_set
    away = {"dragoman.dev/tests-nowhere": "true"}
    installed.patch_agent_selector(away)
    try:
        installed.wait_slices(lambda now: not now, what="the kubelet wiped them")
        space.api.delete(PODS, "deleted-meanwhile", namespace=space.name)
        time.sleep(10)  # long enough for a publisher that does not know better to write them again
        assert installed.slices() == []
    finally:
        installed.patch_agent_selector(dict.fromkeys(away))
    waiting.wait_for(
        space.api,
        DAEMON_SETS,
        name,
        lambda one: one["status"].get("numberReady") == 1,
        what="is ready",
        namespace=installed.namespace,
    )
    installed.wait_all_offered()
    waiting.wait_gone(space.api, PODS, "deleted-meanwhile", namespace=space.name)
    installed.expect_nothing_left([uid])
    _new_pod_works(space)


def test_after_something_like_a_reboot_each_claim_gets_the_same_share(
    space: Space, installed: Installation
) -> None:
    space.create(*sharing("survivor", ASK))
    space.running("survivor")
    uid = space.claim_of("survivor")["metadata"]["uid"]
    before = _cdi(installed, uid)
    node = installed.target.node
    node.stop_kubelet()
    try:
        for container in node.run("ctr", "-n", "k8s.io", "tasks", "list", "-q").split():
            # What has ended by itself meanwhile cannot be killed.
            kill = f"ctr -n k8s.io tasks kill --signal SIGKILL {container} || true"
            node.run("sh", "-c", kill)
        waiting.eventually(
            lambda: "RUNNING" not in node.run("ctr", "-n", "k8s.io", "tasks", "list"), what="nothing runs"
        )
        # What a reboot empties: the CDI folder and everything on tmpfs.
        node.remove_files(*(node.cdi_folder / name for name in node.list_files(node.cdi_folder)))
        node.run("sh", "-c", f"rm -rf {installed.share_dir}/*")
    finally:
        node.start_kubelet()
    space.wait_pod(
        "survivor",
        lambda one: waiting.running(one) and one["status"]["containerStatuses"][0]["restartCount"] >= 1,
        what="runs again",
    )
    installed.wait_agent(waiting.running)
    assert _cdi(installed, uid) == before
    assert (space.seen("survivor").memory_mib(0), space.seen("survivor").cores(0)) == (1024, 10)
    installed.wait_all_offered()


def test_slices_that_somebody_deletes_by_hand_come_back(space: Space, installed: Installation) -> None:
    before = installed.slices()
    for one in before:
        space.api.delete(RESOURCE_SLICES, one["metadata"]["name"])
    installed.wait_slices(
        lambda now: installed.devices_of(now) == installed.devices_of(before),
        what="all are there anew",
    )
