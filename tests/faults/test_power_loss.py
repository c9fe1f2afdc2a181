"""Power is lost at any moment, and whatever no fsync had made durable may be missing.

The real agent prepares and unprepares claims while strace records what it does to its files. Then, for every
moment between two calls, folders are made in which any of the writes, names and renames that were not durable
is missing, and an agent is started on each: what was answered before that moment has to hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from driver.errors import DragomanError
from tests.support.agent_process import AgentProcess, node_folders
from tests.support.node_world import World, card, claim, pod, prepare, result, uid_of, unprepare
from tests.support.power_loss import OPTIONS, Disk, Operation, Tree, parse, write_tree
from tests.support.tracing import need_strace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.agent_process import NodeFolders
    from tests.support.node_world import JSON

pytestmark = [pytest.mark.strace, pytest.mark.timeout(1800)]

CARD = {"vendor": "nvidia", "model": "Test", "memory": "1000Mi", "uuid": "GPU-0", "pciBusID": "0000:3b:00.0"}
MOST = 64
"""Combinations of missing changes that are tried for one moment: all of them up to this number."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
STARTED = 12
"""Folders on which a real agent process is started in every run; `--long` starts one on each."""


def _claim(name: str, memory: str) -> JSON:
    return claim(name, result(device="nvidia-0", memory=memory, share=name), pods=(name,), owner=name)


CLAIMS = {name: _claim(name, memory) for name, memory in (("a", "300Mi"), ("b", "500Mi"), ("c", "400Mi"))}
STEPS = (("prepare", "a"), ("prepare", "b"), ("unprepare", "a"), ("prepare", "c"), ("unprepare", "b"))


@dataclass(frozen=True)
class Step:
    """A call of the kubelet, and when it began and was answered."""

    verb: str
    name: str
    began: float
    answered: float


@dataclass(frozen=True)
class Moment:
    """What a disk may hold, and what has to hold on it."""

    tree: Tree
    held: frozenset[str]
    free: frozenset[str]


@dataclass(frozen=True)
class Recording:
    """What the agent did to its files, and what it answered."""

    origin: Path
    operations: tuple[Operation, ...]
    steps: tuple[Step, ...]

    def moments(self, chance: random.Random) -> Iterator[Moment]:
        """All moments with all that may be missing then, each content once."""
        disk = Disk(str(self.origin))
        seen: set[str] = set()
        times = [operation.time for operation in self.operations] + [float("inf")]
        for operation, until in zip(self.operations, times[1:], strict=True):
            disk.apply(operation)
            held, free = self._has_to_hold(until)
            for tree in disk.after_power_loss(chance=chance, most=MOST):
                key = hashlib.sha256(repr((tree, sorted(held), sorted(free))).encode()).hexdigest()
                if key not in seen:
                    seen.add(key)
                    yield Moment(tree, held, free)

    def _has_to_hold(self, until: float) -> tuple[frozenset[str], frozenset[str]]:
        """Claims that are prepared and claims that are not, as far as that was answered before a time."""
        held: set[str] = set()
        free = set(CLAIMS)
        for step in self.steps:
            if step.began < until:
                held.discard(step.name)
                free.discard(step.name)
            if step.answered < until:
                (held if step.verb == "prepare" else free).add(step.name)
        return frozenset(held), frozenset(free)


@pytest.fixture(scope="module")
def recording() -> Recording:
    need_strace()
    with node_folders(cards=[CARD]) as folders, tempfile.TemporaryDirectory(prefix="strace-") as output:
        for name, found in CLAIMS.items():
            folders.put(found, pod(name, claims={"gpu": name}))
        agent = AgentProcess(folders)
        steps = []
        # -D: the agent is our child, and strace the grandchild.
        agent.start(under=("strace", "-D", "-ff", *OPTIONS, "-o", f"{output}/calls"))
        try:
            for verb, name in STEPS:
                began = time.time()
                answer = getattr(agent, verb)(CLAIMS[name])[uid_of(name)]
                assert answer in ("", [cdi_id(name)])
                steps.append(Step(verb, name, began, time.time()))
        finally:
            agent.kill()
        lines = _all_lines(Path(output))
        operations = parse(lines, root=str(folders.base), folders=("state", "cdi"))
        return Recording(folders.base, tuple(operations), tuple(steps))


def _all_lines(folder: Path) -> list[str]:
    deadline = time.monotonic() + 60
    # strace outlives the agent for a moment; a thread's file is complete with its last line.
    while any("+++ " not in path.read_text() for path in folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [line for path in folder.iterdir() for line in path.read_text().splitlines()]


def cdi_id(name: str) -> str:
    return f"dragoman.dev/share={uid_of(name)}.gpu.nvidia-0.{uid_of(f'share-{name}')}"


async def broken(moment: Moment, origin: Path) -> str:
    """Starts the agent's engine on a disk; what does not hold, or ""."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        write_tree(moment.tree, origin=origin, to=Path(folder))
        world = World(Path(folder))
        world.cards.found = {"nvidia-0": card("nvidia-0", mib=1000)}
        world.add(*CLAIMS.values(), *(pod(name, claims={"gpu": name}) for name in CLAIMS))
        async with world.engine() as engine:
            if engine.problems:
                return f"a problem is reported: {engine.problems}"
            known = {record.name for record in engine.records.values()}
            if not moment.held <= known or moment.free & known:
                return f"{sorted(known)} are prepared, {moment.held} have to be and {moment.free} must not be"
            held_mib = engine.use("nvidia-0").memory_mib
            if held_mib > 1000:
                return f"{held_mib} of 1000 MiB are held"
            files = {path.name for path in world.cdi_files}
            if files != {f"dragoman.dev-share-{uid_of(name)}.json" for name in known}:
                return f"CDI files {sorted(files)} for {sorted(known)}"
            world.claims.away = True
            for name in known:
                if [device.cdi_id for device in (await prepare(engine, CLAIMS[name])).devices] != [
                    cdi_id(name)
                ]:
                    return f"{name} has another CDI id"
            world.claims.away = False
            for name in set(CLAIMS) - moment.held - moment.free:
                with contextlib.suppress(DragomanError):
                    await prepare(engine, CLAIMS[name])
            for found in CLAIMS.values():
                await unprepare(engine, found)
        left = (world.records, world.cdi_files)
        return "" if left == ([], []) else f"{left} are left"


def test_what_was_answered_holds_after_any_loss_of_power(
    recording: Recording, rng: random.Random, tell: Callable[[str], None]
) -> None:
    moments = list(recording.moments(rng))
    assert len(recording.operations) >= 40
    assert len(moments) >= 100
    for moment in moments:
        assert asyncio.run(broken(moment, recording.origin)) == "", moment
    tell(f"power lost at {len(recording.operations)} moments: an engine started on {len(moments)} disks")


@pytest.mark.parametrize("without", ["files", "folders"])
def test_without_fsync_of_files_or_of_folders_something_would_be_lost(
    recording: Recording, rng: random.Random, without: str
) -> None:
    def is_left_out(operation: Operation) -> bool:
        is_file = operation.path.endswith((".tmp", ".json"))
        return operation.verb == "sync" and is_file == (without == "files")

    operations = [operation for operation in recording.operations if not is_left_out(operation)]
    careless = replace(recording, operations=tuple(operations))
    found = (asyncio.run(broken(moment, recording.origin)) for moment in careless.moments(rng))
    assert any(found)


def _start_on(moments: Sequence[Moment], recording: Recording) -> None:
    for moment in moments:
        with node_folders(cards=[CARD]) as folders:
            write_tree(moment.tree, origin=recording.origin, to=folders.base)
            for name, found in CLAIMS.items():
                folders.put(found, pod(name, claims={"gpu": name}))
            agent = AgentProcess(folders)
            agent.start()
            try:
                _check_agent(agent, folders, moment)
            finally:
                agent.kill()


def _check_agent(agent: AgentProcess, folders: NodeFolders, moment: Moment) -> None:
    records = folders.names(folders.records)
    known = {name for name in CLAIMS if f"{uid_of(name)}.json" in records}
    assert len(known) == len(records), records
    assert moment.held <= known, moment
    assert not moment.free & known, moment
    for name in known:
        assert agent.prepare(CLAIMS[name]) == {uid_of(name): [cdi_id(name)]}, moment
    assert agent.unprepare(*CLAIMS.values()) == {uid_of(name): "" for name in CLAIMS}
    assert (folders.names(folders.records), folders.names(folders.cdi)) == ([], []), moment


def test_the_agent_itself_starts_on_what_a_loss_of_power_left(
    recording: Recording, rng: random.Random, tell: Callable[[str], None]
) -> None:
    moments = list(recording.moments(rng))
    _start_on(rng.sample(moments, STARTED), recording)
    tell(f"agents started on {STARTED} of {len(moments)} disks (a sample; all of them with --long)")


@pytest.mark.long
def test_the_agent_itself_starts_on_all_that_a_loss_of_power_can_leave(
    recording: Recording, rng: random.Random, tell: Callable[[str], None]
) -> None:
    moments = list(recording.moments(rng))
    _start_on(moments, recording)
    tell(f"agents started on all {len(moments)} disks")
