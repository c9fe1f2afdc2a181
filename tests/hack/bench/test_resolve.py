"""`hack/bench resolve`: the world it makes, what it measures on it, and what it says of that."""

from __future__ import annotations

import json
import random
from dataclasses import asdict

import pytest

from driver.allocation import Snapshot, allocate
from driver.allocation.cluster import Cluster
from tooling.bench import resolve, resolve_world
from tooling.bench.resolve_run import DifferentError, Outcome, Scenario, _check_all, measure

NODES = 60


def scenario(held: str, mode: str, claims: int = 5) -> Scenario:
    return Scenario(held=held, mode=mode, claims=claims, nodes=NODES)


def test_the_claims_of_a_stream_are_all_different_and_can_be_placed() -> None:
    draw = random.Random(3)
    claims = [resolve_world.distinct_claim(number, draw) for number in range(200)]
    selectors = [
        one["exactly"]["selectors"][0]["cel"]["expression"]
        for claim in claims
        for one in claim["spec"]["devices"]["requests"]
    ]
    assert len(set(selectors)) == len(selectors)
    assert len({json.dumps(claim["spec"]) for claim in claims}) == len(claims)
    snapshot = Snapshot.build(
        slices=(json.loads(resolve_world.slice_text(number)) for number in range(0, 80, 20)),
        classes=[resolve_world.device_class()],
    )
    reasons = set()
    for claim in claims[:60]:
        found = [allocate(snapshot, node=node, claims=[claim]) for node in snapshot.node_names]
        reasons |= {one.refusal.reason for one in found if one.refusal is not None}
    assert reasons <= {"NoDevice", "NoCombination"}


@pytest.mark.parametrize(
    ("held", "mode", "placed"),
    [("empty", "first", 5), ("full95", "all", 5), ("full100", "first", 0), ("full100", "all", 0)],
)
def test_a_scenario_places_its_claims_as_long_as_there_is_room(held: str, mode: str, placed: int) -> None:
    outcome = measure(scenario(held, mode))
    assert outcome.placed == placed
    assert len(outcome.placing) == 5
    assert len(outcome.answers) == (5 if mode == "all" else 0)


def test_a_stream_is_checked_by_plain_evaluation_on_the_way() -> None:
    outcome = measure(scenario("full95", "stream", claims=100))
    assert outcome.checked == 4
    assert len(outcome.placing) == 100
    assert outcome.releases
    assert outcome.slices


def test_an_answer_that_plain_evaluation_does_not_give_ends_the_measurement() -> None:
    slices = (json.loads(resolve_world.slice_text(number)) for number in range(3))
    cluster = Cluster.build(Snapshot.build(slices=slices, classes=[resolve_world.device_class()]))
    _check_all(
        cluster, resolve_world.plain_claim(1), [resolve_world.node_name(number) for number in range(3)]
    )
    with pytest.raises(DifferentError):
        _check_all(cluster, resolve_world.plain_claim(1), [])


def test_what_has_to_hold_is_judged_by_the_figures() -> None:
    fast = Outcome(placing=[0.5, 0.7], rss_mib=(100.0, 120.0))
    slow = Outcome(placing=[1.5, 1.7], answers=[30.0], rss_mib=(100.0, 300.0))
    found = {
        scenario("empty", "first"): fast,
        scenario("full95", "first"): slow,
        scenario("empty", "stream"): fast,
        scenario("full95", "stream"): fast,
    }
    missed = {one.what for one in resolve.verdicts(found) if not one.holds}
    assert missed == {
        "full95, first: a claim in less than 1 ms on average",
        "full95, first: all nodes in less than 20 ms on average",
        "at most 256 MiB RSS, at its highest",
        "first: the median flat from the empty cluster to 95 % held",
    }
    assert "full95, first" in resolve.placing_table(found)
    assert "30.0" in resolve.answers_table(found)
    go = resolve.Go(claims=2, placed=2, milliseconds=[60.0, 60.0], rss_mib=200.0)
    assert "100" in resolve.go_table(found, {scenario("empty", "first"): go})
    assert json.dumps(asdict(fast))
