"""The measuring instruments of these tests, measured: each has to notice what it is there for."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from driver.kube.resources import RESOURCE_CLAIMS, RESOURCE_SLICES
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, Api, Refused
from tests.cluster.support.following import Following
from tests.cluster.support.installation import rolled_out
from tests.cluster.support.ledger import Ledger
from tests.cluster.support.probe import parse
from tests.cluster.support.quotas import Watch
from tests.cluster.support.target import _of_this_process
from tests.cluster.support.watcher import Watcher

POOL = "node-1/dragoman"


def piece(memory: str) -> JSON:
    device = {"name": "card", "capacity": {"memory": {"value": memory}, "cores": {"value": "100"}}}
    return {
        "metadata": {"uid": "s", "name": "s"},
        "spec": {"driver": "dragoman.dev", "pool": {"name": POOL}, "devices": [device]},
    }


def given(uid: str, *, namespace: str = "team", **result: Any) -> JSON:
    full = {"driver": "dragoman.dev", "pool": POOL, "device": "card", "request": "r", **result}
    return {
        "metadata": {"uid": uid, "name": uid, "namespace": namespace},
        "status": {"allocation": {"devices": {"results": [full]}}},
    }


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(Api(urllib3.PoolManager(), "https://nowhere"))
    ledger._change(RESOURCE_SLICES, "ADDED", piece("24Gi"))
    return ledger


def see(ledger: Ledger, *claims: JSON) -> list[str]:
    for one in claims:
        ledger._change(RESOURCE_CLAIMS, "MODIFIED", one)
    return ledger.violations


def test_the_ledger_accepts_a_card_that_is_full(ledger: Ledger) -> None:
    full = [given(uid, consumedCapacity={"memory": "12Gi", "cores": "50"}) for uid in ("a", "b")]
    assert see(ledger, *full) == []


@pytest.mark.parametrize(
    "second",
    [
        pytest.param({"consumedCapacity": {"memory": "12289Mi", "cores": "0"}}, id="a MiB too much"),
        pytest.param({"consumedCapacity": {"memory": "1Mi", "cores": "51"}}, id="a percent too much"),
        pytest.param({}, id="the whole card"),
    ],
)
def test_the_ledger_notices_what_is_too_much(ledger: Ledger, second: JSON) -> None:
    first = given("a", consumedCapacity={"memory": "12Gi", "cores": "50"})
    assert len(see(ledger, first, given("b", **second))) == 1


def test_the_ledger_forgets_claims_that_are_gone_and_passes_over_the_excused(ledger: Ledger) -> None:
    whole = given("a")
    see(ledger, whole)
    ledger._change(RESOURCE_CLAIMS, "DELETED", whole)
    ledger.excuse("forged")
    assert see(ledger, given("b"), given("c", namespace="forged"), given("d", adminAccess=True)) == []


def test_the_ledger_keeps_what_it_saw_although_it_passed(ledger: Ledger) -> None:
    see(ledger, given("a"), given("b"))
    ledger._change(RESOURCE_CLAIMS, "DELETED", given("b"))
    assert ledger.violations


def document(**changes: Any) -> str:
    card = {"vendor": "nvidia", "index": 0, "card": "GPU-1", "memoryBytes": 64 << 20, "cores": None}
    return json.dumps({"library": True, "stray": [], "conflict": False, "cards": [card], **changes})


def test_the_probes_last_document_counts_and_half_of_one_does_not() -> None:
    log = f"{document(cards=[])}\n{document()}\n{document()[:20]}"
    seen = parse(log)
    assert seen is not None
    assert (seen.cards, seen.memory_mib(0), seen.cores(0)) == (["GPU-1"], 64, None)
    assert parse("nothing yet\n") is None


@pytest.mark.parametrize("changes", [{"stray": [{"index": 3}]}, {"conflict": True}])
def test_limits_that_do_not_belong_to_a_card_fail_the_test_that_reads_them(changes: JSON) -> None:
    seen = parse(document(**changes))
    assert seen is not None
    with pytest.raises(AssertionError):
        assert seen.limits


def test_a_rollout_is_not_over_while_an_old_pod_is_left() -> None:
    status = {
        "observedGeneration": 2,
        "desiredNumberScheduled": 1,
        "updatedNumberScheduled": 1,
        "numberAvailable": 1,
        "currentNumberScheduled": 1,
    }
    assert rolled_out({"metadata": {"generation": 2}, "status": status})
    for key in status:
        changed = {**status, key: 0}
        assert not rolled_out({"metadata": {"generation": 2}, "status": changed}), key


class Scripted:
    """An API server whose watches break off as told."""

    def __init__(self, *watches: list[JSON | Exception]) -> None:
        self.watches = list(watches)
        self.asked: list[str] = []

    def page(self, _kind: Any, **_: Any) -> JSON:
        return {"items": [], "metadata": {"resourceVersion": "1"}}

    def watch(self, _kind: Any, *, resource_version: str, **_: Any) -> Iterator[JSON]:
        self.asked.append(resource_version)
        for one in self.watches.pop(0):
            if isinstance(one, Exception):
                raise one
            yield one


def event(version: str) -> JSON:
    return {"type": "ADDED", "object": {"metadata": {"resourceVersion": version}}}


def followed(*watches: list[JSON | Exception]) -> tuple[Following, Scripted, list[str]]:
    api, seen = Scripted(*watches), list[str]()
    following = Following(
        api,  # type: ignore[arg-type] # what is asked of one
        (RESOURCE_CLAIMS,),
        listed=lambda _kind, _objects: seen.append("listed"),
        changed=lambda _kind, _change, one: seen.append(one["metadata"]["resourceVersion"]),
    )
    for _ in range(len(watches) + 1):
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            following._look(RESOURCE_CLAIMS)
    return following, api, seen


def test_a_watch_that_breaks_off_is_taken_up_where_it_was() -> None:
    broken = urllib3.exceptions.ProtocolError("gone")
    following, api, seen = followed([event("2"), event("3"), broken], [event("4")])
    assert seen == ["listed", "2", "3", "4"]
    assert api.asked == ["1", "3"]
    assert following.gaps == 0


def test_a_watch_that_is_too_old_is_a_gap_and_starts_over() -> None:
    old = {"type": "ERROR", "object": {"code": 410}}
    following, _, seen = followed([event("2"), old], [event("9")])
    assert seen == ["listed", "2", "listed"]
    assert following.gaps == 1


def test_each_process_of_a_run_has_a_cluster_of_its_own() -> None:
    assert _of_this_process(["test", "test-2"], worker="") == "test"
    assert [_of_this_process(["test", "test-2"], worker=one) for one in ("gw0", "gw1")] == ["test", "test-2"]
    with pytest.raises(AssertionError, match="gw2 has no cluster"):
        _of_this_process(["test", "test-2"], worker="gw2")


def test_a_server_that_does_not_answer_for_a_moment_ends_no_wait() -> None:
    answers: list[Exception | str] = [
        Refused(503, "starting"),
        urllib3.exceptions.ProtocolError("cut"),
        "yes",
    ]

    def look() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert waiting.eventually(look, what="it answers", every=0.0) == "yes"


def test_a_refusal_that_does_not_pass_ends_a_wait_at_once() -> None:
    def look() -> str:
        raise Refused(403, "not yours")

    with pytest.raises(Refused, match="not yours"):
        waiting.eventually(look, what="it answers")


def test_a_wait_that_ends_without_an_answer_says_what_was_in_the_way() -> None:
    def look() -> str:
        raise Refused(503, "starting")

    with pytest.raises(waiting.Waited, match="it answers; there was no answer: 503 : starting"):
        waiting.eventually(look, what="it answers", seconds=0.0)


def quota_claim(uid: str, version: int) -> JSON:
    return {"kind": "ResourceClaim", "metadata": {"uid": uid, "resourceVersion": str(version)}}


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        pytest.param([("old", 3), ("a", 5)], True, id="all is as it was seen"),
        pytest.param([("old", 3), ("a", 4)], True, id="newer was seen"),
        pytest.param([("old", 3), ("a", 6)], False, id="a change is still to come"),
        pytest.param([("old", 3), ("a", 5), ("b", 6)], False, id="a claim is still to come"),
        pytest.param([("a", 5)], False, id="an end is still to come"),
    ],
)
def test_the_watch_of_a_quota_ends_when_it_has_seen_what_is_stored(
    stored: list[tuple[str, int]], seen: bool
) -> None:
    watch = Watch(Api(urllib3.PoolManager(), "https://nowhere"), "team", before=[quota_claim("old", 3)])
    watch.events = [
        (4, "ADDED", quota_claim("gone", 4)),
        (5, "ADDED", quota_claim("a", 5)),
        (6, "DELETED", quota_claim("gone", 6)),
    ]
    page = {"metadata": {"resourceVersion": "7"}, "items": [quota_claim(*one) for one in stored]}
    assert watch._has_seen(RESOURCE_CLAIMS, page) is seen


def test_the_watch_of_a_quota_minds_nothing_that_came_after_the_look_at_what_is_stored() -> None:
    watch = Watch(Api(urllib3.PoolManager(), "https://nowhere"), "team")
    watch.events = [(8, "ADDED", quota_claim("later", 8))]
    assert watch._has_seen(RESOURCE_CLAIMS, {"metadata": {"resourceVersion": "7"}, "items": []})


class Answering:
    """An API server whose watches are refused as told, and then show nothing."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)

    def page(self, _kind: Any, **_: Any) -> JSON:
        return {"items": [], "metadata": {"resourceVersion": "1"}}

    def watch(self, _kind: Any, **_: Any) -> Iterator[JSON]:
        if self.statuses:
            raise Refused(self.statuses.pop(0), "refused")
        time.sleep(0.01)
        return iter(())


@pytest.mark.parametrize(("status", "missed"), [(503, False), (410, True)])
def test_a_watcher_misses_states_only_where_a_watch_cannot_go_on(status: int, missed: bool) -> None:
    api = Answering(status)
    with Watcher(api, {}) as watcher:  # type: ignore[arg-type] # what is asked of one
        waiting.eventually(lambda: not api.statuses, what="it was refused", every=0.01)
    assert bool(watcher.violations) is missed
