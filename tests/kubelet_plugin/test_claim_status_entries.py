"""What the entries of `status.devices` say, and what is noticed when a server drops some of it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from driver.cards import Fault, IsolationLevel
from driver.errors import OverCommitError
from driver.kube.client import JSON, ApiError, NotFoundError, UnreachableError
from driver.shares import Share
from kubelet_plugin import claim_status
from kubelet_plugin.claim_status import ClaimStatusWriter, entries_of
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.prepare.claims import ClaimRef
from kubelet_plugin.prepare.prepared import PreparedClaim, PreparedDevice
from kubelet_plugin.prepare.records import ClaimRecord, ShareRecord
from tests.support.scripted_api import Request, scripted_client

pytestmark = pytest.mark.asyncio

REF = ClaimRef(namespace="ns", name="claim", uid="u")
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
ANSWER = PreparedClaim(
    devices=(PreparedDevice(request="r", pool="p", device="card", cdi_id="c", share_id="s"),)
)


def share_record(
    *,
    device: str = "card",
    share_id: str = "s",
    memory: IsolationLevel = IsolationLevel.PRELOAD,
    **share: Any,
) -> ShareRecord:
    return ShareRecord(
        share=Share(
            claim_uid="u",
            request="gpu",
            device=device,
            share_id=share_id,
            **{"memory_mib": 4096, "cores_percent": 30, **share},
        ),
        pool="worker/dragoman",
        cdi_device=f"u.gpu.{device}",
        memory_level=memory,
        cores_level=memory,
    )


def record(*shares: ShareRecord, warnings: tuple[str, ...] = ()) -> ClaimRecord:
    return ClaimRecord(
        uid="u",
        namespace="ns",
        name="claim",
        allocation="x",
        shares=shares or (share_record(),),
        warnings=warnings,
    )


def conditions(found: ClaimRecord) -> dict[str, tuple[str, str, str]]:
    [entry] = entries_of(found, present=[], now="t")
    return {item["type"]: (item["status"], item["reason"], item["message"]) for item in entry["conditions"]}


async def test_an_entry_says_what_was_given_and_what_holds_it() -> None:
    [entry] = entries_of(record(), present=[], now="t")
    assert {key: entry[key] for key in ("driver", "pool", "device", "shareID")} == {
        "driver": "dragoman.dev",
        "pool": "worker/dragoman",
        "device": "card",
        "shareID": "s",
    }
    assert entry["data"] == {
        "memoryMiB": 4096,
        "coresPercent": 30,
        "wholeCard": False,
        "adminAccess": False,
        "memoryIsolation": "preload",
        "coresIsolation": "preload",
    }
    assert conditions(record()) == {
        "Ready": ("True", "Prepared", "CDI device dragoman.dev/share=u.gpu.card."),
        "Limited": (
            "True",
            "LimitsSet",
            "4096 MiB of memory, held by preload; 30 percent of compute, held by preload.",
        ),
    }


async def test_a_limit_that_nothing_holds_is_not_called_a_limit() -> None:
    found = record(share_record(memory=IsolationLevel.NONE, cores_percent=0), warnings=("It fails open.",))
    assert conditions(found)["Limited"] == (
        "False",
        "NotHeld",
        "4096 MiB of memory, held by nothing. It fails open.",
    )


async def test_a_cap_that_its_author_disabled_is_not_said_to_hold() -> None:
    disabled = replace(share_record(), core_policy="disable", cores_level=None)
    assert conditions(record(disabled))["Limited"] == (
        "True",
        "LimitsSet",
        "4096 MiB of memory, held by preload; 30 percent of compute, not capped (corePolicy: disable).",
    )
    [entry] = entries_of(record(disabled), present=[], now="t")
    assert entry["data"]["coresIsolation"] == ""


FIRST = {"type": "Priority", "status": "True", "reason": "GoesFirst", "message": "It does."}


async def test_only_a_share_of_high_priority_tells_whether_that_counts() -> None:
    def told(priority: str, said: dict[str, str] | None, *, before: list[Any] | None = None) -> list[Any]:
        share = record(replace(share_record(), priority=priority))
        [entry] = entries_of(share, present=before or [], now="t", priority_of=lambda _: said)
        return [one for one in entry["conditions"] if one["type"] == "Priority"]

    (condition,) = told("high", FIRST)
    assert condition == {**FIRST, "lastTransitionTime": "t"}
    assert told("low", FIRST) == told("", FIRST) == told("high", None) == []
    present = entries_of(
        record(replace(share_record(), priority="high")), present=[], now="s", priority_of=lambda _: FIRST
    )
    # An agent that has just started and knows no policy yet.
    assert told("high", None, before=present) == [{**FIRST, "lastTransitionTime": "s"}]


async def test_a_share_whose_only_limit_is_disabled_is_not_limited() -> None:
    alone = share_record(whole=True)
    disabled = replace(alone, core_policy="disable", memory_level=None, cores_level=None)
    assert conditions(record(disabled))["Limited"] == (
        "False",
        "NoLimit",
        "30 percent of compute, not capped (corePolicy: disable).",
    )


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({"whole": True, "cores_percent": 0}, "The whole card, without a limit."),
        ({"admin": True, "memory_mib": 0}, "Administrative access, without a limit."),
    ],
)
async def test_a_share_without_a_limit_says_so(share: dict[str, Any], message: str) -> None:
    assert conditions(record(share_record(**share)))["Limited"] == ("False", "NoLimit", message)


async def test_a_condition_that_says_the_same_keeps_its_transition_time() -> None:
    first = entries_of(record(), present=[], now="before")
    second = entries_of(record(), present=first, now="after")
    assert second == first


async def test_a_condition_that_turned_gets_a_new_transition_time() -> None:
    first = entries_of(record(), present=[], now="before")
    turned = entries_of(record(share_record(memory=IsolationLevel.NONE)), present=first, now="after")
    times = {item["type"]: item["lastTransitionTime"] for item in turned[0]["conditions"]}
    assert times == {"Ready": "before", "Limited": "after"}


async def test_two_results_with_one_key_make_one_entry() -> None:
    found = record(share_record(share_id=""), share_record(share_id=""))
    assert len(entries_of(found, present=[], now="t")) == 1


class ApiServer:
    def __init__(self, *, uid: str = "u") -> None:
        metadata = {"name": "claim", "uid": uid, "resourceVersion": "7"}
        self.claim: JSON | None = {"metadata": metadata, "status": {}}
        self.fail: ApiError | None = None
        self.keep: Callable[[JSON], JSON] = lambda entry: entry

    def __call__(self, request: Request) -> JSON | ApiError:
        if self.fail is not None:
            return self.fail
        if self.claim is None:
            return NotFoundError("gone", status=404)
        if request.method == "PATCH":
            [sent] = [change["value"] for change in request.body if change["path"] == "/status/devices"]
            self.claim = {**self.claim, "status": {"devices": [self.keep(entry) for entry in sent]}}
        return self.claim

    @property
    def devices(self) -> list[JSON]:
        assert self.claim is not None
        found: list[JSON] = (self.claim["status"] or {}).get("devices") or []
        return found


def writer(server: ApiServer, *, found: ClaimRecord | None = None) -> tuple[ClaimStatusWriter, Any, Metrics]:
    client, transport = scripted_client(server)
    metrics = Metrics()
    prepared = found or record()
    return (
        ClaimStatusWriter(client, record_of=lambda _uid: prepared, metrics=metrics, now=lambda: NOW),
        transport,
        metrics,
    )


async def test_a_claim_that_was_made_anew_is_left_alone() -> None:
    status, transport, _ = writer(ApiServer(uid="another"))
    assert not await status.write(REF)
    assert transport.writes() == []


async def test_a_claim_that_is_gone_is_nothing_to_write() -> None:
    server = ApiServer()
    server.fail = NotFoundError("gone", status=404)
    status, _, _ = writer(server)
    assert not await status.write(REF)


async def test_a_claim_that_was_unprepared_meanwhile_is_not_written() -> None:
    client, transport = scripted_client(ApiServer())
    status = ClaimStatusWriter(client, record_of=lambda _uid: None, metrics=Metrics())
    assert not await status.write(REF)
    assert transport.requests == []


@pytest.mark.parametrize(
    ("keep", "gate"),
    [
        (lambda entry: {key: entry[key] for key in entry if key != "shareID"}, "DRAConsumableCapacity"),
        (lambda entry: {"driver": entry["driver"]}, "DRAResourceClaimDeviceStatus"),
    ],
)
async def test_what_the_server_dropped_is_counted_by_the_gate_that_is_off(
    keep: Callable[[JSON], JSON], gate: str
) -> None:
    server = ApiServer()
    server.keep = keep
    status, _, metrics = writer(server)
    await status.write(REF)
    assert f'dropped_fields_total{{gate="{gate}",object="ResourceClaim"}} 1.0' in metrics.render().decode()


async def test_a_prepared_claim_is_written_by_the_task_and_tried_again_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("driver.kube.backoff.Backoff.next_delay", lambda _self: 0.001)
    monkeypatch.setattr(claim_status, "CALM_S", 0.0)
    server = ApiServer()
    server.fail = UnreachableError("away", status=0)
    status, transport, _ = writer(server)
    running = asyncio.create_task(status.run())
    status.prepared(REF, ANSWER)
    while len(transport.requests) < 3:  # noqa: ASYNC110 - requests are a list, no event
        await asyncio.sleep(0.001)
    server.fail = None
    while not server.devices:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    running.cancel()


async def test_refusals_and_claims_without_devices_here_write_nothing() -> None:
    status, transport, _ = writer(ApiServer())
    running = asyncio.create_task(status.run())
    status.prepared(REF, PreparedClaim())
    status.refused(REF, OverCommitError("full"))
    await asyncio.sleep(0.01)
    running.cancel()
    assert transport.requests == []


FAULT = Fault(reason="CardLost", message="It fell off the bus.", since="2026-01-01T00:00:00Z")


def _healthy(entry: JSON) -> JSON | None:
    return next((one for one in entry["conditions"] if one["type"] == "Healthy"), None)


async def test_a_share_of_a_well_card_says_nothing_of_its_health() -> None:
    [entry] = entries_of(record(), present=[], now="now")
    assert _healthy(entry) is None


async def test_the_fault_of_a_card_is_told_in_the_shares_that_lie_on_it() -> None:
    two = record(share_record(device="card"), share_record(device="other", share_id="t"))
    entries = entries_of(two, present=[], now="now", fault_of=lambda name: FAULT if name == "card" else None)
    assert [_healthy(entry) for entry in entries] == [
        {
            "type": "Healthy",
            "status": "False",
            "reason": "CardLost",
            "message": "It fell off the bus. (since 2026-01-01T00:00:00Z)",
            "lastTransitionTime": "now",
        },
        None,
    ]


async def test_the_end_of_a_fault_is_told_where_the_fault_was() -> None:
    before = entries_of(record(), present=[], now="before", fault_of=lambda _: FAULT)
    [entry] = entries_of(record(), present=before, now="now")
    told = _healthy(entry)
    assert told is not None
    assert (told["status"], told["reason"], told["lastTransitionTime"]) == ("True", "Recovered", "now")


async def test_a_card_that_changed_makes_its_claims_status_be_written() -> None:
    server = ApiServer()
    status, _, _ = writer(server)
    running = asyncio.create_task(status.run())
    status.card_changed(REF)
    while not server.devices:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    running.cancel()


async def test_what_is_seen_of_limits_is_a_condition_and_stays_until_there_is_another_word() -> None:
    said = {"type": "InForce", "status": "True", "reason": "Seen", "message": "Holds."}
    (first,) = entries_of(record(), present=[], now="1", in_force_of=lambda _record: said)
    assert first["conditions"][-1] == {**said, "lastTransitionTime": "1"}
    (later,) = entries_of(record(), present=[first], now="2")
    assert later["conditions"] == first["conditions"]


@pytest.mark.parametrize(
    ("prepared", "kept"),
    [
        ("2026-11-22T04:00:00Z", True),
        ("2026-11-22T04:00:01Z", False),
        ("2026-11-22T03:59:59Z", True),
        ("", True),
    ],
)
async def test_what_was_seen_of_the_limits_of_a_pod_before_is_not_said_of_the_next_one(
    prepared: str, kept: bool
) -> None:
    said = {"type": "InForce", "status": "True", "reason": "Seen", "message": "Holds."}
    (first,) = entries_of(record(), present=[], now="2026-11-22T04:00:00Z", in_force_of=lambda _record: said)
    # The same allocation, so the API server kept the entry.
    again = replace(record(), prepared=prepared)
    (later,) = entries_of(again, present=[first], now="2026-11-22T04:00:02Z")
    assert ("InForce" in [one["type"] for one in later["conditions"]]) is kept


async def test_a_partition_is_kept_apart_by_its_card() -> None:
    given = Share(claim_uid="u", request="r", device="nvidia-x-mig-9-4-4", memory_mib=19968, whole=True)
    level = IsolationLevel.HARDWARE
    part = ShareRecord(share=given, pool="p", cdi_device="c", memory_level=level, cores_level=level)
    assert conditions(record(part))["Limited"] == (
        "True",
        "LimitsSet",
        "A partition of 19968 MiB, kept apart by the card.",
    )


async def test_nothing_is_said_of_limits_that_nobody_has_looked_at() -> None:
    (entry,) = entries_of(record(), present=[], now="1")
    assert [one["type"] for one in entry["conditions"]] == ["Ready", "Limited"]
