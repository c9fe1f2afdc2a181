from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.api.policy import effective_policy
from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.shares import Share
from kubelet_plugin.in_force.book import Verdict
from kubelet_plugin.in_force.start import LimitsInForce
from kubelet_plugin.inventory import Snapshot
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef, FileClaimSource
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from kubelet_plugin.settings import parse_settings

SHARE = ShareRecord(
    share=Share(claim_uid="u1", request="gpu", device="nvidia-1", memory_mib=64),
    pool="n/dragoman",
    cdi_device="d",
    memory_level=IsolationLevel.PRELOAD,
)
REF = ClaimRef(namespace="ns", name="claim", uid="u1")
FAILS = Verdict(status="False", reason="StaticBinary", message="Static.", remedy="Link it.", container="app")


class Told:
    def __init__(self) -> None:
        self.claims: list[ClaimRef] = []
        self.events: list[tuple[str, str]] = []

    def card_changed(self, ref: ClaimRef, **event: Any) -> None:
        if event:
            # Each share of a claim is told of.
            assert event["of"] == SHARE.cdi_device
            self.events.append((event["reason"], event["text"]))
        else:
            self.claims.append(ref)


class Cards:
    vendor = "nvidia"

    def cards(self) -> Mapping[str, Card]:
        return {"nvidia-1": card(self.vendor)}

    def vendor_edits(self, card: Card) -> ContainerEdits:
        raise NotImplementedError


def card(vendor: str = "nvidia", *, allowed: bool = False) -> Card:
    return Card(name="nvidia-1", vendor=vendor, model="m", memory_bytes=1 << 34, allow_high_priority=allowed)


def snapshot(*, allowed: bool = True, complete: bool = True) -> Snapshot:
    return Snapshot(
        cards={"nvidia-1": card(allowed=allowed)},
        policy=effective_policy([], node_labels={}),
        problems=(),
        complete=complete,
    )


def limits(*records: ClaimRecord, deadline: str = "30") -> tuple[LimitsInForce, Told]:
    arguments = ["--node-name", "node-1", "--claims-from", "/nowhere", "--in-force-deadline", deadline]
    found = LimitsInForce(
        parse_settings(arguments, environment={}),
        records=lambda: records,
        claims=FileClaimSource(Path("/nowhere")),
        cards=Cards(),
        methods={},
        metrics=Metrics(),
    )
    told = Told()
    found.tell(status=told, events=told)
    return found, told


def record(share: ShareRecord) -> ClaimRecord:
    return ClaimRecord(uid="u1", namespace="ns", name="claim", allocation="", shares=(share,))


class Watch:
    def __init__(self, verdict: Verdict | None) -> None:
        self.verdict = verdict

    def verdict_of(self, share: ShareRecord) -> Verdict | None:
        return self.verdict


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (FAILS, "Static. (container app) Link it."),
        (Verdict(status="True", reason="Seen", message="Holds.", container="app"), "Holds."),
        (Verdict(status="Unknown", reason="NoProcess", message="None."), "None."),
    ],
)
@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_verdict_becomes_a_condition(verdict: Verdict, message: str) -> None:
    found, _ = limits()
    found._watch = Watch(verdict)  # type: ignore[assignment]
    assert found.condition_of(SHARE) == {
        "type": "InForce",
        "status": verdict.status,
        "reason": verdict.reason,
        "message": message,
    }


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_before_there_is_a_word_the_condition_is_left_as_it_is() -> None:
    found, _ = limits()
    assert found.condition_of(SHARE) is None
    found._watch = Watch(None)  # type: ignore[assignment]
    assert found.condition_of(SHARE) is None


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_failure_is_told_to_claim_and_pods_and_a_proof_to_the_claim_alone() -> None:
    found, told = limits()
    found._told(REF, SHARE, FAILS)
    found._told(REF, SHARE, replace(FAILS, status="True"))
    assert told.claims == [REF, REF]
    ((reason, text),) = told.events
    assert reason == "LimitNotInForce"
    assert "request gpu of claim claim" in text
    assert "container app on node node-1, StaticBinary: Static. Link it." in text


@pytest.mark.parametrize(
    ("share", "deadline", "made"),
    [
        (SHARE, "30", True),
        (SHARE, "0", False),
        (replace(SHARE, memory_level=None), "30", False),
        (replace(SHARE, memory_level=IsolationLevel.NONE), "30", False),
    ],
)
@pytest.mark.asyncio
@pytest.mark.looptime
async def test_nobody_looks_before_a_limited_share_is_prepared(
    share: ShareRecord, deadline: str, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = limits(record(share), deadline=deadline)
    made_one: list[_Endless] = []

    def make() -> _Endless:
        made_one.append(_Endless())
        return made_one[0]

    monkeypatch.setattr(found, "_make_watch", make)
    running = asyncio.create_task(found.run())
    await asyncio.sleep(60)
    running.cancel()
    assert bool(made_one) is made


HIGH = replace(SHARE, priority="high")
OTHERWISE = replace(HIGH, memory_level=IsolationLevel.KERNEL)


@pytest.mark.parametrize(
    ("share", "allowed", "settings", "said"),
    [
        (HIGH, True, ("30", "nvidia"), ("True", "GoesFirst")),
        (HIGH, False, ("30", "nvidia"), ("False", "NotAllowed")),
        (HIGH, True, ("0", "nvidia"), ("False", "NotWatched")),
        (HIGH, True, ("30", "amd"), ("False", "NotHeldByPreload")),
        (OTHERWISE, True, ("30", "nvidia"), ("False", "NotHeldByPreload")),
    ],
)
def test_whether_high_priority_counts_becomes_a_condition(
    share: ShareRecord,
    allowed: bool,
    settings: tuple[str, str],
    said: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deadline, vendor = settings
    monkeypatch.setattr(Cards, "vendor", vendor)
    found, _ = limits(record(share), deadline=deadline)
    found.look_at_policy(snapshot(allowed=allowed))
    condition = found.priority_of(share)
    assert condition is not None
    assert (condition["type"], condition["status"], condition["reason"]) == ("Priority", *said)
    section = (Path(__file__).parents[3] / "docs/in-force.md").read_text().partition("## Who waits")[2]
    assert f"| `{said[0]}` | `{said[1]}` |" in section


def test_before_policies_are_known_nothing_is_said_of_priority() -> None:
    found, told = limits(record(HIGH))
    found.look_at_policy(snapshot(complete=False))
    assert (found.priority_of(HIGH), told.claims) == (None, [])


def test_a_policy_for_another_card_is_told_to_nobody() -> None:
    found, told = limits(record(HIGH))
    found.look_at_policy(snapshot())
    other = replace(card(allowed=True), name="nvidia-2")
    found.look_at_policy(replace(snapshot(), cards={"nvidia-1": card(allowed=True), "nvidia-2": other}))
    assert told.claims == [REF]


def test_a_policy_that_changes_is_told_to_claims_of_high_priority_on_its_cards_and_to_no_others() -> None:
    found, told = limits(record(HIGH), record(SHARE), record(replace(SHARE, priority="low")))
    for allowed, times in ((True, 1), (True, 1), (False, 2), (True, 3)):
        found.look_at_policy(snapshot(allowed=allowed))
        assert told.claims == [REF] * times


class _Endless:
    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()


def test_importing_the_agent_imports_nothing_of_the_watch() -> None:
    code = (
        "import sys, kubelet_plugin.app; "
        "print([one for one in sys.modules if one.startswith('kubelet_plugin.in_force.') "
        "and not one.endswith('.start')])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
