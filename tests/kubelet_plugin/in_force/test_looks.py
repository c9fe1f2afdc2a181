"""Looks that take too long: who is passed over then, and what becomes of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

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
from tests.kubelet_plugin.in_force.test_watch import FAILS, HOLDS, SHARE, Cards, Method, Node, record

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Answers:
    """What a file system waits for that does not answer, and the clock by which looks are taken meanwhile.

    It goes on by what somebody waits for and not otherwise: a busy machine makes nobody slow who is not.
    """

    def __init__(self) -> None:
        self._now = 1000.0
        self._changed = threading.Condition()
        self._come = False
        self._stuck: set[threading.Thread] = set()
        self._over: set[threading.Thread] = set()

    def monotonic(self) -> float:
        return self._now

    def set(self) -> None:
        with self._changed:
            self._come = True
            self._changed.notify_all()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for so long, or for as long as it takes; whether the answer is there."""
        with self._changed:
            if seconds is not None:
                self._now += seconds
                self._changed.notify_all()
                return self._come
            self._stuck.add(threading.current_thread())
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._come)

    def over(self) -> None:
        """The thread that calls has done its work."""
        with self._changed:
            self._over.add(threading.current_thread())
            self._changed.notify_all()

    def join(self, thread: threading.Thread, seconds: float) -> bool:
        """Waits for a thread until it is over or the time is; the time is where it got stuck."""
        with self._changed:
            until = self._now + seconds
            assert self._changed.wait_for(
                lambda: thread in self._over or self._is_stuck(thread) or self._now >= until, 60
            )
            if thread in self._over:
                return True
            self._now = max(self._now, until)
            return False

    def _is_stuck(self, thread: threading.Thread) -> bool:
        return thread in self._stuck and not self._come


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    found = Answers()

    class Thread(threading.Thread):
        def run(self) -> None:
            try:
                super().run()
            finally:
                found.over()

        def join(self, timeout: float | None = None) -> None:
            if timeout is None or found.join(self, timeout):
                super().join()

    monkeypatch.setattr(looks, "time", found)
    monkeypatch.setattr(looks, "threading", SimpleNamespace(Thread=Thread, Lock=threading.Lock))
    yield found
    found.set()
    until_ended()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "CONTAINER_S", 0.3)
    monkeypatch.setattr(looks, "NEXT_S", 0.2)
    monkeypatch.setattr(looks, "PASSED_OVER_S", 0.0)


def container(name: str, *, namespace: str = "ns") -> RunningContainer:
    return RunningContainer(
        namespace=namespace, pod="pod", name=name, container_id=name, uses=frozenset[ShareKey]()
    )


def stuck(answers: Answers, *names: str) -> Callable[[Look, RunningContainer], str]:
    """Work that ends at once, but for containers of these names, for which it ends with the event."""

    def work(look: Look, one: RunningContainer) -> str:
        if one.name in names:
            answers.wait()
            look.goes_on()
        return "seen"

    return work


def until_ended() -> None:
    for thread in threading.enumerate():
        if thread.name == "limits in force":
            thread.join(10)


def left_behind() -> int:
    return sum(thread.name == "limits in force" for thread in threading.enumerate())


async def test_a_container_that_does_not_answer_is_passed_over_until_it_does_and_others_are_not(
    answers: Answers,
) -> None:
    found, work = Looks(), stuck(answers, "c")
    both = [container("c"), container("d")]
    for _ in range(2):
        seen = await found.each(both, work)
        assert (dict(seen.answers), seen.hanging) == ({"d": "seen"}, frozenset({"c"}))
    assert left_behind() == 1
    answers.set()
    until_ended()
    assert dict((await found.each(both, work)).answers) == {"c": "seen", "d": "seen"}


async def test_one_that_was_slow_is_passed_over_for_a_while_when_it_answers(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "PASSED_OVER_S", 1e9)
    found, work = Looks(), stuck(answers, "c")
    await found.each([container("c")], work)
    answers.set()
    until_ended()
    assert (await found.each([container("c")], work)).hanging == {"c"}


async def test_a_look_that_was_given_up_changes_nothing_when_it_is_answered(answers: Answers) -> None:
    told: list[str] = []

    def work(look: Look, one: RunningContainer) -> None:
        answers.wait()
        try:
            look.goes_on()
        except LookGivenUpError:
            told.append("given up")
            raise

    seen = await Looks().each([container("c")], work)
    answers.set()
    until_ended()
    assert (told, dict(seen.answers)) == (["given up"], {})


async def test_a_look_at_many_containers_may_take_longer_than_one_at_one(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "CONTAINER_S", 0.5)
    many = [container(str(number)) for number in range(8)]
    seen = await Looks().each(many, lambda *_: answers.wait(0.1))
    assert (len(seen.answers), seen.hanging) == (8, frozenset())


async def test_those_that_nobody_came_to_in_time_are_the_first_of_the_next_look(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "CONTAINER_S", 30.0)
    monkeypatch.setattr(looks, "LOOK_S", 0.25)
    found, begun = Looks(), []

    def work(_: Look, one: RunningContainer) -> None:
        begun.append(one.name)
        answers.wait(0.1)

    many = [container(str(number)) for number in range(9)]
    first = await found.each(many, work)
    came_to = len(begun)
    assert 0 < came_to < len(many)
    assert len(first.answers) == came_to
    assert (first.hanging, first.held_back) == (frozenset(), frozenset())
    await found.each(many, work)
    assert set(begun[came_to : 2 * came_to]).isdisjoint(begun[:came_to])


async def test_however_many_do_not_answer_the_others_are_looked_at(answers: Answers) -> None:
    hanging = [f"h{number}" for number in range(20)]
    good = [container(f"g{number}") for number in range(5)]
    found, work = Looks(), stuck(answers, *hanging)
    await found.each(good, work)
    for _ in range(3):
        seen = await found.each([*map(container, hanging), *good], work)
        assert seen.answers.keys() == {one.name for one in good}
        assert seen.hanging | seen.held_back == set(hanging)
    assert left_behind() == looks.MAX_OF_NAMESPACE


async def test_one_namespace_cannot_keep_others_from_being_looked_at(answers: Answers) -> None:
    hanging = [container(f"h{number}") for number in range(20)]
    found, work = Looks(), stuck(answers, *(one.name for one in hanging))
    await found.each(hanging, work)
    new, theirs = container("new", namespace="other"), container("late")
    seen = await found.each([*hanging, theirs, new], work)
    assert dict(seen.answers) == {"new": "seen"}
    assert "late" in seen.held_back


async def test_beside_one_that_does_not_answer_others_of_its_namespace_have_less_time(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With as much time as the first one had, two or three would be all that this look comes to.
    monkeypatch.setattr(looks, "CONTAINER_S", 1.5)
    monkeypatch.setattr(looks, "LOOK_S", 4.0)
    monkeypatch.setattr(looks, "NEXT_S", 0.05)
    hanging = [container(f"h{number}") for number in range(6)]
    seen = await Looks().each(hanging, stuck(answers, *(one.name for one in hanging)))
    assert len(seen.hanging) == 6


async def test_only_so_many_threads_are_left_behind_in_all(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "MAX_LEFT_BEHIND", 3)
    before = [container("before", namespace="good")]
    hanging = [container(f"h{number}", namespace=f"n{number}") for number in range(6)]
    found, work = Looks(), stuck(answers, *(one.name for one in hanging))
    await found.each(before, work)
    seen = await found.each([*hanging, *before], work)
    assert (len(seen.hanging), len(seen.held_back), left_behind()) == (3, 3, 3)
    assert seen.answers.keys() == {"before"}
    answers.set()
    until_ended()
    assert len((await found.each([*hanging, *before], work)).answers) == 7


async def test_one_that_answered_is_looked_at_although_others_of_its_namespace_hang(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "MAX_OF_NAMESPACE", 1)
    found, work = Looks(), stuck(answers, "h")
    three = [container("known"), container("h"), container("new")]
    await found.each(three[:1], work)
    await found.each(three[:2], work)
    seen = await found.each(three, work)
    assert (dict(seen.answers), seen.held_back) == ({"known": "seen"}, frozenset({"new"}))


async def test_who_has_namespaces_whose_looks_take_long_comes_last(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "CONTAINER_S", 1.0)
    begun: list[str] = []
    found = Looks()

    def work(_: Look, one: RunningContainer) -> None:
        begun.append(one.name)
        if one.name == "slow":
            answers.wait(0.2)

    slow, late = container("slow", namespace="a"), container("late", namespace="a")
    good = container("good", namespace="b")
    await found.each([slow, good], work)
    begun.clear()
    await found.each([late, slow, good], work)
    assert begun == ["good", "late", "slow"]


async def test_what_belongs_to_no_container_is_given_up_too_and_not_begun_twice(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "ONCE_S", 0.1)
    found = Looks()
    for _ in range(3):
        assert await found.once("driver", lambda _: answers.wait()) is None
    assert left_behind() == 1
    assert await found.once("other", lambda _: "read") == "read"
    answers.set()
    until_ended()
    assert await found.once("driver", lambda _: "read") == "read"


async def test_a_mistake_in_a_look_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        await Looks().each([container("c")], lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await Looks().once("all", lambda _: 1 // 0)


# In rounds.


class Stuck(Method):
    """A method whose read of process 7 ends when the test says so."""

    def __init__(self, answers: Answers, others: dict[int, InForce]) -> None:
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
    tmp_path: Path, answers: Answers
) -> None:
    node = Node(tmp_path, preload=Stuck(answers, {9: FAILS}))
    node.runs(7)
    beside(node, 9)
    await node.rounds(5)
    assert sorted(node.told) == [("False", "StaticBinary"), ("Unknown", "ProcessesDoNotAnswer")]
    node.preload.answers = {7: HOLDS}
    answers.set()
    until_ended()
    await node.rounds(1)
    assert ("True", "Seen") in node.told


async def test_a_proof_of_a_container_that_does_not_answer_any_more_counts_no_longer(
    tmp_path: Path, answers: Answers
) -> None:
    node = Node(tmp_path, preload=Stuck(answers, {}))
    node.runs(6)
    await node.rounds(1)
    assert node.told == [("True", "Seen")]
    node.runs(7)
    await node.rounds(1)
    assert node.series("containers_not_answering") == {"": 1.0}
    await node.rounds(3)
    assert node.told == [("True", "Seen"), ("Unknown", "ProcessesDoNotAnswer")]


async def test_a_driver_that_hangs_is_no_containers_fault(
    tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "ONCE_S", 0.1)
    monkeypatch.setattr(Cards, "vendor_edits", lambda *_: answers.wait())
    node = Node(tmp_path)
    node.runs(7)
    await node.rounds(2)
    assert node.told == [("True", "Seen")]


async def test_a_container_that_hangs_has_its_cap_given_back(
    tmp_path: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch
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
