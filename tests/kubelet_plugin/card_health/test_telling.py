"""Which claims are told, and in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from driver.cards import Fault
from driver.shares import Share
from kubelet_plugin.card_health.telling import ClaimTeller
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord

FAULT = Fault(reason="CardLost", message="It fell off the bus.", since="2026-01-01T00:00:00Z")


def record(uid: str, *devices: str) -> ClaimRecord:
    shares = tuple(
        ShareRecord(
            share=Share(claim_uid=uid, request=f"r{index}", device=device, memory_mib=10),
            pool="worker/dragoman",
            cdi_device=f"{uid}.{index}",
        )
        for index, device in enumerate(devices)
    )
    return ClaimRecord(uid=uid, namespace="ns", name=f"claim-{uid}", allocation="x", shares=shares)


class Status:
    def __init__(self) -> None:
        self.told: list[str] = []

    def card_changed(self, ref: ClaimRef) -> None:
        self.told.append(ref.uid)


class Told:
    def __init__(self, *records: ClaimRecord) -> None:
        self._status = Status()
        self.events: list[tuple[str, str, bool]] = []
        self.texts: list[str] = []
        status, events = cast("Any", self._status), cast("Any", self)
        self.teller = ClaimTeller(lambda: records, status=status, events=events, node_name="worker")

    @property
    def status(self) -> list[str]:
        return self._status.told

    def card_changed(self, ref: ClaimRef, *, reason: str, text: str, warning: bool, of: str) -> None:
        assert text.startswith(f"Card {of} of ")
        self.events.append((ref.uid, reason, warning))
        self.texts.append(text)


def test_only_claims_that_hold_the_card_are_told() -> None:
    told = Told(record("u1", "a"), record("u2", "b"), record("u3", "b", "a"))
    told.teller({}, {"a": FAULT})
    assert told.status == ["u1", "u3"]
    assert told.events == [("u1", "CardUnhealthy", True), ("u3", "CardUnhealthy", True)]
    assert "Card a of claim claim-u1 on node worker" in told.texts[0]
    assert "It fell off the bus." in told.texts[0]


def test_the_end_of_a_fault_is_told_as_well() -> None:
    told = Told(record("u1", "a"))
    told.teller({"a": FAULT}, {})
    assert told.events == [("u1", "CardRecovered", False)]
    assert "2026-01-01T00:00:00Z" in told.texts[0]


def test_nobody_is_told_of_what_stays() -> None:
    told = Told(record("u1", "a"))
    told.teller({"a": FAULT}, {"a": FAULT})
    assert (told.status, told.events) == ([], [])


def test_a_fault_that_became_graver_is_told_again() -> None:
    told = Told(record("u1", "a"))
    told.teller({"a": FAULT}, {"a": replace(FAULT, reason="ResetRequired")})
    assert told.events == [("u1", "CardUnhealthy", True)]


def test_two_shares_of_one_card_are_told_once() -> None:
    told = Told(record("u1", "a", "a"))
    told.teller({}, {"a": FAULT})
    assert len(told.events) == 1
