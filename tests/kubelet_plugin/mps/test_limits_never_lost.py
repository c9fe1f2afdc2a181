"""Any sequence of shares, deaths, refusals and meddling: a limit is held, or said not to be.

After every look at the daemon:

* a share is called held only while the daemon holds exactly its limits, in a server that sees its card alone;
* once nothing stands in the way, every share is held, and nothing else is in the daemon;
* what a daemon starts with has all limits, so that after a crash no namespace is ever without them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from driver.isolation.service import MpsState
from driver.isolation.service_shares import MpsShare, server_name
from tests.kubelet_plugin.mps.test_reconcile import CARDS, Node, share

NAMES = ("a", "b", "c")


class Lives(RuleBasedStateMachine):
    """A node with MPS."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mps-"))
        self.node = Node(self.folder)
        self.wanted: dict[str, MpsShare] = {}
        self.last = MpsState()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _look(self) -> MpsState:
        before = self.node.model.starts
        state = self.node.sync()
        for one in self.wanted.values():
            if not state.why_not(one.name):
                assert self._exactly_held(one), (one, state)
        if self.node.model.starts > before and self.node.model.alive and not state.problem:
            assert all(map(self._exactly_held, self.wanted.values()))
        return state

    def _exactly_held(self, one: MpsShare) -> bool:
        memory, cores = self.node.held(one) or ("", "")
        server = self.node.model.servers.get(one.server, {})
        return (memory, cores, server.get("devices"), server.get("status")) == (
            one.memory_limit or "-",
            str(one.cores_percent or "-"),
            one.card,
            "Ready",
        )

    @rule(
        name=st.sampled_from(NAMES),
        card=st.sampled_from(CARDS),
        memory=st.sampled_from([0, 1, 1500, 4096]),
        cores=st.integers(1, 99),
    )
    def prepare(self, name: str, card: str, memory: int, cores: int) -> None:
        if name not in self.wanted:
            one = share(name, card=card, memory=memory, cores=cores)
            self.wanted[one.name.removeprefix("n_")] = one
            self.node.files.put(one)
            self.last = self._look()

    @rule(name=st.sampled_from(NAMES))
    def unprepare(self, name: str) -> None:
        one = self.wanted.pop(name, None)
        if one is not None:
            self.node.files.drop(one.claim_uid, one.name)
            self._look()

    @rule()
    def look(self) -> None:
        self._look()

    @rule()
    def daemon_dies(self) -> None:
        self.node.model.crash()

    @rule(after=st.integers(0, 3))
    def daemon_dies_at_a_command(self, after: int) -> None:
        self.node.model.die_in = after

    @rule(after=st.integers(0, 3))
    def daemon_refuses_from_a_command_on(self, after: int) -> None:
        self.node.model.fail_in = after

    @rule()
    def daemon_is_well_again(self) -> None:
        self.node.model.fail_in = self.node.model.die_in = None
        self.node.model.startable = self.node.model.answers = True

    @rule(startable=st.booleans(), answers=st.booleans())
    def daemon_is_not_well(self, startable: bool, answers: bool) -> None:
        self.node.model.startable, self.node.model.answers = startable, answers

    @rule()
    def supervisor_is_replaced(self) -> None:
        self.node.begin()

    @rule()
    def node_reboots_and_agents_write_what_they_prepared(self) -> None:
        self.node.model.crash()
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.node.begin()
        for one in self.wanted.values():
            self.node.files.put(one)

    @precondition(lambda self: any(self.node.model.servers.values()))
    @rule(data=st.data())
    def somebody_meddles(self, data: st.DataObject) -> None:
        server = data.draw(st.sampled_from(sorted(self.node.model.servers)))
        spaces = self.node.model.servers[server]["namespaces"]
        name = data.draw(st.sampled_from(sorted(spaces)))
        what = data.draw(st.sampled_from(["unlimit", "raise", "remove", "add", "devices", "drop server"]))
        if what == "unlimit":
            spaces[name] = {}
        elif what == "raise":
            spaces[name]["pinned-memory-limit"] = "999G"
        elif what == "remove" and name != "default":
            del spaces[name]
        elif what == "add":
            spaces["theirs"] = {}
        elif what == "devices":
            self.node.model.servers[server]["devices"] = "all"
        elif what == "drop server":
            del self.node.model.servers[server]

    @invariant()
    def all_is_well_once_nothing_stands_in_the_way(self) -> None:
        if self.node.model.fail_in is not None or self.node.model.die_in is not None:
            return
        if not (self.node.model.startable and self.node.model.answers):
            return
        self.node.pass_by(60)  # whatever pause there was after ends
        state = self._look()
        for one in self.wanted.values():
            why_not = state.why_not(one.name)
            assert not why_not, why_not
            assert self._exactly_held(one)
        held = {
            (server, name)
            for server, one in self.node.model.servers.items()
            for name in one["namespaces"]
            if name != "default"
        }
        assert held == {(one.server, one.name) for one in self.wanted.values()}
        assert set(self.node.model.servers) <= {server_name(card) for card in CARDS}


Lives.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestLives = Lives.TestCase
pytestmark = pytest.mark.timeout(300)
