"""Any sequence of what can happen to a node keeps the invariants.

Two agents on one folder; claims come, are prepared by either, are made anew, go; agents restart; the CDI
folder is wiped; records are damaged; garbage is collected. A model says what has to hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from driver.errors import DragomanError
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.collecting import Collector
from kubelet_plugin.prepare.engine import PrepareEngine
from tests.support.node_world import World, card, claim, pod, ref, result, uid_of

NAMES = [f"claim-{number}" for number in range(4)]
CARDS = ["card-0", "card-1"]
agents = st.integers(0, 1)
names = st.sampled_from(NAMES)


class Node(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(dir=memory))
        self.world = World(self.folder)
        self.world.cards.found = {
            name: card(name, mib=1000, pci=f"0000:0{number}:00.0") for number, name in enumerate(CARDS)
        }
        self.lives = [contextlib.AsyncExitStack(), contextlib.AsyncExitStack()]
        self.engines: list[PrepareEngine] = []
        for life in self.lives:
            self.engines.append(self._run(life.enter_async_context(self.world.engine())))
        self.claims: dict[str, Any] = {}
        self.ids: dict[str, list[str]] = {}
        self.held: dict[str, tuple[str, int, int]] = {}
        self.names: dict[str, str] = {}
        self.in_use: set[str] = set()
        self.damaged: set[str] = set()

    def _run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for life in self.lives:
                self._run(life.aclose())
            self.loop.close()
            shutil.rmtree(self.folder)

    def _allocate(self, name: str, *, device: str, mib: int, cores: int) -> None:
        """A claim is made and allocated, by somebody who may well be wrong about what is left."""
        uid = uid_of(f"{name} {len(self.ids)} {mib} {cores}")
        amounts = {"memory": f"{mib}Mi", "cores": str(cores)}
        found = claim(name, result(device=device, share=name, **amounts), uid=uid, pods=(name,), owner=name)
        self.claims[name] = (found, (device, mib, cores))
        self.world.add(found, pod(name, claims={"gpu": name}))

    @rule(
        name=names,
        agent=agents,
        device=st.sampled_from(CARDS),
        mib=st.sampled_from([1, 300, 600, 1000]),
        cores=st.sampled_from([0, 40, 100]),
    )
    def prepare(self, name: str, agent: int, device: str, mib: int, cores: int) -> None:
        if name not in self.claims:
            self._allocate(name, device=device, mib=mib, cores=cores)
        found, amounts = self.claims[name]
        uid = found["metadata"]["uid"]
        answer = self._run(self.engines[agent].prepare([ref(found)]))[uid]
        if isinstance(answer, DragomanError):
            # What was answered once is answered for ever; only that of a claim in doubt may have to wait.
            assert uid not in self.held or (uid in self.damaged and len(self.damaged) > 1), answer
            assert answer.reason in {"OverCommit", "WaitingForRelease", "ReservationInDoubt"}, answer
            return
        ids = [device.cdi_id for device in answer.devices]
        assert self.ids.setdefault(uid, ids) == ids
        self.held[uid] = amounts
        self.names[uid] = name
        self.in_use.add(name)
        self.damaged.discard(uid)

    @rule(name=names, agent=agents)
    def unprepare(self, name: str, agent: int) -> None:
        if name not in self.claims:
            return
        found, _ = self.claims[name]
        uid = found["metadata"]["uid"]
        assert self._run(self.engines[agent].unprepare([ref(found)])) == {uid: None}
        self.held.pop(uid, None)
        self.damaged.discard(uid)
        self.in_use.discard(name)

    @rule(name=names)
    def delete(self, name: str) -> None:
        """A claim goes; its pod may still run."""
        if name in self.claims:
            found, _ = self.claims.pop(name)
            self.world.claims.drop(found)
            if found["metadata"]["uid"] not in self.held:
                self.in_use.discard(name)

    @rule(name=names)
    def end_of_pod(self, name: str) -> None:
        """The kubelet forgets a pod without a word to us."""
        self.in_use.discard(name)

    @rule(agent=agents)
    def restart(self, agent: int) -> None:
        self._run(self.lives[agent].aclose())
        self.lives[agent] = contextlib.AsyncExitStack()
        self.engines[agent] = self._run(self.lives[agent].enter_async_context(self.world.engine()))

    @rule(agent=agents)
    def wipe_cdi(self, agent: int) -> None:
        shutil.rmtree(self.folder / "cdi", ignore_errors=True)
        self._run(self.engines[agent].restore())

    @precondition(lambda self: self.held)
    @rule(data=st.data(), keep=st.sampled_from([0, 300]))
    def damage(self, data: st.DataObject, keep: int) -> None:
        """A record loses its end; both agents start on that."""
        uid = data.draw(st.sampled_from(sorted(self.held)))
        path = self.folder / "state" / "claims" / f"{uid}.json"
        if uid in self.damaged:
            return
        path.write_bytes(path.read_bytes()[:keep])
        self.damaged.add(uid)
        for agent in (0, 1):
            self.restart(agent)

    @rule(agent=agents)
    def collect(self, agent: int) -> None:
        node = self

        class Kubelet:
            async def claims_in_use(self) -> frozenset[ClaimRef]:
                return frozenset(ClaimRef(namespace="default", name=name, uid="") for name in node.in_use)

        collector = Collector(self.engines[agent], claims=self.world.claims, pod_resources=Kubelet())
        for _ in range(3):
            # As in an agent, where this comes every few seconds: it also shows what the other agent has done.
            self._run(self.engines[agent].restore())
            self._run(collector.collect())
        live = {found["metadata"]["uid"]: name for name, (found, _) in self.claims.items()}
        kept = {path.name.partition(".")[0] for path in self._claim_files()}
        for uid in [uid for uid in self.held if uid not in kept]:
            # Freed: only what is not in use, and gone or in doubt. This kubelet knows names alone, and a name
            # stands for the claim that has it now, if one that was made anew is prepared too.
            name = self.names[uid]
            anew = any(self.names[other] == name for other in self.held if other != uid)
            assert name not in self.in_use or anew
            assert uid not in live or uid in self.damaged
            del self.held[uid]
            self.damaged.discard(uid)
        self.damaged -= set(self._records())

    def _records(self) -> list[str]:
        return [path.stem for path in self._claim_files() if path.suffix == ".json"]

    def _claim_files(self) -> list[Path]:
        return list((self.folder / "state" / "claims").iterdir())

    @invariant()
    def nothing_is_lost_and_nothing_leaks(self) -> None:
        if hasattr(self, "held"):
            assert set(self._records()) == self.held.keys() - self.damaged
            assert list(self.world.folder.rglob("*.tmp")) == []

    @invariant()
    def no_card_holds_more_than_it_has(self) -> None:
        if not hasattr(self, "held"):
            return
        for name in CARDS:
            parts = [part for part in self.held.values() if part[0] == name]
            assert sum(mib for _, mib, _ in parts) <= 1000
            assert sum(cores for _, _, cores in parts) <= 100

    @invariant()
    def each_prepared_claim_has_its_cdi_file(self) -> None:
        if hasattr(self, "held"):
            files = {path.name for path in self.world.cdi_files}
            wanted = {f"dragoman.dev-share-{uid}.json" for uid in self.held}
            assert {f"dragoman.dev-share-{uid}.json" for uid in self.held.keys() - self.damaged} <= files
            assert files <= wanted


TestAnySequence = Node.TestCase
TestAnySequence.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
