"""Whatever happens to a node, in any order: no instance is leaked, used twice, or taken from its owner."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driver.places import exclude, place_of
from driver.vendors.nvml import PynvmlNvml
from tests.driver.vendors.mig_world import P_1G, P_3G, P_4G, part, state
from tests.driver.vendors.nvml_world import UUIDS, NvmlWorld
from tests.kubelet_plugin.partitions.test_hardware import Dying, Node

PLACES = (part(UUIDS[0], P_3G, 4, 4), part(UUIDS[0], P_4G, 0, 4), part(UUIDS[0], P_1G, 6, 1))
COMPUTE = {P_1G: 0, P_3G: 2, P_4G: 3}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["prepare", "unprepare", "admin makes", "admin removes", "reboot"]),
        st.integers(0, len(PLACES) - 1),
        # After so many questions to NVML the agent dies; 0: it does not.
        st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 10, 12]),
    ),
    max_size=14,
)


class Model:
    """What has to be true of a node."""

    def __init__(self, node: Node, agent: Dying) -> None:
        self.node = node
        self.agent = agent
        self.held: set[str] = set()
        self.admins: dict[str, str] = {}
        self.serial = 5000

    def prepare(self, name: str, *, dies_after: int) -> None:
        if any(one != name and exclude(one, name) for one in (*self.held, *self.admins)):
            return  # the guard, or what is offered, keeps it from coming here
        self.held.add(name)
        if self.agent.dies(lambda: self.node.prepare(name, claim=claim_of(name)), after=dies_after):
            return
        assert self.count(name) == 1

    def unprepare(self, name: str, *, dies_after: int) -> None:
        if name not in self.held:
            return
        if self.agent.dies(lambda: self.node.unprepare(name, claim=claim_of(name)), after=dies_after):
            return
        self.held.discard(name)
        assert self.count(name) == (name in self.admins)

    def admin_makes(self, name: str) -> None:
        if self.lines(name) or claim_of(name) in self.node.hardware.claims(host=self.node.host):
            return  # taken, or noted: what becomes of that is written down as a limit
        if any(exclude(name, other) for other in PLACES if other != name and self.lines(other)):
            return
        self.serial += 1
        place = place_of(name)
        assert place is not None
        number = 5 + PLACES.index(name)
        made = f"gi {UUIDS[0]} {number} {place.profile} {place.start} {place.size}"
        compute = f"ci {UUIDS[0]} {number} 0 {COMPUTE[place.profile]} {self.serial}"
        self.write([*self.everything(), made, compute])
        self.admins[name] = made

    def admin_removes(self, name: str) -> None:
        gone = self.lines(name)
        numbers = {line.split()[2] for line in gone}
        kept = [
            line
            for line in self.everything()
            if not (line.split()[0] in ("gi", "ci") and line.split()[2] in numbers)
        ]
        self.write(kept)
        self.admins.pop(name, None)

    def reboot(self) -> None:
        boot = self.node.boot.read_text().strip()
        self.node.reboot()
        self.node.boot.write_text(f"{boot}x")
        self.admins.clear()

    def check(self) -> None:
        there = self.everything()
        assert all(made in there for made in self.admins.values()), "an administrator's instance is gone"
        assert all(self.count(name) <= 1 for name in PLACES)
        known = {name for name in PLACES if claim_of(name) in self.node.hardware.claims(host=self.node.host)}
        assert {name for name in PLACES if self.lines(name)} <= known | self.admins.keys(), "leaked"

    def finish(self) -> None:
        for name in sorted(self.held):
            self.unprepare(name, dies_after=0)
        self.check()
        assert {name for name in PLACES if self.lines(name)} == self.admins.keys()
        assert self.node.hardware.claims(host=self.node.host) == frozenset()

    def count(self, name: str) -> int:
        return len(self.lines(name))

    def lines(self, name: str) -> list[str]:
        place = place_of(name)
        assert place is not None
        wanted = [str(place.profile), str(place.start), str(place.size)]
        return [line for line in self.everything() if line.startswith("gi ") and line.split()[3:] == wanted]

    def everything(self) -> list[str]:
        path = state(self.node.world)
        return path.read_text().splitlines() if path.exists() else []

    def write(self, lines: list[str]) -> None:
        state(self.node.world).write_text("".join(f"{line}\n" for line in lines))


def claim_of(name: str) -> str:
    return f"claim-{PLACES.index(name)}"


@pytest.fixture
def monkey(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("MOCK_NVML_FILE", "")
    return monkeypatch


@given(steps=STEPS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_instance_is_leaked_used_twice_or_taken_from_its_owner(
    monkey: pytest.MonkeyPatch, steps: list[tuple[str, int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, monkey.context() as patch:
        node = Node(Path(folder), NvmlWorld(Path(folder) / "nvml.txt"))
        try:
            model = Model(node, Dying(patch))
            for verb, number, dies_after in steps:
                step(model, verb, PLACES[number], dies_after)
                model.check()
            model.finish()
        finally:
            node.nvml.close()


def step(model: Model, verb: str, name: str, dies_after: int) -> None:
    act: Any = {
        "prepare": lambda: model.prepare(name, dies_after=dies_after),
        "unprepare": lambda: model.unprepare(name, dies_after=dies_after),
        "admin makes": lambda: model.admin_makes(name),
        "admin removes": lambda: model.admin_removes(name),
        "reboot": model.reboot,
    }
    act[verb]()


def test_the_model_notices_a_leak(tmp_path: Path, monkey: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path, NvmlWorld(tmp_path / "nvml.txt"))
    model = Model(node, Dying(monkey))
    model.prepare(PLACES[0], dies_after=0)
    for note in node.notes.of_claim(claim_of(PLACES[0])):
        node.notes.remove(note)
    with pytest.raises(AssertionError, match="leaked"):
        model.check()
    node.nvml.close()


def test_nvml_is_as_it_was() -> None:
    assert PynvmlNvml.on_card.__qualname__ == "PynvmlNvml.on_card"
