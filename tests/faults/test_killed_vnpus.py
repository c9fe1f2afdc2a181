"""The agent dies by SIGKILL while it makes or removes a vNPU: at its system calls, and at those to npu-smi.

The real agent, real gRPC and real files on a folder that stands for the node's root; a stand-in for npu-smi
keeps vNPUs in files that outlive the agent, and can kill whoever asks it, itself, or both, before and after
it has changed what it was asked to. After each death the agent is started on what is left and has to:

* answer the same CDI ids, or forget the claim entirely if the kubelet unprepares it;
* have one vNPU for each claim that it holds, never two, and none without a claim;
* refuse what needs the same slots, and a share of the chip;
* never have asked for a number that was taken, nor removed what was not there;
* leave alone what somebody else made, and leave nothing behind of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest
import yaml

from tests.faults.test_killed_partitioning import OPERATIONS, SAMPLE, Point, cdi_id
from tests.support.agent_process import AgentProcess, NodeFolders, node_folders
from tests.support.killing import killed_while
from tests.support.node_world import claim, pod, result, uid_of
from tests.support.tracing import Calls, need_strace, threads_of, traced
from tests.support.vnpu_node import CHIPS, HALF, SMALL, VnpuNode

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
    {"read", "newfstatat", "fstat", "openat", "close", "readlink", "lseek", "getdents64", "ioctl", "access"}
)
READS_APART = 29
ASKING = ("prepare", "unprepare")
"""What asks npu-smi: a claim's files are put back by what is on the disk."""
MOMENTS = ("asked", "changed", "told")
WHO = ("both", "other", "self")
_CHIP, _OTHER = CHIPS
_PATIENCE_S = 60.0
_MOST_CALLS = 40


class Node:
    """A node with two chips: the claims', and one on which somebody else has a vNPU."""

    def __init__(self, folders: NodeFolders) -> None:
        self.folders = folders
        self.chips = VnpuNode(folders.base / "root", folders.base / "npu").install()
        self.chips.make(_OTHER, HALF, 0)
        (folders.base / "policies.yaml").write_text(yaml.safe_dump(POLICY))
        self.agent = AgentProcess(folders, host_root=self.chips.root)
        self.ours = self._claim("ours", _CHIP.part(HALF, 2))
        self.fits = self._claim("fits", _CHIP.part(SMALL, 1))
        self.overlaps = self._claim("overlaps", _CHIP.part(SMALL, 3))
        self.whole = claim("whole", result(device=_CHIP.name, memory="1Gi"), pods=("whole",), owner="whole")
        self.warm_up = self._claim("warm-up", _OTHER.part(SMALL, 3))
        for found in (self.ours, self.fits, self.overlaps, self.whole, self.warm_up):
            name = found["metadata"]["name"]
            folders.put(found, pod(name, claims={"gpu": name}))

    @staticmethod
    def _claim(name: str, device: str) -> JSON:
        return claim(name, result(device=device, share=""), pods=(name,), owner=name)

    def begin(self, operation: str) -> frozenset[int]:
        """Lives, arranges what the operation needs, and tells which threads there are."""
        if not hasattr(self.agent, "process") or not self.agent.alive:
            self.agent.start()
        for _ in range(2):
            self.prepare(self.warm_up)
            self.unprepare(self.warm_up)
        if operation == "prepare":
            self.unprepare(self.ours)
        else:
            self.prepare(self.ours)
        if operation == "prepare again":
            for path in self.folders.cdi.iterdir():
                path.unlink()
        return frozenset(threads_of(self.agent.process.pid))

    def prepare(self, wanted: JSON) -> None:
        """As the kubelet does: again, as long as waiting helps."""
        uid, deadline = wanted["metadata"]["uid"], time.monotonic() + _PATIENCE_S
        while isinstance(said := self.agent.prepare(wanted)[uid], str):
            assert "tries again" in said or "npu-smi" in said, said
            assert time.monotonic() < deadline, said
        assert len(said) == 1
        assert said[0].startswith(cdi_id(wanted))

    def unprepare(self, held: JSON) -> None:
        """The same."""
        uid, deadline = held["metadata"]["uid"], time.monotonic() + _PATIENCE_S
        while said := self.agent.unprepare(held)[uid]:
            assert "npu-smi" in said, said
            assert time.monotonic() < deadline, said

    def run(self, operation: str) -> None:
        if operation == "unprepare":
            self.unprepare(self.ours)
        else:
            self.prepare(self.ours)

    def dies_at(self, operation: str, point: Point) -> bool:
        """Whether the agent died before it had answered; the point does not exist otherwise."""
        died, _ = killed_while(
            self.agent,
            lambda: self.run(operation),
            threads=self.begin(operation),
            at=(point.call, point.number),
            follow=False,
        )
        return died

    def asks(self, operation: str, *, call: int, moment: str, who: str) -> bool:
        """Has somebody die at a call to npu-smi; whether it came to that."""
        self.begin(operation)
        self.chips.kill(call=call, moment=moment, what=who)
        try:
            self.run(operation)
        except grpc.RpcError as broken:
            assert broken.code() is grpc.StatusCode.UNAVAILABLE, broken  # noqa: PT017 - no other way to end
            assert self.agent.ended() == -9
        # What still runs of it has done its part soon.
        deadline = time.monotonic() + 0.5
        while self.agent.alive and who != "self" and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.chips.spare()

    def check(self, operation: str, context: str, *, forget: bool) -> None:
        """Starts the agent on what is left, and looks."""
        assert len(self.chips.vnpus(_CHIP)) <= len(self.notes()), context
        if not self.agent.alive:
            self.agent.start()
        half, small = {_CHIP.number(2): HALF}, {_CHIP.number(1): SMALL}
        if forget or operation == "unprepare":
            assert self.agent.unprepare(self.ours) == {uid_of("ours"): ""}, context
            assert self.chips.vnpus(_CHIP) == {}, context
        else:
            self.prepare(self.ours)
            assert self.chips.vnpus(_CHIP) == half, context
            assert self.chips.vdavinci(_CHIP) == [f"/dev/vdavinci{_CHIP.number(2)}"], context
            assert f"/dev/vdavinci{_CHIP.number(2)}" in self._given(self.ours), context
            for refused in (self.overlaps, self.whole):
                uid = refused["metadata"]["uid"]
                assert "needs the same part of the card" in self.agent.prepare(refused)[uid], context
        self.prepare(self.fits)
        assert small.items() <= self.chips.vnpus(_CHIP).items(), context
        held = (self.ours, self.fits, self.overlaps, self.whole, self.warm_up)
        assert set(self.agent.unprepare(*held).values()) == {""}, context
        assert self.chips.vnpus(_CHIP) == {}, context
        assert self.chips.vdavinci(_CHIP) == [], context
        # The chip is whole again.
        self.prepare(self.whole)
        assert self.agent.unprepare(self.whole) == {uid_of("whole"): ""}, context
        assert all(line.endswith(": done") for line in self.chips.changes(_CHIP)), context
        assert self.chips.vnpus(_OTHER) == {_OTHER.number(0): HALF}, context
        left = [self.folders.names(folder) for folder in (self.folders.records, self.folders.cdi)]
        assert (left, self.notes()) == ([[], []], []), context

    def notes(self) -> list[str]:
        found = self.folders.names(self.folders.state / "partitions")
        return [name for name in found if not name.endswith(".lock")]

    def points(self, operation: str) -> list[Point]:
        """All points of an operation, as an unharmed run has them."""
        threads = self.begin(operation)
        with traced(threads, follow=False) as calls:
            self.run(operation)
        self.unprepare(self.ours)
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
        return calls.touching(f"{base}/state", f"{base}/cdi", "npu-smi")


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
def test_the_agent_may_die_at_some_system_calls_while_it_makes_or_removes_a_vnpu(
    node: Node, operation: str, rng: random.Random, tell: Callable[[str], None]
) -> None:
    points = node.points(operation)
    died: list[Point] = []
    for point in rng.sample(points, len(points)):
        if len(died) == SAMPLE:
            break
        if node.dies_at(operation, point):
            died.append(point)
            node.check(operation, f"{operation} killed at {point}", forget=point.number % 2 == 0)
    tell(f"{operation}: killed at {len(died)} of {len(points)} points (a sample; more of them with --long)")
    assert len(died) == SAMPLE


@pytest.mark.parametrize("operation", ASKING)
def test_the_agent_or_npu_smi_may_die_at_some_calls_to_npu_smi(
    node: Node, operation: str, rng: random.Random, tell: Callable[[str], None]
) -> None:
    deaths = [(moment, who) for moment in MOMENTS for who in WHO]
    tried = 0
    for moment, who in rng.sample(deaths, SAMPLE // 2):
        tried += _dies_at_a_call(node, operation, call=rng.randint(1, 3), moment=moment, who=who)
    tell(f"{operation}: {tried} deaths at calls to npu-smi (a sample; all of them with --long)")
    assert tried


def test_a_vnpu_that_is_in_use_is_the_claims_until_it_can_be_removed_by_whichever_agent(node: Node) -> None:
    node.begin("unprepare")
    node.chips.use(_CHIP.number(2))
    for _ in range(2):
        assert "is in use" in node.agent.unprepare(node.ours)[uid_of("ours")]
        assert "needs the same part of the card" in node.agent.prepare(node.overlaps)[uid_of("overlaps")]
        assert len(node.notes()) == 1
        node.agent.kill()
        node.agent.start()
    node.chips.use()
    assert node.agent.unprepare(node.ours) == {uid_of("ours"): ""}
    node.prepare(node.overlaps)
    assert node.chips.vnpus(_CHIP) == {_CHIP.number(3): SMALL}
    node.unprepare(node.overlaps)
    assert node.notes() == []


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_may_die_at_every_system_call_that_changes_anything_about_a_vnpu(
    node: Node, operation: str, tell: Callable[[str], None]
) -> None:
    died = 0
    points = node.points(operation)
    tried = [point for point in points if point.call not in READS or not point.number % READS_APART]
    for point in tried:
        if node.dies_at(operation, point):
            node.check(operation, f"{operation} killed at {point}", forget=point.number % 2 == 0)
            died += 1
    tell(f"{operation}: killed at {died} of {len(tried)} points that were tried, of {len(points)} there are")
    assert died >= SAMPLE


@pytest.mark.long
@pytest.mark.parametrize("operation", ASKING)
def test_the_agent_or_npu_smi_may_die_at_every_call_to_npu_smi(
    node: Node, operation: str, tell: Callable[[str], None]
) -> None:
    tried = 0
    for moment in MOMENTS:
        for who in WHO:
            call = 1
            while _dies_at_a_call(node, operation, call=call, moment=moment, who=who):
                tried += 1
                call += 1
                assert call < _MOST_CALLS
    tell(f"{operation}: {tried} deaths at calls to npu-smi, until it ended unharmed for each kind")
    assert tried >= len(MOMENTS) * len(WHO)


def _dies_at_a_call(node: Node, operation: str, *, call: int, moment: str, who: str) -> bool:
    if not node.asks(operation, call=call, moment=moment, who=who):
        return False
    context = f"{operation}: {who} killed when call {call} of npu-smi was {moment}"
    node.check(operation, context, forget=call % 2 == 0)
    return True
