"""A node whose agent is dead for a minute, in mode controller: nothing new there, and nothing lost.

Flow: a stock cluster; a pod runs; the agent's process is killed, and its DaemonSet kept from bringing it
back; pods that arrive meanwhile wait; then the agent may come back.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from driver.kube.resources import PODS
from tests.cluster.support import cards, waiting
from tests.cluster.support import stock as stock_kubernetes
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.watcher import Watcher

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

AWAY = {"dragoman.dev/tests-nowhere": "true"}
DEAD_S = 60
ASK = request(memory="1Gi", cores="10", cel=cards.on(cards.NVIDIA_40))


@pytest.fixture(scope="module")
def stock(images: Images) -> Iterator[Installation]:
    yield from stock_kubernetes.in_mode_controller(images, purpose="agent")


@pytest.fixture
def space(stock: Installation) -> Iterator[Space]:
    one = open_space(stock.api, "agent")
    yield one
    stock.expect_nothing_left(one.close())


@pytest.fixture
def watcher(stock: Installation) -> Iterator[Watcher]:
    pool = f"{stock.node}/dragoman"
    with Watcher(stock.api, {(pool, one.device): one.memory_mib for one in cards.ALL}) as found:
        yield found


def _kill_for_good(stock: Installation) -> None:
    """The agent's process dies, and nothing brings it back."""
    name, uid = (stock.agent()["metadata"][key] for key in ("name", "uid"))
    pid, *_ = stock.target.node.container_pids(pod_uid=uid, container=stock.agent_container)
    stock.patch_agent_selector(AWAY)
    # The DaemonSet may have ended it by now.
    stock.target.node.run("sh", "-c", f"kill -{int(signal.SIGKILL)} {pid} || true")
    stock.kill_pod(name)
    waiting.wait_gone(stock.api, PODS, name, namespace=stock.namespace)


def test_while_the_agent_is_dead_nothing_is_allocated_on_its_node_and_what_runs_runs_on(
    stock: Installation, space: Space, watcher: Watcher
) -> None:
    space.create(*sharing("holder", ASK))
    (before,) = space.running("holder")
    held = space.claim_of("holder")["status"]["allocation"]
    files = {name: stock.read_cdi(name) for name in stock.cdi_files()}

    try:
        _kill_for_good(stock)
        time.sleep(5)  # the controller hears of it when we do, or a moment later
        allocated = len(watcher.given)
        names = [f"meanwhile-{number}" for number in range(5)]
        for name in names:
            space.create(*sharing(name, ASK))
        for name in names:
            space.event(name, "No node offers cards", reason="NoNode")
        time.sleep(DEAD_S)  # the fault itself: an agent that is away for a minute
        watcher.settle()
        assert watcher.given[allocated:] == [], "something was allocated on a node without an agent"
        after = space.pod("holder")
        assert _containers(after) == _containers(before), "the running container was disturbed"
        assert space.claim_of("holder")["status"]["allocation"] == held
        assert {name: stock.read_cdi(name) for name in stock.cdi_files()} == files
    finally:
        stock.patch_agent_selector(dict.fromkeys(AWAY))

    space.running(*names)
    for name in names:
        assert (space.seen(name).memory_mib(0), space.seen(name).cores(0)) == (1024, 10)
    assert _containers(space.pod("holder")) == _containers(before)
    assert watcher.violations == []


def _containers(one: dict[str, object]) -> list[tuple[str, int]]:
    status = one["status"]
    assert isinstance(status, dict)
    return [(found["containerID"], found["restartCount"]) for found in status["containerStatuses"]]
