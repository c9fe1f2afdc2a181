"""A record's bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cards import IsolationLevel
from driver.errors import StateError
from driver.shares import Share
from kubelet_plugin.prepare.records import (
    ClaimRecord,
    ShareRecord,
    StateDamagedError,
    StateNewerError,
    decode,
    devices_named,
    encode,
)

RECORD = ClaimRecord(
    uid="u1",
    namespace="ns",
    name="c",
    allocation="sha256:1",
    shares=(
        ShareRecord(
            share=Share(
                claim_uid="u1",
                request="r/s",
                device="card-0",
                share_id="x",
                memory_mib=4096,
                cores_percent=30,
            ),
            pool="worker/dragoman",
            cdi_device="u1.r.card-0.x",
            index=1,
            core_policy="disable",
            priority="high",
            memory_level=IsolationLevel.PRELOAD,
        ),
        ShareRecord(
            share=Share(claim_uid="u1", request="m", device="card-1", admin=True),
            pool="worker/dragoman",
            cdi_device="u1.m.card-1",
        ),
    ),
    warnings=("one",),
    prepared="2026-11-22T04:00:00Z",
)


def changed(**changes: Any) -> bytes:
    """The record's bytes as a newer version might have written them."""
    document = json.loads(encode(RECORD))["record"] | changes
    body = json.dumps(document).encode()
    return b'{"checksum":"sha256:%s","record":%s}\n' % (hashlib.sha256(body).hexdigest().encode(), body)


def test_what_is_written_is_read_again() -> None:
    assert decode(encode(RECORD), uid="u1") == RECORD


def test_the_file_is_json() -> None:
    assert json.loads(encode(RECORD))["record"]["schemaVersion"] == 1


def test_a_record_of_before_there_were_priorities_says_none() -> None:
    shares = json.loads(encode(RECORD))["record"]["shares"]
    assert [share.pop("priority") for share in shares] == ["high", ""]
    assert [share.priority for share in decode(changed(shares=shares), uid="u1").shares] == ["", ""]


def test_fields_of_a_newer_version_do_not_stop_an_older_one_from_reading() -> None:
    assert decode(changed(schemaVersion=7, minReader=1, later={"a": 1}), uid="u1") == RECORD


def test_a_record_of_an_earlier_version_is_read_as_it_was_meant() -> None:
    shares = json.loads(encode(RECORD))["record"]["shares"]
    for share in shares:
        del share["memoryReserved"]
    assert decode(changed(shares=shares, prepared=None), uid="u1") == replace(RECORD, prepared="")


def test_a_record_that_a_newer_version_forbids_to_read_is_not_taken_for_damaged() -> None:
    with pytest.raises(StateNewerError) as refused:
        decode(changed(schemaVersion=2, minReader=2), uid="u1")
    assert refused.value.reason == "StateNewer"


def test_a_record_under_another_claims_name_is_damaged() -> None:
    with pytest.raises(StateDamagedError) as refused:
        decode(encode(RECORD), uid="u2")
    assert refused.value.reason == "StateDamaged"


def test_a_record_with_an_amount_of_the_wrong_type_is_damaged() -> None:
    shares = json.loads(encode(RECORD))["record"]["shares"]
    shares[0]["memoryMiB"] = "4096"
    with pytest.raises(StateDamagedError):
        decode(changed(shares=shares), uid="u1")


@given(st.integers(0, len(encode(RECORD)) - 1), st.integers(0, 255))
def test_no_changed_byte_goes_unnoticed(position: int, value: int) -> None:
    content = bytearray(encode(RECORD))
    if content[position] == value:
        return
    content[position] = value
    with pytest.raises(StateError):
        decode(bytes(content), uid="u1")


@given(st.integers(0, len(encode(RECORD)) - 1))
def test_no_truncation_goes_unnoticed(length: int) -> None:
    with pytest.raises(StateError):
        decode(encode(RECORD)[:length], uid="u1")


def test_cards_of_a_record_are_known_as_long_as_its_checksum_holds() -> None:
    assert devices_named(encode(RECORD), uid="u1") == frozenset({"card-0", "card-1"})
    assert devices_named(encode(RECORD).replace(b'"card-0"', b'"card-2"'), uid="u1") is None
    assert devices_named(encode(RECORD)[:-40], uid="u1") is None
    assert devices_named(b"\0\xff", uid="u1") is None


def test_cards_of_a_record_under_another_claims_name_are_not_believed() -> None:
    assert devices_named(encode(RECORD), uid="u2") is None
