"""Mode controller in a storm: replicas that are killed, and an API server that refuses a part of the writes.

Flow: one stock cluster with more nodes than the machine has (`storm_nodes`); the controller's replicas are
processes here (`storm_controllers`); 200 pods with claims arrive while others end; a watcher adds up what is
held at each resourceVersion. In the end every pod is placed or was told why not.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.support import cards, proxy, waiting
from tests.cluster.support import stock as stock_kubernetes
from tests.cluster.support.api import EVENTS
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.space import open_space
from tests.cluster.support.storm_controllers import Replica, Replicas, replicas, scale
from tests.cluster.support.storm_load import Load
from tests.cluster.support.storm_nodes import Nodes, open_nodes
from tests.cluster.support.watcher import Watcher
from tests.support.tracing import kill_at, need_strace, threads_of, traced

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.timeout(3600)]

MANY = 200
FEW = 30
"""Claims of a run that everybody can wait for; `--long` has `MANY`."""
SIZES = [FEW, pytest.param(MANY, marks=pytest.mark.long)]
POINTS = 5
"""System calls at which the leader dies in such a run; `--long` tries all."""


@dataclass(frozen=True)
class World:
    """A cluster with many cards."""

    installed: Installation
    nodes: Nodes


@pytest.fixture(scope="module")
def world(images: Images) -> Iterator[World]:
    cluster = contextlib.contextmanager(stock_kubernetes.in_mode_controller)
    # The replicas here serve no webhook, and claims are made all the same.
    with cluster(images, purpose="storm", webhook={"quotaFailurePolicy": "Ignore"}) as installed:
        pool = f"{installed.node}/dragoman"
        own = {(pool, one.device): one.memory_mib for one in cards.ALL}
        with open_nodes(installed, names=("node-2", "node-3", "node-4"), cards=6, own=own) as nodes:
            yield World(installed, nodes)


@pytest.fixture
def rng(pytestconfig: pytest.Config) -> random.Random:
    """Chance, by the seed of the run."""
    return random.Random(pytestconfig.getoption("--long-seed"))


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints figures, also when the test passes."""

    def say(sentence: str) -> None:
        with capsys.disabled():
            print(f"\n  {sentence}")  # noqa: T201 - the figures belong into the run's log

    return say


@pytest.fixture
def load(world: World, rng: random.Random) -> Iterator[Load]:
    """Templates of claims, stored while the chart's own replicas run and their webhook answers."""
    scale(world.installed, 2)
    space = open_space(world.installed.api, "storm")
    found = Load(space, rng)
    waiting.eventually(
        lambda: found.is_stamped(world.installed.api), what="the webhook stamps what is stored"
    )
    found.store_templates()
    yield found
    found.end(list(found.asks))
    world.installed.expect_nothing_left(space.close())


@dataclass
class Storm:
    """What a test is given: a cluster, pods to make, a watcher, chance, a folder, and a voice."""

    world: World
    load: Load
    watcher: Watcher
    rng: random.Random
    folder: Path
    tell: Callable[[str], None]
    began: float

    @property
    def installed(self) -> Installation:
        """The installation that the storm is about."""
        return self.world.installed

    def verdict(self, group: Replicas, what: str) -> None:
        """What has to hold in the end, whatever the storm was."""
        load, watcher = self.load, self.watcher
        try:
            outcome = load.wait_settled(watcher, seconds=600)
        except waiting.Waited as waited:
            raise AssertionError(f"{waited}\n{group.logs()}") from None
        used = [most for most in watcher.most.values() if most.holders]
        self.tell(
            f"{what}; {len(load.asks)} claims: {outcome.placed} placed, explained {outcome.explained}; "
            f"{watcher.states} states of claims recorded, {len(watcher.given)} allocations, "
            f"{watcher.taken_back} taken back; most held of a card at once: "
            f"{max(one.mib for one in used)} MiB, {max(one.percent for one in used)} %, "
            f"{max(one.holders for one in used)} claims; {time.monotonic() - self.began:.0f} s"
        )
        assert watcher.violations == []
        assert group.unexpected() == []
        # A pod that passes is deleted at once while no container of it runs, so its kubelet may be preparing
        # its claim and is told, rightly, that the pod is gone (seen once in CI). Who is given its share at
        # once comes to the node before that has given the share back, and is told to wait.
        failed = [
            event["message"]
            for event in load.space.api.list(EVENTS, namespace=load.space.name)
            if event["reason"] == "FailedPrepareDynamicResources"
            and event["involvedObject"]["name"] in load.asks
            and "What stands in the way is being released." not in event["message"]
        ]
        assert not failed
        assert outcome.placed >= min(len(load.asks), 25)
        assert outcome.explained.keys() <= {"NoDevice"}


@pytest.fixture
def storm(
    world: World, load: Load, rng: random.Random, tmp_path: Path, tell: Callable[[str], None]
) -> Iterator[Storm]:
    with Watcher(world.installed.api, world.nodes.capacity) as watcher:
        yield Storm(world, load, watcher, rng, tmp_path, tell, time.monotonic())


@dataclass
class Stream:
    """Claims that arrive bit by bit, and others that pass: they end a while later."""

    load: Load
    left: int
    passing: list[list[str]]

    def arrive(self, count: int) -> None:
        """So many claims more arrive, as long as there are any, and one that passes."""
        count = min(count, self.left)
        self.left -= count
        self.load.make(count)
        self.passing.append(self.load.make(1))
        if len(self.passing) > 4:
            self.load.end(self.passing.pop(0))

    def stop(self) -> None:
        """All that pass are gone."""
        for names in self.passing:
            self.load.end(names)
        self.passing.clear()


@pytest.mark.parametrize("claims", SIZES)
def test_the_leader_is_killed_again_and_again(storm: Storm, claims: int) -> None:
    kills, stream = 0, Stream(storm.load, claims, [])
    with replicas(storm.installed, folder=storm.folder) as group:
        while stream.left:
            leader = group.leader()
            stream.arrive(8)
            time.sleep(storm.rng.uniform(0.0, 1.5))  # the moment at which it dies is what is tried
            leader.kill()
            kills += 1
            group.replace(leader)
        stream.stop()
        storm.verdict(group, f"{kills} leaders killed by kill -9")


def _calls_of_a_write(leader: Replica, storm: Storm) -> list[tuple[str, int]]:
    """The system calls of a leader while a claim arrives and is written: name and number."""
    threads = threads_of(leader.process.pid)
    with traced(threads) as calls:
        (name,) = storm.load.make(1)
        waiting.eventually(lambda: name in storm.load.placed(storm.watcher), what="the first claim is placed")
    counts = calls.counts(threads)
    return [(call, number) for call in sorted(counts) for number in range(1, counts[call] + 1)]


def _dies_at(leader: Replica, call: str, number: int, work: Callable[[], None]) -> bool:
    """Whether the leader died at a thread's N-th call of a kind while there was work."""
    with traced(threads_of(leader.process.pid), options=kill_at(call, number)):
        work()
        with contextlib.suppress(subprocess.TimeoutExpired):
            leader.process.wait(10)
    # It may die while strace lets go of it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        leader.process.wait(1)
    if leader.alive:
        return False
    assert leader.ended() == -9
    return True


@pytest.mark.strace
@pytest.mark.parametrize("claims", SIZES)
def test_the_leader_is_killed_at_the_system_calls_of_a_write(storm: Storm, claims: int) -> None:
    need_strace()
    died: list[tuple[str, int]] = []
    with replicas(storm.installed, folder=storm.folder) as group:
        points = _calls_of_a_write(group.leader(), storm)
        storm.rng.shuffle(points)
        wanted = len(points) if claims == MANY else POINTS
        stream = Stream(storm.load, claims - 1, [])
        # A leader does not come to each of them each time: of few, so many are tried that some are met.
        for call, number in points if claims == MANY else points[: 3 * POINTS]:
            if len(died) == wanted:
                break
            leader = group.leader()
            some = max(1, stream.left // (wanted - len(died)))
            if _dies_at(leader, call, number, partial(stream.arrive, some)):
                died.append((call, number))
                group.replace(leader)
        stream.arrive(stream.left)
        stream.stop()
        names = ", ".join(sorted({call for call, _ in died}))
        storm.verdict(group, f"killed at {len(died)} of {len(points)} system calls ({names})")
    assert len(died) >= wanted // 2


@pytest.mark.parametrize("claims", SIZES)
def test_the_api_server_refuses_30_percent_of_the_writes(storm: Storm, claims: int) -> None:
    stream = Stream(storm.load, claims, [])
    target, seed = storm.installed.target, storm.rng.randrange(1 << 30)
    with proxy.refusing(target, folder=storm.folder, share=0.3, watch_s=5.0, seed=seed) as between:
        with replicas(storm.installed, folder=storm.folder, arguments=(), through=between) as group:
            group.leader()
            while stream.left:
                stream.arrive(4)
                time.sleep(0.5)  # a steady arrival
            stream.stop()
            storm.verdict(group, "30 % of the writes refused")
        figures = between.figures()
    storm.tell(f"the proxy: {dict(sorted(figures.items()))}")
    # Chance alone is far from this, as long as there are a hundred writes.
    assert figures["faults"] >= 0.15 * figures["writes"]
    assert figures["watches cut off"] > 0
