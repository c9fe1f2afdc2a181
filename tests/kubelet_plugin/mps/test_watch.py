from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import pytest

from driver.cards import Card, IsolationLevel
from driver.isolation.service import MpsState
from driver.isolation.service_shares import MpsShare
from driver.shares import Share
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.mps.watch import EVERY_S, MpsWatch
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord

CARD = Card(name="nvidia-0", vendor="nvidia", model="Test", memory_bytes=24 << 30, uuid="GPU-0")
SHARE = Share(
    claim_uid="0f0e", request="gpu", device="nvidia-0", share_id="a", memory_mib=4096, cores_percent=30
)


SEEN_ANEW_S = 60.0
HELD = {"type": "InForce", "status": "True", "reason": "Seen", "message": "Seen."}
WITHOUT = {"type": "InForce", "status": "False", "reason": "NoMpsClient", "message": "It has the whole card."}


def record(level: IsolationLevel = IsolationLevel.SERVICE) -> ClaimRecord:
    item = ShareRecord(share=SHARE, pool="p", cdi_device="0f0e.gpu", memory_level=level, cores_level=level)
    return ClaimRecord(uid="0f0e", namespace="default", name="claim", allocation="x", shares=(item,))


class Node:
    """Stands for `MpsSupervised`."""

    def __init__(self) -> None:
        self.noted: dict[str, MpsShare] = {}
        self.unheld = ""
        self.restarts = 0
        self.asked = 0

    def notes(self, share: MpsShare) -> bool:
        return self.noted.get(share.name) == share

    def repair(self, share: MpsShare) -> bool:
        self.noted[share.name] = share
        return True

    def state(self) -> MpsState:
        self.asked += 1
        folders = {} if self.unheld else dict.fromkeys(self.noted, "/x")
        return MpsState(
            unheld=dict.fromkeys(self.noted, self.unheld), folders=folders, restarts=self.restarts
        )


class Told:
    """Remembers what claims were told."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.written = 0
        self.texts: list[str] = []

    def limits_changed(self, ref: ClaimRef, *, reason: str, text: str, warning: bool, of: str) -> None:
        assert (ref.name, ref.uid, of) == ("claim", "0f0e", "0f0e.gpu")
        assert text.startswith("Request gpu of claim claim: The limits of ")
        assert warning == (reason == "LimitsLost")
        self.reasons.append(reason)
        self.texts.append(text)

    def condition_changed(self, ref: ClaimRef) -> None:
        assert (ref.name, ref.uid) == ("claim", "0f0e")
        self.written += 1


class Agent:
    """A look with all that is around it."""

    def __init__(self) -> None:
        self.node = Node()
        self.records = [record()]
        self.cards: Mapping[str, Card] = {"nvidia-0": CARD}
        self.metrics = Metrics()
        self.told = Told()
        watched: Any = self.node
        self.watch = MpsWatch(
            watched,
            records=lambda: self.records,
            cards=lambda: self.cards,
            metrics=self.metrics,
            seen_anew_s=SEEN_ANEW_S,
            clock=lambda: self.now,
        )
        self.now = 0.0
        self.seen: dict[str, str] | None = None
        self.watch.teller = self.told

    def looks(self, times: int) -> None:
        for _ in range(times):
            asyncio.run(self.watch.look())
            self.now += EVERY_S

    @property
    def condition(self) -> dict[str, str] | None:
        return self.watch.condition(record().shares[0], seen=self.seen)

    def metric(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(f"dragoman_agent_{name}")
        assert value is not None
        return value


@pytest.fixture
def agent() -> Agent:
    found = Agent()
    found.looks(2)  # the note is written at the second look
    return found


def test_shares_of_other_methods_are_nobodys_concern() -> None:
    agent = Agent()
    agent.records = [record(IsolationLevel.PRELOAD)]
    agent.looks(3)
    assert (agent.node.asked, agent.node.noted) == (0, {})


def test_what_was_prepared_and_is_not_noted_is_noted_at_the_second_look() -> None:
    agent = Agent()
    agent.looks(1)
    assert agent.node.noted == {}
    agent.looks(1)
    (noted,) = agent.node.noted.values()
    assert (noted.memory_mib, noted.cores_percent, noted.card) == (4096, 30, "GPU-0")
    assert agent.metric("mps_repairs_total") == 1
    assert agent.told.reasons == []


def test_a_note_that_says_something_else_is_put_right(agent: Agent) -> None:
    (name,) = agent.node.noted
    agent.node.noted[name] = MpsShare(
        claim_uid="0f0e", name=name, server="s", card="GPU-0", memory_mib=1, cores_percent=1
    )
    agent.looks(2)
    assert agent.node.noted[name].memory_mib == 4096


def test_limits_that_are_away_for_one_look_are_not_worth_a_word(agent: Agent) -> None:
    agent.node.unheld = "The MPS daemon ended."
    agent.looks(1)
    agent.node.unheld = ""
    agent.looks(1)
    assert agent.told.reasons == []
    assert agent.condition is None


def test_limits_that_stay_away_fail_the_claim_once_by_condition_and_event(agent: Agent) -> None:
    agent.node.unheld = "The MPS daemon ended."
    agent.looks(4)
    assert agent.told.reasons == ["LimitsLost"]
    assert "The MPS daemon ended. Programs that start now may have the whole card." in agent.told.texts[0]
    condition = agent.condition
    assert condition is not None
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "InForce",
        "False",
        "LimitsLost",
    )
    assert agent.metric("mps_shares_lost") == 1
    assert agent.watch.problems == ("MPS: The MPS daemon ended.",)


def test_limits_that_are_back_are_told_and_the_condition_claims_no_more_than_is_known(
    agent: Agent,
) -> None:
    agent.node.unheld = "The MPS daemon ended."
    agent.looks(2)
    agent.node.unheld = ""
    agent.looks(1)
    assert agent.told.reasons == ["LimitsLost", "LimitsRestored"]
    condition = agent.condition
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("Unknown", "LimitsRestored")
    assert agent.metric("mps_shares_lost") == 0
    assert agent.watch.problems == ()


@pytest.fixture
def restored(agent: Agent) -> Agent:
    agent.seen = HELD
    agent.node.unheld = "The MPS daemon ended."
    agent.looks(2)
    agent.node.unheld = ""
    agent.looks(1)
    return agent


def reason(agent: Agent) -> str:
    return agent.condition["reason"] if agent.condition else ""


def test_what_is_seen_of_processes_stands_again_once_it_is_younger_than_the_limits(restored: Agent) -> None:
    restored.looks(int(SEEN_ANEW_S / EVERY_S) - 1)
    assert (reason(restored), restored.told.written) == ("LimitsRestored", 0)
    restored.looks(1)
    assert (restored.condition, restored.told.written) == (HELD, 1)
    restored.looks(10)
    assert restored.told.written == 1


def test_a_program_without_limits_is_told_as_soon_as_it_is_seen(restored: Agent) -> None:
    restored.seen = WITHOUT
    assert restored.condition == WITHOUT
    restored.looks(100)
    assert restored.condition == WITHOUT


def test_what_was_seen_while_limits_were_lost_is_not_told_when_they_are_back(restored: Agent) -> None:
    restored.seen = {**WITHOUT, "reason": "LimitsLost"}
    assert reason(restored) == "LimitsRestored"


def test_limits_that_are_lost_once_more_are_told_whatever_is_seen(restored: Agent) -> None:
    restored.seen = WITHOUT
    restored.node.unheld = "The MPS daemon ended."
    restored.looks(2)
    assert reason(restored) == "LimitsLost"
    restored.looks(100)
    restored.node.unheld, restored.seen = "", HELD
    restored.looks(1)
    assert reason(restored) == "LimitsRestored"


def test_where_nobody_looks_at_processes_it_is_never_said_that_limits_hold(restored: Agent) -> None:
    restored.watch._seen_anew_s = math.inf
    restored.looks(1000)
    assert reason(restored) == "LimitsRestored"


def test_a_claim_that_goes_while_its_limits_are_lost_is_told_nothing_more(agent: Agent) -> None:
    agent.node.unheld = "The MPS daemon ended."
    agent.looks(2)
    agent.records = []
    agent.looks(2)
    assert agent.told.reasons == ["LimitsLost"]
    assert agent.condition is None


def test_a_share_whose_card_is_gone_is_told(agent: Agent) -> None:
    agent.cards = {"nvidia-1": CARD}
    agent.looks(2)
    assert "Card nvidia-0 is not on this node" in agent.told.texts[0]


def test_before_the_cards_are_known_nothing_is_said(agent: Agent) -> None:
    agent.cards = {}
    agent.looks(5)
    assert agent.told.reasons == []


def test_each_end_of_the_daemon_is_counted_once_also_over_supervisors(agent: Agent) -> None:
    for restarts, total in ((1, 1), (3, 3), (3, 3), (0, 3), (1, 4)):
        agent.node.restarts = restarts
        agent.looks(1)
        assert agent.metric("mps_restarts_total") == total
