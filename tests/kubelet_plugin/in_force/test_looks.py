"""Looks that take too long: who is passed over then, and what becomes of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from driver.cards import IsolationLevel
from driver.host import Host
from driver.isolation.base import InForce, ShareContext
from driver.isolation.preload import Preload, PreloadSettings
from driver.isolation.rules import ShareKey
from driver.shares import Share
from kubelet_plugin.in_force import looks
from kubelet_plugin.in_force.containers import RunningContainer
from kubelet_plugin.in_force.looks import Look, LookGivenUpError, Looks
from tests.driver.isolation import regions
from tests.kubelet_plugin.in_force.test_watch import FAILS, HOLDS, SHARE, Method, Node, record

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


@pytest.fixture
def answers() -> Iterator[threading.Event]:
    """What a file system waits for that does not answer."""
    found = threading.Event()
    yield found
    found.set()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "CONTAINER_S", 0.3)
    monkeypatch.setattr(looks, "PASSED_OVER_S", 0.0)


def stuck(answers: threading.Event) -> Callable[[Look], str]:
    def work(look: Look) -> str:
        if "c" in look.passed_over:
            return "passed over"
        look.begins("c")
        answers.wait()
        look.goes_on()
        return "seen"

    return work


async def until_ended() -> None:
    for thread in threading.enumerate():
        if thread.name == "limits in force":
            thread.join(10)


async def test_a_container_that_does_not_answer_is_passed_over_until_it_does(
    answers: threading.Event,
) -> None:
    found = Looks()
    assert await found.look(stuck(answers)) is None
    assert await found.look(stuck(answers)) == "passed over"
    answers.set()
    await until_ended()
    assert await found.look(stuck(answers)) == "seen"


async def test_one_that_was_slow_is_passed_over_for_a_while_when_it_answers(
    answers: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "PASSED_OVER_S", 1e9)
    found = Looks()
    assert await found.look(stuck(answers)) is None
    answers.set()
    await until_ended()
    assert await found.look(stuck(answers)) == "passed over"


async def test_a_look_that_was_given_up_changes_nothing_when_it_is_answered(answers: threading.Event) -> None:
    told: list[str] = []

    def work(look: Look) -> None:
        look.begins("c")
        answers.wait()
        try:
            look.goes_on()
        except LookGivenUpError:
            told.append("given up")
            raise

    await Looks().look(work)
    answers.set()
    await until_ended()
    assert told == ["given up"]


async def test_a_look_at_many_containers_may_take_longer_than_one_at_one(
    answers: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "CONTAINER_S", 0.5)

    def work(look: Look) -> str:
        for number in range(8):
            look.begins(str(number))
            answers.wait(0.1)
        return "seen"

    assert await Looks().look(work) == "seen"


async def test_a_look_that_takes_too_long_in_all_blames_the_slowest(
    answers: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "CONTAINER_S", 5.0)
    monkeypatch.setattr(looks, "LOOK_S", 0.6)
    found = Looks()

    def work(look: Look) -> frozenset[str]:
        if look.passed_over:
            return look.passed_over
        look.begins("slow")
        answers.wait(0.5)
        while True:
            look.begins("quick")
            answers.wait(0.01)

    assert await found.look(work) is None
    monkeypatch.setattr(looks, "PASSED_OVER_S", 1e9)
    assert await found.look(work) == frozenset({"slow"})


async def test_only_so_many_threads_are_left_behind(
    answers: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "MAX_LEFT_BEHIND", 3)
    found, begun = Looks(), []

    def work(look: Look) -> str:
        begun.append(look.passed_over)
        look.begins(str(len(begun)))
        answers.wait()
        return "seen"

    for _ in range(5):
        assert await found.look(work) is None
    assert begun == [frozenset(), frozenset("1"), frozenset("12")]
    answers.set()
    await until_ended()
    assert await found.look(work) == "seen"


async def test_a_mistake_in_a_look_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        await Looks().look(lambda _: 1 // 0)


# In rounds.


class Stuck(Method):
    """A method whose read of process 7 ends when the test says so."""

    def __init__(self, answers: threading.Event, others: dict[int, InForce]) -> None:
        super().__init__(IsolationLevel.PRELOAD, others)
        self.event = answers

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        if pid == 7:
            self.event.wait()
        return super().in_force(share, context=context, host=host, pid=pid)


OTHER = "d" * 64
OTHERS = replace(SHARE, share=replace(SHARE.share, request="other"))


def beside(node: Node, pid: int) -> None:
    """A container of another share."""
    key = ShareKey(claim_uid="u1", request="other", device="nvidia-1")
    node.records = [record(SHARE, OTHERS)]
    node.containers.found.append(
        RunningContainer(namespace="ns", pod="pod", name="b", container_id=OTHER, uses=frozenset({key}))
    )
    node.runs(pid)
    (node.root / f"proc/{pid}/cgroup").write_text(f"0::/kubepods/podx/{OTHER}\n")


async def test_a_container_that_does_not_answer_ends_no_verdict_of_others(
    tmp_path: Path, answers: threading.Event
) -> None:
    node = Node(tmp_path, preload=Stuck(answers, {9: FAILS}))
    node.runs(7)
    beside(node, 9)
    await node.rounds(5)
    assert sorted(node.told) == [("False", "StaticBinary"), ("Unknown", "ProcessesDoNotAnswer")]
    node.preload.answers = {7: HOLDS}
    answers.set()
    await until_ended()
    await node.rounds(1)
    assert ("True", "Seen") in node.told


async def test_while_a_round_hangs_caps_that_were_let_go_are_given_back(
    tmp_path: Path, answers: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    preload = Preload(PreloadSettings(library="/lib.so", files_dir="/files", region_dir="/run/dragoman"))
    node = Node(tmp_path, preload=preload)
    node.records = [record(replace(SHARE, core_policy="default", cores_level=IsolationLevel.PRELOAD))]
    region = tmp_path / "run/dragoman/u1/gpu/region/shared.cache"
    region.parent.mkdir(parents=True)
    content = regions.made(memory={0: 64}, cores={0: 30}, processes=[{0: (5 << 20, 20)}])
    region.write_bytes(content)
    node.runs(7)
    (tmp_path / "proc/7/maps").write_text(
        "7f03-7f04 rw-s 00000000 00:2c 8 /usr/local/dragoman/region/shared.cache\n"
    )
    await node.rounds(1)
    assert region.read_bytes() != content

    def hangs(*_: object, **__: object) -> InForce:
        answers.wait()
        return HOLDS

    monkeypatch.setattr(preload, "in_force", hangs)
    node.runs(8)
    await node.rounds(1)
    assert region.read_bytes() == content
    assert not node.series("share_memory_used_bytes")
