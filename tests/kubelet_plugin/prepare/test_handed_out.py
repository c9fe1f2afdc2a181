"""Who else was given what a claim was given: told by its nodes, however it came to be known."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from driver.cards import Card, Partition
from driver.cdi import ContainerEdits, DeviceNode, Mount
from driver.shares import Share
from kubelet_plugin.prepare.handed_out import HandedOutCards
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from tests.support.node_world import Cards, card

NODES = ("/dev/ctl", "/dev/card0", "/dev/card1")
OPENING = ("/dev/gi1", "/dev/gi2")
CARDS = {
    "card-0": card("card-0", uuid="A"),
    "card-1": card("card-1", uuid="B", pci="0000:5e:00.0"),
    "card-0-mig-1-0-1": card(
        "card-0-mig-1-0-1", uuid="", partition=Partition(card_uuid="A", profile="1g", exists=True)
    ),
}

uids = st.sampled_from(["claim-0", "claim-1", "claim-2", "claim-3"])
cards = st.sampled_from(sorted(CARDS))
some_nodes = st.frozensets(st.sampled_from(NODES))
opening = st.frozensets(st.sampled_from(OPENING))


def record(uid: str, device: str) -> ClaimRecord:
    share = Share(claim_uid=uid, request="gpu", device=device, memory_mib=1)
    return ClaimRecord(
        uid=uid,
        namespace="default",
        name=uid,
        allocation="a",
        shares=(ShareRecord(share=share, pool="p", cdi_device=f"{uid}.{device}"),),
    )


def edits(nodes: frozenset[str]) -> ContainerEdits:
    return ContainerEdits(device_nodes=tuple(DeviceNode(path=path) for path in sorted(nodes)))


class KnownCards(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        source = Cards(*CARDS.values(), region=Path("/nowhere"))
        self.known = HandedOutCards(source)
        # By CDI device: UID, UUID of the card, all nodes, those of the partition alone.
        self.model: dict[str, tuple[str, str, frozenset[str], frozenset[str]]] = {}

    @rule(uid=uids, device=cards, reach=some_nodes, limits=opening)
    def note(self, uid: str, device: str, reach: frozenset[str], limits: frozenset[str]) -> None:
        name, found = f"{uid}.{device}", CARDS[device]
        own = limits if found.partition else frozenset()
        self.known.note(name, uid=uid, card=found, reach=edits(reach), limits=edits(own))
        self.model[name] = (uid, _uuid(found), reach | own, own)

    @rule(uid=uids, device=cards, nodes=some_nodes)
    def note_nodes(self, uid: str, device: str, nodes: frozenset[str]) -> None:
        name = f"{uid}.{device}"
        self.known.note_nodes(record(uid, device), {name: nodes})
        self.model.setdefault(name, (uid, _uuid(CARDS[device]), nodes, frozenset()))

    @rule(uid=uids, device=cards)
    def forget(self, uid: str, device: str) -> None:
        self.known.forget(record(uid, device))
        self.model.pop(f"{uid}.{device}", None)

    @rule(wanted=st.frozensets(uids))
    def keep(self, wanted: frozenset[str]) -> None:
        self.known.keep(wanted.__contains__)
        self.model = {name: one for name, one in self.model.items() if one[0] in wanted}

    @invariant()
    def rivals_are_those_whose_nodes_say_so(self) -> None:
        for name, (uid, *_) in self.model.items():
            device = name.removeprefix(f"{uid}.")
            found = self.known.rivals(record(uid, device))
            told = sorted(f"{one.uid}.{one.device}" for one in found)
            assert told == sorted(other for other in self.model if self._are_rivals(name, other))

    def _are_rivals(self, name: str, other: str) -> bool:
        uid, of, nodes, opens = self.model[name]
        other_uid, other_of, other_nodes, other_opens = self.model[other]
        if uid == other_uid:
            return False
        if of == other_of:
            return bool(opens & other_nodes or other_opens & nodes)
        return bool(nodes and other_nodes) and (nodes <= other_nodes or other_nodes <= nodes)


def _uuid(found: Card) -> str:
    return found.partition.card_uuid if found.partition is not None else found.uuid


TestKnownCards: Any = KnownCards.TestCase
TestKnownCards.settings = settings(max_examples=40, stateful_step_count=20)


def test_rivals_cost_no_more_however_many_claims_share_a_card() -> None:
    class Counted(frozenset[str]):
        compared = 0

        def __le__(self, other: object) -> bool:
            Counted.compared += 1
            return super().__le__(other)  # type: ignore[operator]

    source = Cards(*CARDS.values(), region=Path("/nowhere"))
    known = HandedOutCards(source)
    for number in range(100):
        for device in ("card-0", "card-1"):
            uid = f"claim-{number}-{device}"
            known.note_nodes(
                record(uid, device), {f"{uid}.{device}": Counted({"/dev/ctl", f"/dev/{device}"})}
            )
    assert known.rivals(record("claim-0-card-0", "card-0")) == ()
    assert Counted.compared == 2


def test_what_a_vendor_gives_is_kept_once_for_a_card_and_not_for_each_of_its_claims() -> None:
    def reach(version: str = "1") -> ContainerEdits:
        mounts = (Mount(host_path=f"/usr/lib/lib{n}.so.{version}", container_path="/x") for n in range(40))
        return ContainerEdits(device_nodes=(DeviceNode(path="/dev/card0"),), mounts=tuple(mounts))

    made: list[weakref.ref[ContainerEdits]] = []
    known = HandedOutCards(Cards(*CARDS.values(), region=Path("/nowhere")))

    def note(number: int, given: ContainerEdits) -> None:
        made.append(weakref.ref(given))
        known.note(
            f"c{number}.card-0",
            uid=f"c{number}",
            card=CARDS["card-0"],
            reach=given,
            limits=ContainerEdits(env={"LIMIT": str(number)}),
        )

    def kept() -> int:
        return sum(one() is not None for one in made)

    for number in range(20):
        note(number, reach())
    assert kept() == 1
    note(0, reach("2"))
    assert kept() == 2
    known.keep(lambda _: False)
    assert kept() == 0
