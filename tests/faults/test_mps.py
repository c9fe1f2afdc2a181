"""MPS: daemon, supervisor and agent die by SIGKILL, alone and together, and no limit is lost without a word.

The real agent and the real supervisor over a stand-in of NVIDIA's daemon, which forgets everything when it
dies, as the real one does. After each death, whoever is left or started again has to set the limits of every
prepared share again; what is unprepared leaves no namespace.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.test_killed_at_system_calls import (
    ALL,
    CARD,
    FITS,
    NEIGHBOUR,
    OPERATIONS,
    OURS,
    Node,
    Point,
    cdi_id,
)
from tests.support.agent_process import AgentProcess, node_folders
from tests.support.killing import was_killed
from tests.support.mps_node import MpsProcesses
from tests.support.node_world import pod, uid_of
from tests.support.tracing import kill_at, need_strace, traced

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.support.agent_process import NodeFolders
    from tests.support.node_world import JSON

pytestmark = [pytest.mark.strace, pytest.mark.timeout(1800)]

MPS_CARD = {**CARD, "driverVersion": "615.71.09"}
POLICY = {
    "apiVersion": "dragoman.dev/v1alpha1",
    "kind": "AcceleratorPolicy",
    "metadata": {"name": "all"},
    "spec": {"isolation": ["service"]},
}
SAMPLE = 3
MANY = 1 << 30
COMMANDS = ("server list", "namespace list", "client list", "namespace create", "namespace set")


class MpsNode:
    """A node with an agent, a supervisor and a daemon."""

    def __init__(self, folders: NodeFolders) -> None:
        self.folders = folders
        self.agent = AgentProcess(folders)
        self.mps = MpsProcesses(folders.base / "mps")
        for found in ALL:
            name = found["metadata"]["name"]
            folders.put(found, pod(name, claims={"gpu": name}))

    def prepare(self, *claims: JSON) -> None:
        """Prepares claims; every one has to succeed."""
        for found in claims:
            assert self.agent.prepare(found) == {found["metadata"]["uid"]: [cdi_id(found)]}, self.mps.log

    def eventually_prepared(self, found: JSON, *, seconds: float = 120.0) -> None:
        """Asks as the kubelet does, again and again."""
        deadline = time.monotonic() + seconds
        while isinstance(answer := self.agent.prepare(found)[found["metadata"]["uid"]], str):
            assert time.monotonic() < deadline, (answer, self.mps.log)
            time.sleep(0.2)
        assert answer == [cdi_id(found)]

    def eventually_held(self, *claims: JSON, seconds: float = 120.0) -> None:
        """Waits until the daemon says that it holds the limits of these claims, and no others."""
        wanted = sorted(map(limits_of, claims))
        deadline = time.monotonic() + seconds
        while sorted(self.mps.limits().values()) != wanted:
            assert time.monotonic() < deadline, (self.mps.limits(), wanted, self.mps.log)
            time.sleep(0.05)

    def held_now(self, *claims: JSON) -> None:
        """The daemon says that it holds the limits of these claims, and no others."""
        assert sorted(self.mps.limits().values()) == sorted(map(limits_of, claims)), self.mps.log

    def socket_of(self, found: JSON) -> Path:
        """The node's folder that the claim's containers get."""
        (entry,) = self.mounts(found)
        return Path(entry["hostPath"])

    def mounts(self, found: JSON) -> list[JSON]:
        uid = found["metadata"]["uid"]
        document = json.loads((self.folders.cdi / f"dragoman.dev-share-{uid}.json").read_text())
        (device,) = document["devices"]
        mounts: list[JSON] = device["containerEdits"]["mounts"]
        return mounts


def limits_of(found: JSON) -> tuple[str, str]:
    """What the daemon has to say of a claim's share."""
    amounts = found["status"]["allocation"]["devices"]["results"][0]["consumedCapacity"]
    return amounts["memory"].removesuffix("i"), amounts["cores"] if amounts["cores"] != "0" else "-"


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeFolders]:
    with node_folders(cards=[MPS_CARD]) as found:
        (found.base / "policies.yaml").write_text(json.dumps(POLICY))
        monkeypatch.setenv("DRAGOMAN_MPS_DIR", str(found.base / "mps"))
        monkeypatch.setenv("DRAGOMAN_MPS_MEMORY", "per-process")
        yield found


@pytest.fixture
def node(folders: NodeFolders) -> Iterator[MpsNode]:
    found = MpsNode(folders)
    try:
        found.mps.start()
        found.agent.start()
        yield found
    finally:
        if hasattr(found.agent, "process"):
            found.agent.kill()
        found.mps.stop()


def test_a_container_joins_its_own_share_and_is_given_that_shares_limits(node: MpsNode) -> None:
    node.prepare(OURS, NEIGHBOUR)
    for found in (OURS, NEIGHBOUR):
        with node.mps.program_in(node.socket_of(found)) as given:
            memory, cores = limits_of(found)
            assert (f"{given['memoryMiB']}M", str(given["cores"])) == (memory, cores)
            assert given["devices"] == "GPU-0"
    assert node.agent.unprepare(OURS) == {uid_of("ours"): ""}
    node.eventually_held(NEIGHBOUR)


def test_the_daemon_dies_and_the_limits_are_back_before_an_agent_asks(node: MpsNode) -> None:
    node.prepare(OURS, NEIGHBOUR)
    node.agent.kill()
    before = node.mps.daemon_pid
    node.mps.kill_daemon()
    node.eventually_held(OURS, NEIGHBOUR)
    assert node.mps.daemon_pid != before
    deadline = time.monotonic() + 120
    while True:
        with node.mps.program_in(node.socket_of(OURS)) as given:
            if given["mps"]:
                break
        assert time.monotonic() < deadline, node.mps.log
    assert (given["memoryMiB"], given["cores"]) == (300, 30)


def test_the_agent_dies_and_the_limits_stay_and_its_successor_knows_them(node: MpsNode) -> None:
    node.prepare(OURS, NEIGHBOUR)
    node.agent.kill()
    node.held_now(OURS, NEIGHBOUR)
    node.agent.start()
    node.prepare(FITS)
    node.held_now(OURS, NEIGHBOUR, FITS)
    assert node.agent.unprepare(OURS, NEIGHBOUR, FITS) == dict.fromkeys(
        map(uid_of, ("ours", "neighbour", "fits")), ""
    )
    node.eventually_held()


def test_the_supervisor_dies_alone_and_its_successor_sets_the_limits_again(node: MpsNode) -> None:
    node.prepare(OURS)
    orphan = node.mps.daemon_pid
    node.mps.kill()
    refused = node.agent.prepare(NEIGHBOUR)[uid_of("neighbour")]
    assert "supervisor of MPS" in refused
    node.mps.start()
    node.eventually_held(OURS)
    assert not _runs(orphan)
    node.prepare(NEIGHBOUR)
    node.held_now(OURS, NEIGHBOUR)


def test_all_die_and_memory_is_lost_and_the_limits_are_set_again_without_a_word_of_the_kubelet(
    node: MpsNode,
) -> None:
    node.prepare(OURS, NEIGHBOUR)
    node.agent.kill()
    node.mps.kill()
    node.mps.kill_daemon(group=True)
    shutil.rmtree(node.mps.folder)
    node.mps.folder.mkdir()
    node.mps.start()
    assert node.mps.limits() == {}
    node.agent.start()
    node.eventually_held(OURS, NEIGHBOUR)


def test_a_note_that_somebody_removed_is_written_again(node: MpsNode) -> None:
    node.prepare(OURS)
    shutil.rmtree(node.mps.folder / "shares" / uid_of("ours"))
    node.mps.sync()
    assert node.mps.limits() == {}
    node.eventually_held(OURS)


def test_a_daemon_that_cannot_start_refuses_shares_and_costs_no_busy_loop(node: MpsNode) -> None:
    node.mps.behave(start="fail")
    refused = node.agent.prepare(OURS)[uid_of("ours")]
    assert "failed to start" in refused
    for _ in range(20):
        node.mps.sync()
    assert node.mps.log.count("MPS daemon started") <= 4
    assert node.folders.names(node.folders.records) == []
    assert node.folders.names(node.folders.cdi) == []


def test_a_server_that_cannot_see_the_card_is_refused_by_name(node: MpsNode) -> None:
    node.mps.behave(cards=["GPU-another"])
    refused = node.agent.prepare(OURS)[uid_of("ours")]
    assert "Failed: can the daemon see card GPU-0?" in refused


@pytest.mark.parametrize("when", ["die", "die_after"])
def test_the_daemon_dies_at_every_command_of_setting_a_limit(
    node: MpsNode, when: str, tell: Callable[[str], None]
) -> None:
    node.prepare(NEIGHBOUR)
    died = 0
    for command in COMMANDS:
        # A supervisor of its own: the one before would make a daemon wait that ended too often.
        node.mps.stop()
        node.mps.start()
        node.eventually_held(NEIGHBOUR)
        before = node.mps.daemon_pid
        node.mps.behave(**{when: [command]})
        answer = node.agent.prepare(OURS)[uid_of("ours")]
        node.mps.behave()
        if isinstance(answer, str):
            assert "MPS" in answer
            node.eventually_prepared(OURS)
        node.eventually_held(OURS, NEIGHBOUR)
        # Its successor is noted by now, however long that took.
        died += node.mps.daemon_pid != before
        assert node.agent.unprepare(OURS) == {uid_of("ours"): ""}
        node.eventually_held(NEIGHBOUR)
    tell(f"{when}: the daemon died at {died} of {len(COMMANDS)} kinds of commands")
    assert died == len(COMMANDS)


class CheckedAgent(AgentProcess):
    """Whatever it says is prepared, MPS has to hold in that moment."""

    mps: MpsProcesses

    def prepare(self, *claims: JSON, timeout_s: float = 30.0) -> dict[str, list[str] | str]:
        answers = super().prepare(*claims, timeout_s=timeout_s)
        held = list(self.mps.limits().values()) if claims else []
        for found in claims:
            if not isinstance(answers[found["metadata"]["uid"]], str):
                assert limits_of(found) in held, self.mps.log
        return answers


class KilledNode(Node):
    """A node on which the agent dies at its system calls, with shares held by MPS."""

    def __init__(self, folders: NodeFolders) -> None:
        super().__init__(folders)
        self.mps = MpsProcesses(folders.base / "mps").start()
        agent = CheckedAgent(folders)
        agent.mps = self.mps
        self.agent = agent

    def check(self, operation: str, point: object) -> None:
        super().check(operation, point)  # type: ignore[arg-type]
        deadline = time.monotonic() + 120
        while left := [*self.mps.limits(), *self.folders.names(self.mps.folder / "shares")]:
            assert time.monotonic() < deadline, (operation, point, left)
            time.sleep(0.05)


@pytest.fixture
def killed(folders: NodeFolders) -> Iterator[KilledNode]:
    need_strace()
    found = KilledNode(folders)
    try:
        yield found
    finally:
        if hasattr(found.agent, "process"):
            found.agent.kill()
        found.mps.stop()


def _try_points(
    node: KilledNode, operation: str, *, most: int, shuffled: Callable[[list[Point]], list[Point]]
) -> tuple[int, int]:
    points = [point for point in node.points(operation) if point.group == "files"]
    died = 0
    for point in shuffled(points):
        if died == most:
            break
        if node.dies_at(operation, point):
            died += 1
            node.check(operation, point)
    return died, len(points)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_dies_at_some_system_calls_of_setting_and_taking_back_a_limit(
    killed: KilledNode, operation: str, rng: random.Random, tell: Callable[[str], None]
) -> None:
    died, points = _try_points(
        killed, operation, most=SAMPLE, shuffled=lambda all_of: rng.sample(all_of, len(all_of))
    )
    tell(f"MPS, {operation}: killed at {died} of {points} points (a sample; all of them with --long)")
    assert died == SAMPLE


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_agent_dies_at_every_system_call_of_setting_and_taking_back_a_limit(
    killed: KilledNode, operation: str, tell: Callable[[str], None]
) -> None:
    died, points = _try_points(killed, operation, most=MANY, shuffled=list)
    tell(f"MPS, {operation}: killed at {died} of {points} points")
    assert died >= points // 2


def _supervisor_dies(node: MpsNode, *, calls: list[tuple[str, int]], most: int = MANY) -> int:
    """Kills the supervisor at its N-th call of a kind while it sets a limit; how often it died."""
    died = 0
    for call, number in calls:
        if died == most:
            break
        if not node.mps.alive:
            node.mps.start()
        node.eventually_held(NEIGHBOUR)
        pid = node.mps.process.pid
        with traced([pid], options=kill_at(call, number)) as calls_seen:
            answer = node.agent.prepare(OURS)[uid_of("ours")]
            deadline = time.monotonic() + 0.3
            while node.mps.alive and time.monotonic() < deadline:
                time.sleep(0.01)
        if was_killed(calls_seen, [pid]):
            # It may be about to end.
            node.mps.process.wait(60)
        if not node.mps.alive:
            died += 1
            node.mps.start()
        if isinstance(answer, str):
            assert "MPS" in answer, (call, number)
            node.eventually_prepared(OURS)
        node.eventually_held(OURS, NEIGHBOUR)
        assert node.agent.unprepare(OURS) == {uid_of("ours"): ""}, (call, number)
        node.eventually_held(NEIGHBOUR)
    return died


def _supervisor_points(node: MpsNode) -> list[tuple[str, int]]:
    pid = node.mps.process.pid
    with traced([pid]) as calls:
        node.prepare(OURS)
    assert node.agent.unprepare(OURS) == {uid_of("ours"): ""}
    return [
        (call, number)
        for call, count in sorted(calls.counts([pid]).items())
        for number in range(1, count + 1)
    ]


def test_the_supervisor_dies_at_some_system_calls_of_setting_a_limit(
    node: MpsNode, rng: random.Random, tell: Callable[[str], None]
) -> None:
    need_strace()
    node.prepare(NEIGHBOUR)
    points = _supervisor_points(node)
    # A third of the points is not come to every time: what it looks at now and then is among them.
    died = _supervisor_dies(node, calls=rng.sample(points, len(points)), most=SAMPLE)
    tell(f"the supervisor died at {died} of {len(points)} points (a sample; all of them with --long)")
    assert died == SAMPLE


@pytest.mark.long
def test_the_supervisor_dies_at_every_system_call_of_setting_a_limit(
    node: MpsNode, tell: Callable[[str], None]
) -> None:
    need_strace()
    node.prepare(NEIGHBOUR)
    points = _supervisor_points(node)
    died = _supervisor_dies(node, calls=points)
    tell(f"the supervisor died at {died} of {len(points)} points")
    assert died >= len(points) // 3


def _runs(pid: int) -> bool:
    """Whether a process is there and is no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
