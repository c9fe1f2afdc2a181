from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits, DeviceNode
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.preload import Preload, PreloadSettings
from driver.isolation.rules import ShareKey
from driver.shares import Share
from kubelet_plugin.host import NodeHost
from kubelet_plugin.in_force import usage
from kubelet_plugin.in_force.book import Verdict
from kubelet_plugin.in_force.containers import Containers, RunningContainer
from kubelet_plugin.in_force.watch import EVERY_S, InForceWatch
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from tests.driver.isolation import regions
from tests.kubelet_plugin.in_force.test_processes import stat

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

CARD = Card(name="nvidia-1", vendor="nvidia", model="m", memory_bytes=1 << 34)
SHARE = ShareRecord(
    share=Share(claim_uid="u1", request="gpu", device="nvidia-1", memory_mib=64, cores_percent=30),
    pool="n/dragoman",
    cdi_device="d",
    memory_level=IsolationLevel.PRELOAD,
    cores_level=IsolationLevel.KERNEL,
)
ID = "c" * 64
KEY = ShareKey(claim_uid="u1", request="gpu", device="nvidia-1")
HOLDS = InForce(holds=True, message="ok")
FAILS = InForce(holds=False, message="Static.", reason="StaticBinary", remedy="Link it.")


def record(*shares: ShareRecord) -> ClaimRecord:
    return ClaimRecord(uid="u1", namespace="ns", name="claim", allocation="", shares=shares or (SHARE,))


class Method:
    """An isolation method whose word on each process is scripted."""

    def __init__(self, level: IsolationLevel, answers: Mapping[int, InForce]) -> None:
        self.level = level
        self.answers = answers
        self.asked: list[tuple[int, ShareContext]] = []

    def available(self, *, card: Card, host: Host) -> Availability:
        raise NotImplementedError

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        raise NotImplementedError

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        self.asked.append((pid, context))
        return self.answers.get(pid, HOLDS)

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:
        raise NotImplementedError

    def claims(self, *, host: Host) -> frozenset[str]:
        raise NotImplementedError

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        raise NotImplementedError


class Cards:
    def cards(self) -> Mapping[str, Card]:
        return {CARD.name: CARD}

    def vendor_edits(self, card: Card) -> ContainerEdits:
        return ContainerEdits(device_nodes=(DeviceNode(path="/dev/nvidia0"),))


class Known(Containers):
    """Containers that are known without an API server."""

    def __init__(self, *running: RunningContainer) -> None:
        self.found = list(running)
        self.empty: list[RunningContainer] = []

    async def running(self, pods: Any, *, records: Any, now: float) -> list[RunningContainer]:
        return self.found

    def without_processes(self, containers: Any) -> None:
        self.empty += containers


class Node:
    """A watch and what is around it."""

    def __init__(self, root: Path, *, preload: Any = None, kernel: Any = None) -> None:
        self.records: list[ClaimRecord] = [record()]
        self.pods: Iterable[tuple[str, str]] | None = [("ns", "pod")]
        self.containers = Known(
            RunningContainer(namespace="ns", pod="pod", name="app", container_id=ID, uses=frozenset({KEY}))
        )
        self.preload = preload or Method(IsolationLevel.PRELOAD, {})
        self.kernel = kernel or Method(IsolationLevel.KERNEL, {})
        self.hardware = Method(IsolationLevel.HARDWARE, {})
        self.metrics = Metrics()
        self.told: list[tuple[str, str]] = []
        self.root = root
        (root / "proc").mkdir()
        self.watch = InForceWatch(
            records=lambda: self.records,
            pods=self._pods,
            containers=self.containers,
            cards=Cards(),
            methods={
                IsolationLevel.PRELOAD: self.preload,
                IsolationLevel.KERNEL: self.kernel,
                IsolationLevel.HARDWARE: self.hardware,
            },
            host=NodeHost(root),
            metrics=self.metrics,
            deadline_s=10.0,
            told=self._told,
        )

    def runs(self, *pids: int) -> None:
        for pid in pids:
            (self.root / f"proc/{pid}").mkdir()
            (self.root / f"proc/{pid}/cgroup").write_text(f"0::/kubepods/podx/{ID}\n")
            (self.root / f"proc/{pid}/stat").write_text(stat(pid))

    async def rounds(self, number: int) -> None:
        for _ in range(number):
            await self.watch.round()
            await asyncio.sleep(EVERY_S)

    def series(self, name: str) -> dict[str, float]:
        lines = self.metrics.render().decode().splitlines()
        prefix = f"dragoman_agent_{name}"
        return {
            line[len(prefix) :].rpartition(" ")[0].strip("{}"): float(line.split()[-1])
            for line in lines
            if line.startswith((f"{prefix}{{", f"{prefix} "))
        }

    async def _pods(self) -> Iterable[tuple[str, str]] | None:
        return self.pods

    def _told(self, claim: ClaimRef, share: ShareRecord, verdict: Verdict) -> None:
        assert claim == ClaimRef(namespace="ns", name="claim", uid="u1")
        self.told.append((verdict.status, verdict.reason))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_each_dimension_is_asked_of_the_method_that_holds_it(node: Node) -> None:
    node.runs(7)
    await node.rounds(1)
    ((_, preload),) = node.preload.asked
    ((_, kernel),) = node.kernel.asked
    assert (preload.holds_memory, preload.holds_cores) == (True, False)
    assert (kernel.holds_memory, kernel.holds_cores) == (False, True)
    assert preload.devices == ("/dev/nvidia0",)


async def test_a_proof_is_told_once_and_not_asked_for_again_at_once(node: Node) -> None:
    node.runs(7)
    await node.rounds(4)
    assert node.told == [("True", "Seen")]
    assert len(node.preload.asked) == 1
    await node.rounds(6)
    assert len(node.preload.asked) == 2


async def test_a_proof_is_no_proof_for_who_has_the_number_next(node: Node) -> None:
    node.runs(7)
    await node.rounds(1)
    assert node.told == [("True", "Seen")]
    (node.root / "proc/7/stat").write_text(stat(7, started=9999))
    node.preload.answers = {7: FAILS}
    await node.rounds(3)
    assert node.told == [("True", "Seen"), ("False", "StaticBinary")]


async def test_what_was_seen_of_a_process_that_ended_meanwhile_is_no_proof(tmp_path: Path) -> None:
    class Ends(Method):
        def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
            (tmp_path / f"proc/{pid}/stat").write_text(stat(pid, started=9999))
            return super().in_force(share, context=context, host=host, pid=pid)

    node = Node(tmp_path, preload=Ends(IsolationLevel.PRELOAD, {}))
    node.runs(7)
    await node.rounds(1)
    assert node.told == []


async def test_one_dimension_that_fails_is_a_failure_of_the_share(tmp_path: Path) -> None:
    node = Node(tmp_path, kernel=Method(IsolationLevel.KERNEL, {7: FAILS}))
    node.runs(7)
    await node.rounds(2)
    assert node.told == []
    await node.rounds(2)
    assert node.told == [("False", "StaticBinary")]
    assert node.series("in_force_failures_total") == {'reason="StaticBinary"': 1.0}
    assert node.series("shares_in_force")['in_force="no"'] == 1.0


async def test_a_failure_is_told_once_whatever_numbers_its_sentence_holds(tmp_path: Path) -> None:
    class Counts(Method):
        def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
            super().in_force(share, context=context, host=host, pid=pid)
            return replace(FAILS, message=f"Failed {len(self.asked)} times.")

    node = Node(tmp_path, preload=Counts(IsolationLevel.PRELOAD, {}))
    node.runs(7)
    await node.rounds(6)
    assert node.told == [("False", "StaticBinary")]
    assert node.series("in_force_failures_total") == {'reason="StaticBinary"': 1.0}


async def test_one_process_that_fails_is_found_among_many(tmp_path: Path) -> None:
    node = Node(tmp_path, preload=Method(IsolationLevel.PRELOAD, {2000: FAILS}))
    node.runs(*range(1801, 2001))
    await node.rounds(30)
    assert node.told == [("True", "Seen"), ("False", "StaticBinary")]


async def test_a_container_without_processes_is_asked_about_again(node: Node) -> None:
    await node.rounds(1)
    assert node.containers.empty == node.containers.found


async def test_a_kubelet_that_does_not_answer_changes_nothing(node: Node) -> None:
    node.runs(7)
    await node.rounds(1)
    node.pods = None
    await node.rounds(5)
    assert node.told == [("True", "Seen")]
    assert node.watch.verdict_of(SHARE) is not None


async def test_a_claim_that_is_gone_leaves_nothing(node: Node) -> None:
    node.runs(7)
    await node.rounds(1)
    node.records = []
    await node.rounds(1)
    assert node.watch.verdict_of(SHARE) is None
    assert set(node.series("shares_in_force").values()) == {0.0}


async def test_a_limit_that_nobody_holds_by_somebodys_decision_is_no_failure(node: Node) -> None:
    nobody = replace(SHARE, memory_level=IsolationLevel.NONE, cores_level=IsolationLevel.NONE)
    node.records = [record(nobody)]
    node.runs(7)
    await node.rounds(8)
    assert node.told == []
    assert set(node.series("shares_in_force").values()) == {0.0}


async def test_the_card_is_asked_for_a_partition_which_has_no_limit_of_its_own(node: Node) -> None:
    level = IsolationLevel.HARDWARE
    whole = replace(SHARE.share, whole=True, cores_percent=0)
    node.records = [record(replace(SHARE, share=whole, memory_level=level, cores_level=level))]
    node.runs(7)
    await node.rounds(1)
    assert [pid for pid, _ in node.hardware.asked] == [7]
    assert node.told == [("True", "Seen")]
    node.hardware.answers = {7: replace(FAILS, reason="PartitionMadeAnew")}
    # As long as a proof counts, and then the deadline.
    await node.rounds(12)
    assert node.told[-1] == ("False", "PartitionMadeAnew")


async def test_shares_without_limits_cost_no_question(node: Node) -> None:
    whole = replace(
        SHARE, share=replace(SHARE.share, whole=True, cores_percent=0), memory_level=None, cores_level=None
    )
    node.records = [record(whole)]
    node.pods = None
    await node.rounds(1)
    assert set(node.series("shares_in_force").values()) == {0.0}


def counting(tmp_path: Path) -> tuple[Node, Path]:
    """A share whose cap holds only while others compute, with a process and a region."""
    preload = Preload(PreloadSettings(library="/lib.so", files_dir="/files", region_dir="/run/dragoman"))
    node = Node(tmp_path, preload=preload)
    node.records = [record(replace(SHARE, core_policy="default", cores_level=IsolationLevel.PRELOAD))]
    region = tmp_path / "run/dragoman/u1/gpu/region"
    region.mkdir(parents=True)
    file = region / "shared.cache"
    file.write_bytes(regions.made(memory={0: 64}, cores={0: 30}, processes=[{0: (5 << 20, 20)}]))
    node.runs(7)
    (tmp_path / "proc/7/maps").write_text(
        "7f03-7f04 rw-s 00000000 00:2c 8 /usr/local/dragoman/region/shared.cache\n"
    )
    return node, file


async def test_what_a_region_says_becomes_series_and_relieves_who_is_alone(tmp_path: Path) -> None:
    node, file = counting(tmp_path)
    content = file.read_bytes()
    await node.rounds(1)
    (used,) = node.series("share_memory_used_bytes").values()
    assert used == 5 << 20
    written = file.read_bytes()
    assert sum(one != other for one, other in zip(content, written, strict=True)) == 1
    watching = asyncio.create_task(node.watch.run())
    await asyncio.sleep(EVERY_S)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert file.read_bytes() == content


async def test_a_container_that_is_not_seen_any_more_does_not_keep_its_cap_off(tmp_path: Path) -> None:
    node, file = counting(tmp_path)
    content = file.read_bytes()
    await node.rounds(1)
    assert file.read_bytes() != content
    node.containers.found = []
    await node.rounds(1)
    assert file.read_bytes() == content


async def test_a_look_that_outlives_the_watch_leaves_no_cap_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, file = counting(tmp_path)
    content = file.read_bytes()
    read, inside, answers = usage.read_uses, threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def hangs(*arguments: Any, **options: Any) -> list[usage.Use]:
        threads.append(threading.current_thread())
        inside.set()
        assert answers.wait(10)
        return read(*arguments, **options)

    monkeypatch.setattr(usage, "read_uses", hangs)
    watching = asyncio.create_task(node.watch.run())
    assert await asyncio.to_thread(inside.wait, 10)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    answers.set()
    await asyncio.to_thread(threads[0].join, 10)
    assert file.read_bytes() == content


async def test_no_cap_is_off_while_the_kubelet_does_not_say_who_runs(tmp_path: Path) -> None:
    node, file = counting(tmp_path)
    content = file.read_bytes()
    await node.rounds(1)
    assert file.read_bytes() != content
    node.pods = None
    await node.rounds(1)
    assert file.read_bytes() == content
