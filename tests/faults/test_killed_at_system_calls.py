"""The agent dies by SIGKILL at each system call of prepare and unprepare, and nothing is lost.

The real agent, real gRPC, real files; strace is attached once the agent serves, so that N counts the calls of
the operation alone. After each death the agent is started on what is left and has to:

* answer the same CDI ids, or forget the claim entirely if the kubelet unprepares it;
* still hold its neighbour's share, with the same CDI ids, and give out exactly what is left of the card;
* leave nothing behind once both are unprepared.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess, NodeFolders, node_folders
from tests.support.killing import killed_while
from tests.support.node_world import claim, pod, result, uid_of
from tests.support.tracing import Calls, need_strace, threads_of, traced

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.support.node_world import JSON

pytestmark = [pytest.mark.strace, pytest.mark.timeout(1800)]

CARD = {"vendor": "nvidia", "model": "Test", "memory": "1000Mi", "uuid": "GPU-0", "pciBusID": "0000:3b:00.0"}
OPERATIONS = ("prepare", "prepare again", "unprepare")
GROUPS = ("files", "claims", "loop", "grpc")
SAMPLE = 8
"""Points of each operation in every run; `--long` tries all."""


def _claim(name: str, memory: str, *, cores: str = "0") -> JSON:
    return claim(
        name, result(device="nvidia-0", memory=memory, cores=cores, share=name), pods=(name,), owner=name
    )


OURS = _claim("ours", "300Mi", cores="30")
NEIGHBOUR = _claim("neighbour", "500Mi", cores="50")
FITS = _claim("fits", "200Mi", cores="20")
TOO_LARGE = _claim("too-large", "201Mi")
WARM_UP = _claim("warm-up", "1Mi")
ALL = (OURS, NEIGHBOUR, FITS, TOO_LARGE, WARM_UP)


@dataclass(frozen=True)
class Point:
    """Where the agent dies: at a thread's N-th call of a kind."""

    group: str
    call: str
    number: int


class Node:
    """A node on which the agent dies and lives again."""

    def __init__(self, folders: NodeFolders) -> None:
        self.folders = folders
        self.agent = AgentProcess(folders)
        self.files: set[int] = set()
        self.claims: set[int] = set()
        for found in ALL:
            name = found["metadata"]["name"]
            folders.put(found, pod(name, claims={"gpu": name}))

    def begin(self, operation: str) -> dict[str, frozenset[int]]:
        """Lives, arranges what the operation needs, and tells which threads do what in it."""
        if not hasattr(self.agent, "process") or not self.agent.alive:
            self.agent.start()
            self.files.clear()
            self.claims.clear()
        assert not isinstance(self.agent.prepare(NEIGHBOUR)[uid_of("neighbour")], str)
        # All threads that an operation needs are there from now on.
        for _ in range(2):
            self.agent.prepare(WARM_UP)
            self.agent.unprepare(WARM_UP)
        with traced(threads_of(self.agent.process.pid)) as calls:
            self.agent.prepare(WARM_UP)
            self.agent.unprepare(WARM_UP)
        self.arrange(operation)
        return self.groups(calls)

    def groups(self, calls: Calls) -> dict[str, frozenset[int]]:
        self.learn(calls)
        files, claims = frozenset(self.files), frozenset(self.claims - self.files)
        loop = frozenset({self.agent.process.pid})
        rest = frozenset(calls.lines) - files - claims - loop
        assert files
        assert claims
        return {"files": files, "claims": claims, "loop": loop, "grpc": rest}

    def learn(self, calls: Calls) -> None:
        """Pools have several threads: whichever was seen at work once may be the next one to work."""
        base = self.folders.base
        self.files |= calls.touching(*(f"{base}/{name}" for name in ("state", "cdi", "shares")))
        self.claims |= calls.touching(f"{base}/claims/ResourceClaim-")

    def arrange(self, operation: str) -> None:
        if operation != "prepare":
            assert not isinstance(self.agent.prepare(OURS)[uid_of("ours")], str)
        if operation == "prepare again":
            shutil.rmtree(self.folders.cdi)

    def run(self, operation: str) -> None:
        if operation == "unprepare":
            assert self.agent.unprepare(OURS) == {uid_of("ours"): ""}
        else:
            assert self.agent.prepare(OURS) == {uid_of("ours"): [cdi_id(OURS)]}

    def dies_at(self, operation: str, point: Point) -> bool:
        """Whether the agent died before it had answered; the point does not exist otherwise."""
        for _ in range(10):
            died = self._try(operation, point)
            if died is not None:
                return died
        raise AssertionError(f"other threads did the work, ten times: {point}")

    def _try(self, operation: str, point: Point) -> bool | None:
        threads = self.begin(operation)[point.group]
        died, calls = killed_while(
            self.agent, lambda: self.run(operation), threads=threads, at=(point.call, point.number)
        )
        if died:
            return True
        self._undo()
        # Threads of a pool take turns, so without this it could be that of the same one in each of ten tries.
        self.learn(calls)
        return None if point.group in ("files", "claims") and not calls.counts(threads) else False

    def _undo(self) -> None:
        self.agent.unprepare(OURS)
        self.agent.unprepare(NEIGHBOUR)

    def check(self, operation: str, point: Point) -> None:
        """Starts the agent on what is left, and looks."""
        context = f"{operation} killed at {point}"
        agent = self.agent
        agent.start()
        self.files.clear()
        self.claims.clear()
        forget = operation == "unprepare" or point.number % 2 == 0
        if forget:
            assert agent.unprepare(OURS) == {uid_of("ours"): ""}, context
        else:
            assert agent.prepare(OURS) == {uid_of("ours"): [cdi_id(OURS)]}, context
        assert agent.prepare(NEIGHBOUR) == {uid_of("neighbour"): [cdi_id(NEIGHBOUR)]}, context
        if not forget:
            refused = agent.prepare(TOO_LARGE)[uid_of("too-large")]
            assert "200 of 1000 MiB left" in refused, context
            assert agent.prepare(FITS) == {uid_of("fits"): [cdi_id(FITS)]}, context
        assert agent.unprepare(OURS, FITS, TOO_LARGE, NEIGHBOUR) == {
            uid_of(name): "" for name in ("ours", "fits", "too-large", "neighbour")
        }, context
        assert (self.records(), self.cdi(), self.folders.names(self.folders.shares)) == ([], [], []), context

    def records(self) -> list[str]:
        return self.folders.names(self.folders.records)

    def cdi(self) -> list[str]:
        return self.folders.names(self.folders.cdi)

    def points(self, operation: str) -> list[Point]:
        """All points of an operation, as an unharmed run has them."""
        groups = self.begin(operation)
        with traced(threads_of(self.agent.process.pid)) as calls:
            self.run(operation)
        self._undo()
        return [
            Point(group, call, number)
            for group in GROUPS
            for call, count in sorted(calls.counts(groups[group]).items())
            for number in range(1, count + 1)
        ]


def cdi_id(found: JSON) -> str:
    name = found["metadata"]["name"]
    return f"dragoman.dev/share={uid_of(name)}.gpu.nvidia-0.{uid_of(f'share-{name}')}"


@pytest.fixture
def node() -> Iterator[Node]:
    need_strace()
    with node_folders(cards=[CARD]) as folders:
        node = Node(folders)
        try:
            yield node
        finally:
            if hasattr(node.agent, "process"):
                node.agent.kill()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_may_die_at_some_system_calls(
    node: Node, operation: str, rng: random.Random, tell: Callable[[str], None]
) -> None:
    points = node.points(operation)
    files = [point for point in points if point.group == "files"]
    others = [point for point in points if point.group != "files"]
    died: list[Point] = []
    for of_these, until in ((files, SAMPLE - 2), (others, SAMPLE)):
        for point in rng.sample(of_these, len(of_these)):
            if len(died) == until:
                break
            if node.dies_at(operation, point):
                died.append(point)
                node.check(operation, point)
    tell(f"{operation}: killed at {len(died)} of {len(points)} points (a sample; all of them with --long)")
    assert len(died) == SAMPLE


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_may_die_at_every_system_call(
    node: Node, operation: str, tell: Callable[[str], None]
) -> None:
    calls = sorted({(point.group, point.call) for point in node.points(operation)})
    died = 0
    for group, call in calls:
        number = 1
        while node.dies_at(operation, Point(group, call, number)):
            node.check(operation, Point(group, call, number))
            died += 1
            number += 1
    tell(f"{operation}: killed at all {died} points, until it ended unharmed for each of {len(calls)} calls")
    assert died >= 40
