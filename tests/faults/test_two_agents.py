"""Two agents side by side, as in a rolling update: one card, and never more than it has."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess, node_folders, running
from tests.support.node_world import claim, result, uid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.agent_process import NodeFolders
    from tests.support.node_world import JSON

pytestmark = [pytest.mark.strace, pytest.mark.timeout(300)]

CARD = {"vendor": "amd", "model": "Test", "memory": "1000Mi", "uuid": "0", "pciBusID": "0000:3b:00.0"}
POLICY = {
    "apiVersion": "dragoman.dev/v1alpha1",
    "kind": "AcceleratorPolicy",
    "metadata": {"name": "all"},
    "spec": {"isolation": ["none"]},
}


@pytest.fixture
def folders() -> Iterator[NodeFolders]:
    with node_folders(cards=[CARD]) as found:
        (found.base / "policies.yaml").write_text(json.dumps(POLICY))
        yield found


@pytest.fixture
def agents(folders: NodeFolders) -> Iterator[tuple[AgentProcess, AgentProcess]]:
    with (
        running(AgentProcess(folders, pod_uid="one")) as one,
        running(AgentProcess(folders, pod_uid="two")) as two,
    ):
        yield one, two


def _claim(number: int) -> JSON:
    memory, cores = 5 + number % 7, number % 3
    return claim(
        f"c{number}", result(device="amd-0", memory=f"{memory}Mi", cores=str(cores), share=f"{number}")
    )


def _held(folders: NodeFolders) -> tuple[int, int]:
    """MiB and percent in all records."""
    records = [json.loads(path.read_text())["record"] for path in folders.records.iterdir()]
    shares = [share for record in records for share in record["shares"]]
    return sum(share["memoryMiB"] for share in shares), sum(share["coresPercent"] for share in shares)


def test_a_thousand_claims_at_once_never_hold_more_than_the_card(
    folders: NodeFolders, agents: tuple[AgentProcess, AgentProcess], tell: Callable[[str], None]
) -> None:
    claims = [_claim(number) for number in range(1000)]
    (folders.claims / "all.json").write_text(json.dumps({"kind": "List", "items": claims}))

    def prepare(number: int) -> bool:
        answer = agents[number % 2].prepare(claims[number], timeout_s=120)[uid_of(f"c{number}")]
        assert not isinstance(answer, str) or "left, but" in answer
        return not isinstance(answer, str)

    with ThreadPoolExecutor(32) as pool:
        given = list(pool.map(prepare, range(1000)))
    memory, cores = _held(folders)
    assert memory <= 1000
    assert cores <= 100
    # Not one MiB is wasted either: the smallest claim that was refused would not have fitted.
    assert memory > 1000 - 12 or cores > 98
    assert len(folders.names(folders.records)) == len(folders.names(folders.cdi)) == sum(given)
    for number, agent in enumerate((agents[1], agents[0]) * 500):
        if given[number]:
            assert agent.unprepare(claims[number]) == {uid_of(f"c{number}"): ""}
    assert (folders.names(folders.records), folders.names(folders.cdi)) == ([], [])
    tell(f"1,000 claims on two agents: {sum(given)} given, {memory} of 1000 MiB, {cores} of 100 percent")


def test_an_agent_that_is_stopped_and_resumed_knows_what_the_other_did_meanwhile(
    folders: NodeFolders, agents: tuple[AgentProcess, AgentProcess]
) -> None:
    stopped, other = agents
    claims = [
        claim(name, result(device="amd-0", memory=memory, share=name))
        for name, memory in (("x", "600Mi"), ("y", "500Mi"), ("z", "400Mi"))
    ]
    folders.put(*claims)
    x, y, z = claims
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        assert not isinstance(other.prepare(x)[uid_of("x")], str)
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    assert "400 of 1000 MiB left" in stopped.prepare(y)[uid_of("y")]
    assert not isinstance(stopped.prepare(z)[uid_of("z")], str)
    assert _held(folders) == (1000, 0)
