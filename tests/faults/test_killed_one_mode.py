"""The agent dies by SIGKILL at each system call while it puts an AMD card into a mode, or gives it back.

The real agent, real gRPC and real files on a folder that stands for the node's root; a thread stands for
amdgpu, and cuts the card a moment after its mode was written, so that a claim may have to ask twice. After
each death the agent is started on what is left and has to:

* answer the same CDI ids, or forget the claim entirely if the kubelet unprepares it;
* give the claim its partition, in a card that is in its mode;
* refuse what needs another mode, and give out what does not;
* leave the other card in the mode that it is in, and leave nothing behind of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.faults.test_killed_partitioning import OPERATIONS, SAMPLE, Point, cdi_id
from tests.support.agent_process import AgentProcess, NodeFolders, node_folders
from tests.support.amd_node import AmdCard, AmdKernel, AmdNode
from tests.support.killing import killed_while
from tests.support.node_world import claim, pod, result, uid_of
from tests.support.tracing import Calls, need_strace, threads_of, traced

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.support.node_world import JSON

pytestmark = [pytest.mark.strace, pytest.mark.timeout(1800)]

POLICY = {
    "apiVersion": "dragoman.dev/v1alpha1",
    "kind": "AcceleratorPolicy",
    "metadata": {"name": "dynamic"},
    "spec": {"partitions": "Dynamic", "isolation": ["none"]},
}
READS = frozenset(
    {"read", "newfstatat", "fstat", "openat", "close", "readlink", "lseek", "getdents64", "ioctl"}
)
READS_APART = 29
_PATIENCE_S = 60.0


class Node:
    """A node with two cards: the claims', and one that is cut already."""

    def __init__(self, folders: NodeFolders) -> None:
        self.folders = folders
        self.card, other = AmdCard(number=0), AmdCard(number=1, mode="CPX")
        root = folders.base / "root"
        self.cards = AmdNode(root, [self.card, other], folders=1 + 16).install()
        self.mode = root / self.card.function / "current_compute_partition"
        self.other_mode = root / other.function / "current_compute_partition"
        self.kernel = AmdKernel(self.cards, self.card, file=self.mode)
        self.kernel.start()
        (folders.base / "policies.yaml").write_text(yaml.safe_dump(POLICY))
        self.agent = AgentProcess(folders, host_root=root)
        self.ours = self._claim("ours", self.card.part("CPX", 3))
        self.fits = self._claim("fits", self.card.part("CPX", 7))
        self.overlaps = self._claim("overlaps", self.card.part("DPX", 1))
        self.whole = claim(
            "whole", result(device=self.card.name, memory="1Gi"), pods=("whole",), owner="whole"
        )
        self.warm_up = self._claim("warm-up", other.part("CPX", 5))
        for found in (self.ours, self.fits, self.overlaps, self.whole, self.warm_up):
            name = found["metadata"]["name"]
            folders.put(found, pod(name, claims={"gpu": name}))

    @staticmethod
    def _claim(name: str, device: str) -> JSON:
        return claim(name, result(device=device, share=""), pods=(name,), owner=name)

    def begin(self, operation: str) -> frozenset[int]:
        """Lives, arranges what the operation needs, and tells which threads do its work."""
        if not hasattr(self.agent, "process") or not self.agent.alive:
            self.agent.start()
        with traced(threads_of(self.agent.process.pid)) as calls:
            for _ in range(2):
                self.prepare(self.warm_up)
                self.agent.unprepare(self.warm_up)
        if operation == "prepare":
            self.mode.write_text("SPX\n")
            self._wait_for("SPX")
        else:
            self.prepare(self.ours)
        if operation == "prepare again":
            for path in self.folders.cdi.iterdir():
                path.unlink()
        return self._workers(calls)

    def prepare(self, wanted: JSON) -> None:
        """As the kubelet does: again, as long as waiting helps."""
        uid, deadline = wanted["metadata"]["uid"], time.monotonic() + _PATIENCE_S
        while isinstance(said := self.agent.prepare(wanted)[uid], str):
            assert "tries again" in said, said
            assert time.monotonic() < deadline, said
        assert len(said) == 1
        assert said[0].startswith(cdi_id(wanted))

    def run(self, operation: str) -> None:
        if operation == "unprepare":
            assert self.agent.unprepare(self.ours) == {uid_of("ours"): ""}
        else:
            self.prepare(self.ours)

    def dies_at(self, operation: str, point: Point) -> bool:
        """Whether the agent died before it had answered; the point does not exist otherwise."""
        threads = self.begin(operation)
        died, _ = killed_while(
            self.agent, lambda: self.run(operation), threads=threads, at=(point.call, point.number)
        )
        if died:
            return True
        self.agent.unprepare(self.ours)
        return False

    def check(self, operation: str, point: Point) -> None:
        """Starts the agent on what is left, and looks."""
        context = f"{operation} killed at {point}"
        self.agent.start()
        if operation == "unprepare" or point.number % 2 == 0:
            assert self.agent.unprepare(self.ours) == {uid_of("ours"): ""}, context
        else:
            self.prepare(self.ours)
            assert self.card.mode == "CPX", context
            assert self.card.render(3) in self._given(self.ours), context
            for refused in (self.overlaps, self.whole):
                uid = refused["metadata"]["uid"]
                assert "needs the same part of the card" in self.agent.prepare(refused)[uid], context
        self.prepare(self.fits)
        assert self.card.render(7) in self._given(self.fits), context
        held = (self.ours, self.fits, self.overlaps, self.whole)
        assert set(self.agent.unprepare(*held).values()) == {""}, context
        self.prepare(self.whole)
        assert self.mode.read_text() == "SPX\n", context
        assert self.agent.unprepare(self.whole) == {uid_of("whole"): ""}, context
        assert self.other_mode.read_text() == "CPX\n", context
        left = [self.folders.names(folder) for folder in (self.folders.records, self.folders.cdi)]
        assert left == [[], []], context

    def points(self, operation: str) -> list[Point]:
        """All points of an operation, as an unharmed run has them."""
        self.begin(operation)
        with traced(threads_of(self.agent.process.pid)) as calls:
            self.run(operation)
        self.agent.unprepare(self.ours)
        return [
            Point(call, number)
            for call, count in sorted(calls.counts(self._workers(calls)).items())
            for number in range(1, count + 1)
        ]

    def _given(self, wanted: JSON) -> str:
        (file,) = (path for path in self.folders.cdi.iterdir() if wanted["metadata"]["uid"] in path.name)
        return file.read_text()

    def _workers(self, calls: Calls) -> frozenset[int]:
        base = self.folders.base
        return calls.touching(f"{base}/state", f"{base}/cdi", "current_compute_partition")

    def _wait_for(self, mode: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self.card.mode != mode:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def node() -> Iterator[Node]:
    need_strace()
    with node_folders(cards=[]) as folders:
        node = Node(folders)
        try:
            yield node
        finally:
            node.kernel.over.set()
            node.kernel.join()
            if hasattr(node.agent, "process"):
                node.agent.kill()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_may_die_at_some_system_calls_while_it_sets_a_mode(
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
    tell(f"{operation}: killed at {len(died)} of {len(points)} points (a sample; more of them with --long)")
    assert len(died) == SAMPLE


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_may_die_at_every_system_call_that_changes_anything_while_it_sets_a_mode(
    node: Node, operation: str, tell: Callable[[str], None]
) -> None:
    died = 0
    for point in node.points(operation):
        if point.call in READS and point.number % READS_APART:
            continue
        if node.dies_at(operation, point):
            node.check(operation, point)
            died += 1
    tell(f"{operation}: killed at {died} points")
    assert died >= SAMPLE
