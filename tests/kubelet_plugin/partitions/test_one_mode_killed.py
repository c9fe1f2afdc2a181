"""AMD's partitions, with an agent that dies anywhere, programs that use cards, administrators and reboots."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.cards import Card
from driver.errors import DragomanError
from driver.isolation.base import ShareContext
from driver.isolation.hardware import Hardware
from driver.shares import Share
from driver.vendors.amd import Amd
from kubelet_plugin.partitions.notes import FileNotes
from kubelet_plugin.prepare.ledger import Ledger
from tests.support.amd_node import AmdCard, AmdHost


class KilledError(BaseException):
    """The agent is killed."""


class MortalHost(AmdHost):
    """A node on which the agent may be killed at any of its questions, before or after the answer."""

    left = 0

    def read_text(self, path: str, *, limit: int | None = None) -> str:
        return cast("str", self._ask(lambda: AmdHost.read_text(self, path, limit=limit)))

    def write_text(self, path: str, content: str) -> None:
        self._ask(lambda: AmdHost.write_text(self, path, content))

    def exists(self, path: str) -> bool:
        return bool(self._ask(lambda: AmdHost.exists(self, path)))

    def _ask(self, ask: Callable[[], Any]) -> Any:
        self._live()
        found = ask()
        self._live()
        return found

    def _live(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError


class Node:
    """A card, and an agent that may be another one each time; the guard's book outlives it, on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.card = AmdCard(number=0, dies=4, modes="SPX, DPX, CPX")
        (root / "node").mkdir()
        self.host = MortalHost(root / "node", self.card)
        self.boot = root / "boot_id"
        self.boot.write_text("first\n")
        self.ledger = Ledger()
        self.start()
        self.cards = {card.name: card for card in Amd().discover(self.host).cards}

    def start(self) -> None:
        vendor = Amd()
        self.vendor = vendor
        self.hardware = Hardware(
            lambda _card, _vendor: vendor, notes=FileNotes(self.root / "notes", boot_id=self.boot)
        )

    def prepare(self, name: str, device: str) -> list[str]:
        """As `PrepareEngine` does: first the guard, then what changes the card, then how it is reached."""
        card = self.cards[device]
        share = Share(claim_uid=name, request="r", device=device, memory_mib=card.memory_mib, whole=True)
        self.ledger.check_and_reserve([share], claim_uid=name, cards=self.cards)
        return self.edits(share, card)

    def edits(self, share: Share, card: Card) -> list[str]:
        if card.partition is None:
            self.hardware.prepare_card(card, host=self.host)
            return [node.path for node in self.vendor.edits(card, host=self.host).device_nodes]
        context = ShareContext(
            card=card, index=0, core_policy="force", claim_uid=share.claim_uid, holds_memory=True,
            holds_cores=True,
        )  # fmt: skip
        limits = self.hardware.edits(share, context=context, host=self.host)
        return [node.path for node in (self.vendor.edits(card, host=self.host) + limits).device_nodes]

    def unprepare(self, name: str, device: str) -> None:
        share = Share(claim_uid=name, request="r", device=device, memory_mib=1, whole=True)
        self.hardware.undo(share, context=None, host=self.host)
        self.ledger.release(name)

    def reboot(self) -> None:
        self.card.mode = "SPX"
        self.host.node.tell(self.card)
        self.host.node.topology()
        self.boot.write_text(f"{self.boot.read_text().strip()}x\n")
        self.start()

    def dies(self, work: Callable[[], object], *, after: int) -> bool:
        """Whether the agent died; the next one is there then."""
        self.host.left = after
        try:
            work()
        except KilledError:
            self.start()
            return True
        finally:
            self.host.left = 0
        return False


@pytest.mark.parametrize("device", ["part", "whole"])
def test_killed_at_any_of_its_questions_a_claim_has_what_it_was_given_in_the_end(
    tmp_path: Path, device: str
) -> None:
    node = Node(tmp_path)
    name = node.card.part("CPX", 3) if device == "part" else node.card.name
    wanted = "CPX" if device == "part" else "SPX"
    after = 0
    while True:
        # Each question has a moment before it and one after it.
        after += 2 if device == "part" else 1
        node.host.node.switch(node.card, "DPX")
        writes = len(node.host.writes)
        died = node.dies(lambda: node.prepare("one", name), after=after)
        assert node.card.mode in ("DPX", wanted)
        nodes = node.prepare("one", name)
        assert (node.card.mode, len(node.host.writes) - writes) == (wanted, 1)
        assert node.card.render(3 if device == "part" else 0) in nodes
        node.unprepare("one", name)
        assert node.hardware.claims(host=node.host) == frozenset()
        if not died:
            break
    assert after > 10


PLACES = (("CPX", 0), ("CPX", 3), ("DPX", 0), ("DPX", 1))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["prepare", "prepare", "unprepare", "admin", "reboot", "busy", "idle"]),
        st.integers(0, len(PLACES)),
        # After so many questions the agent dies; 0: it does not.
        st.sampled_from([0, 0, 0, 1, 5, 20, 30, 40, 50]),
    ),
    max_size=12,
)


@given(steps=STEPS)
@settings(max_examples=20, deadline=None)
def test_whatever_happens_a_cards_mode_is_that_of_all_who_hold_something_of_it(
    steps: list[tuple[str, int, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        devices = [*(node.card.part(*place) for place in PLACES), node.card.name]
        modes = [*(mode for mode, _ in PLACES), "SPX"]
        held: dict[int, list[str]] = {}
        for step, number, after in steps:
            _step(node, step, number, after=after, held=held, devices=devices, modes=modes)
            _check(node, held, modes)
        node.card.busy = False
        for number in list(held):
            held[number] = node.prepare(f"c{number}", devices[number])
        _check(node, held, modes)
        for number in range(len(devices)):
            node.unprepare(f"c{number}", devices[number])
        for number, device in enumerate(devices):
            assert node.prepare("last", device)
            assert node.card.mode == modes[number]
            node.unprepare("last", device)


def _step(
    node: Node,
    step: str,
    number: int,
    *,
    after: int,
    held: dict[int, list[str]],
    devices: list[str],
    modes: list[str],
) -> None:
    device, name = devices[number], f"c{number}"
    if step == "prepare":
        with contextlib.suppress(DragomanError):
            node.dies(lambda: held.update({number: node.prepare(name, device)}), after=after)
    elif step == "unprepare":
        if not node.dies(lambda: node.unprepare(name, device), after=after):
            held.pop(number, None)
    elif step == "admin" and not held:
        with contextlib.suppress(OSError):
            node.host.node.switch(node.card, modes[number])
    elif step == "reboot":
        node.card.busy = False
        node.reboot()
        for one in list(held):
            held[one] = node.prepare(f"c{one}", devices[one])
    elif step in ("busy", "idle"):
        node.card.busy = step == "busy"


def _check(node: Node, held: dict[int, list[str]], modes: list[str]) -> None:
    assert {modes[number] for number in held} <= {node.card.mode}
    opened = [path for nodes in held.values() for path in nodes if path != "/dev/kfd"]
    assert len(opened) == len(set(opened))
