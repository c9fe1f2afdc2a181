"""The watcher of the storms, measured: each state that must not be is noticed."""

from __future__ import annotations

import itertools

import pytest
import urllib3

from tests.cluster.support.api import JSON, Api
from tests.cluster.support.watcher import ASKS, Watcher

POOL = "node-1/dragoman"
CARD = (POOL, "nvidia-card")
_versions = itertools.count(1)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher(Api(urllib3.PoolManager(), "https://nowhere"), {CARD: 24 * 1024})


def held(
    name: str, memory: str = "", cores: str = "0", *, asks: str = "", device: str = "nvidia-card"
) -> JSON:
    """A claim as a server without shares stores it; without `memory` it holds the whole card."""
    share = {"request": "r", "pool": POOL, "device": device, "memory": memory, "cores": cores}
    parameters = {"kind": "ShareAllocation", "shares": [share] if memory else []}
    entry = {"source": "FromClaim", "opaque": {"driver": "dragoman.dev", "parameters": parameters}}
    result = {"driver": "dragoman.dev", "pool": POOL, "device": device, "request": "r"}
    return {
        "metadata": {
            "uid": name,
            "name": name,
            "namespace": "team",
            "annotations": {ASKS: asks} if asks else {},
        },
        "status": {"allocation": {"devices": {"results": [result], "config": [entry]}}},
    }


def see(watcher: Watcher, *claims: JSON, kind: str = "MODIFIED") -> list[str]:
    for one in claims:
        metadata = {**one["metadata"], "resourceVersion": str(next(_versions))}
        watcher.see({"type": kind, "object": {**one, "metadata": metadata}})
    return watcher.violations


def free_again(one: JSON) -> JSON:
    return {**one, "status": {}}


def test_a_card_that_is_full_is_right(watcher: Watcher) -> None:
    assert see(watcher, held("a", "12Gi", "50"), held("b", "12Gi", "50")) == []
    assert (watcher.most[CARD].mib, watcher.most[CARD].percent, watcher.most[CARD].holders) == (24576, 100, 2)


@pytest.mark.parametrize(
    ("second", "wrong"),
    [
        pytest.param(held("b", "12289Mi"), "24577 of 24576 MiB", id="a MiB too much"),
        pytest.param(held("b", "1Mi", "51"), "101 %", id="a percent too much"),
        pytest.param(held("b"), "as a whole and in parts", id="the whole card as well"),
        pytest.param(held("b", "1Mi", device="other"), "nobody offers", id="a card that is not there"),
        pytest.param(held("b", "2Gi", "10", asks="4096/10"), "asks 4096/10", id="less than it asks for"),
        pytest.param(held("a", "11Gi", "50"), "and then", id="a claim that is given something else"),
    ],
)
def test_what_must_not_be_is_noticed(watcher: Watcher, second: JSON, wrong: str) -> None:
    said = see(watcher, held("a", "12Gi", "50"), second)
    assert any(wrong in one for one in said), said


def test_a_whole_card_for_a_claim_that_asks_for_a_share_is_noticed(watcher: Watcher) -> None:
    (said,) = see(watcher, held("a", asks="4096/0"))
    assert "asks 4096/0 and was given whole" in said


def test_what_is_taken_back_or_deleted_counts_no_more(watcher: Watcher) -> None:
    whole = held("a", "24Gi")
    see(watcher, whole, free_again(whole), held("b", "24Gi"))
    see(watcher, held("b", "24Gi"), kind="DELETED")
    assert see(watcher, held("c", "24Gi", asks="whole")) == []
    assert (watcher.taken_back, watcher.states) == (1, 5)


def test_a_state_that_has_passed_stays_wrong(watcher: Watcher) -> None:
    see(watcher, held("a", "24Gi"), held("b", "1Gi"))
    assert see(watcher, held("b", "1Gi"), kind="DELETED")


def test_what_would_fit_is_what_is_left(watcher: Watcher) -> None:
    see(watcher, held("a", "12Gi", "50"))
    asked = ("12288/50", "12289/0", "1/51", "whole")
    fits = {asks: watcher.would_fit(asks, vendor="nvidia") for asks in asked}
    assert fits == {"12288/50": CARD, "12289/0": None, "1/51": None, "whole": None}
    assert watcher.would_fit("1/1", vendor="amd") is None
