"""The agent dies by SIGKILL at each system call while it makes or removes a MIG instance.

The real agent, real gRPC, real files, and a mock NVML whose instances outlive the agent; its own system calls
are among those at which the agent dies. After each death the agent is started on what is left and has to:

* answer the same CDI ids, or forget the claim entirely if the kubelet unprepares it;
* have one instance for each claim that it holds, never two, and none without a claim;
* refuse what needs the same slots;
* leave alone what somebody else made, and leave nothing behind of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.agent_process import AgentProcess, NodeFolders, node_folders
from tests.support.killing import killed_while
from tests.support.mig_node import P_1G, P_2G, P_3G, MigNode
from tests.support.node_world import claim, pod, result, uid_of
from tests.support.tracing import Calls, need_strace, threads_of, traced

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.support.node_world import JSON

pytestmark = [pytest.mark.strace, pytest.mark.timeout(1800)]

OPERATIONS = ("prepare", "prepare again", "unprepare")
SAMPLE = 6
"""Points of each operation in every run; `--long` tries all."""
READS = frozenset({"read", "newfstatat", "fstat", "openat", "close", "readlink", "lseek"})
READS_APART = 17
DYNAMIC = {
    "apiVersion": "dragoman.dev/v1alpha1",
    "kind": "AcceleratorPolicy",
    "metadata": {"name": "dynamic"},
    "spec": {"partitions": "Dynamic"},
}


def _claim(name: str, device: str) -> JSON:
    return claim(name, result(device=device, share=""), pods=(name,), owner=name)


@dataclass(frozen=True)
class Point:
    """Where the agent dies: at a thread's N-th call of a kind."""

    call: str
    number: int


class Node:
    """A node with two cards: the claim's, and one on which somebody else has an instance."""

    def __init__(self, folders: NodeFolders) -> None:
        self.folders = folders
        self.cards = MigNode(folders.base / "driver").install(modes=(0, 1))
        self.cards.make(1, number=9, profile=P_3G, start=0, size=4)
        (folders.base / "policies.yaml").write_text(yaml.safe_dump(DYNAMIC))
        self.agent = AgentProcess(folders, driver_root=self.cards.root)
        self.ours = _claim("ours", self.cards.part(0, P_3G, 4, 4))
        self.neighbour = _claim("neighbour", self.cards.part(1, P_1G, 6, 1))
        self.fits = _claim("fits", self.cards.part(0, P_1G, 3, 1))
        self.overlaps = _claim("overlaps", self.cards.part(0, P_2G, 4, 2))
        self.whole = claim(
            "whole", result(device=self.cards.card(0), memory="1Gi"), pods=("whole",), owner="whole"
        )
        self.warm_up = _claim("warm-up", self.cards.part(1, P_1G, 5, 1))
        self.threads: set[int] = set()
        for found in (self.ours, self.neighbour, self.fits, self.overlaps, self.whole, self.warm_up):
            name = found["metadata"]["name"]
            folders.put(found, pod(name, claims={"gpu": name}))

    def begin(self, operation: str) -> frozenset[int]:
        """Lives, arranges what the operation needs, and tells which threads do its work."""
        if not hasattr(self.agent, "process") or not self.agent.alive:
            self.agent.start()
            self.threads.clear()
        assert isinstance(self.agent.prepare(self.neighbour)[uid_of("neighbour")], list)
        for _ in range(2):
            self.agent.prepare(self.warm_up)
            self.agent.unprepare(self.warm_up)
        with traced(threads_of(self.agent.process.pid)) as calls:
            self.agent.prepare(self.warm_up)
            self.agent.unprepare(self.warm_up)
        self.threads |= self._workers(calls)
        if operation == "prepare":
            self.cards.switch_off(0)
        else:
            assert isinstance(self.agent.prepare(self.ours)[uid_of("ours")], list)
        if operation == "prepare again":
            for path in self.folders.cdi.iterdir():
                path.unlink()
        return frozenset(self.threads)

    def _workers(self, calls: Calls) -> frozenset[int]:
        base = self.folders.base
        return calls.touching(*(f"{base}/{name}" for name in ("state", "cdi")), "mock-nvml.txt.mig.lock")

    def run(self, operation: str) -> None:
        if operation == "unprepare":
            assert self.agent.unprepare(self.ours) == {uid_of("ours"): ""}
        else:
            assert self.agent.prepare(self.ours) == {uid_of("ours"): [cdi_id(self.ours)]}

    def dies_at(self, operation: str, point: Point) -> bool:
        """Whether the agent died before it had answered; the point does not exist otherwise."""
        for _ in range(10):
            died = self._try(operation, point)
            if died is not None:
                return died
        raise AssertionError(f"other threads did the work, ten times: {point}")

    def _try(self, operation: str, point: Point) -> bool | None:
        threads = self.begin(operation)
        died, calls = killed_while(
            self.agent, lambda: self.run(operation), threads=threads, at=(point.call, point.number)
        )
        if died:
            return True
        self.agent.unprepare(self.ours)
        return None if not calls.counts(threads) else False

    def check(self, operation: str, point: Point) -> None:
        """Starts the agent on what is left, and looks."""
        context = f"{operation} killed at {point}"
        agent = self.agent
        assert len(self.cards.instances(0)) <= len(self.notes()), context
        agent.start()
        self.threads.clear()
        forget = operation == "unprepare" or point.number % 2 == 0
        if forget:
            assert agent.unprepare(self.ours) == {uid_of("ours"): ""}, context
            assert self.cards.instances(0) == [], context
        else:
            assert agent.prepare(self.ours) == {uid_of("ours"): [cdi_id(self.ours)]}, context
            assert self.cards.instances(0) == [(P_3G, 4)], context
            assert self.cards.compute_instances(0) == 1, context
            for refused in (self.overlaps, self.whole):
                uid = refused["metadata"]["uid"]
                assert "needs the same part of the card" in agent.prepare(refused)[uid], context
        assert agent.prepare(self.fits) == {uid_of("fits"): [cdi_id(self.fits)]}, context
        assert agent.prepare(self.neighbour) == {uid_of("neighbour"): [cdi_id(self.neighbour)]}, context
        held = (self.ours, self.fits, self.overlaps, self.whole, self.neighbour)
        assert set(agent.unprepare(*held).values()) == {""}, context
        assert self.cards.instances(0) == [], context
        # What an administrator made is there as it was.
        assert self.cards.instances(1) == [(P_3G, 0)], context
        assert self.cards.compute_instances(1) == 1, context
        assert (self.notes(), self.records(), self.cdi()) == ([], [], []), context

    def notes(self) -> list[str]:
        found = self.folders.names(self.folders.state / "partitions")
        return [name for name in found if not name.endswith(".lock") and uid_of("neighbour") not in name]

    def records(self) -> list[str]:
        return self.folders.names(self.folders.records)

    def cdi(self) -> list[str]:
        return self.folders.names(self.folders.cdi)

    def points(self, operation: str) -> list[Point]:
        """All points of an operation, as an unharmed run has them."""
        self.begin(operation)
        with traced(threads_of(self.agent.process.pid)) as calls:
            self.run(operation)
        self.agent.unprepare(self.ours)
        workers = self._workers(calls)
        return [
            Point(call, number)
            for call, count in sorted(calls.counts(workers).items())
            for number in range(1, count + 1)
        ]


def cdi_id(found: JSON) -> str:
    device = found["status"]["allocation"]["devices"]["results"][0]["device"]
    return f"dragoman.dev/share={found['metadata']['uid']}.gpu.{device}"


@pytest.fixture
def node() -> Iterator[Node]:
    need_strace()
    with node_folders(cards=[]) as folders:
        node = Node(folders)
        try:
            yield node
        finally:
            if hasattr(node.agent, "process"):
                node.agent.kill()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_may_die_at_some_system_calls_of_partitioning(
    node: Node, operation: str, rng: random.Random, tell: Callable[[str], None]
) -> None:
    points = node.points(operation)
    died: list[Point] = []
    for point in rng.sample(points, len(points)):
        if len(died) == SAMPLE:
            break
        if node.dies_at(operation, point):
            died.append(point)
            node.check(operation, point)
    tell(f"{operation}: killed at {len(died)} of {len(points)} points (a sample; all of them with --long)")
    assert len(died) == SAMPLE


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_may_die_at_every_system_call_of_partitioning_that_changes_anything(
    node: Node, operation: str, tell: Callable[[str], None]
) -> None:
    calls = sorted({point.call for point in node.points(operation)})
    died = 0
    for call in calls:
        # The mock library reads its files anew for each question: between two changes all points are alike.
        step = READS_APART if call in READS else 1
        number = 1
        while node.dies_at(operation, Point(call, number)):
            node.check(operation, Point(call, number))
            died += 1
            number += step
    tell(f"{operation}: killed at {died} points, until it ended unharmed for each of {len(calls)} calls")
    assert died >= 40
