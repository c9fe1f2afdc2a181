"""What `hack/bench resolve` measures, in a process of its own for each scenario.

Purpose: times and memory of one cluster that is asked as a scheduler would ask, claim after claim.

Flow: `measure` builds the cluster from JSON texts and runs the scenario; as a program it prints an `Outcome`
as JSON.

Limits: a time is the processor time of this process, from the claim's JSON to the state after it was placed;
what a busy machine does to it is only that shared caches and cores make it longer. After building, objects
are taken out of Python's garbage collection as the controller does it (`controller.memory`): a collection
over 40,000 devices takes longer than anything that is measured here.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from controller.memory import settle
from driver.allocation import Decision, Snapshot, allocate
from driver.allocation.cluster import Cluster
from tooling.bench import resolve_world as world

T = TypeVar("T")

CHECKED = 50
"""Every so many answers of a stream are compared with plain evaluation."""
ALL_EVERY = 10
"""So many claims of a stream are asked of all nodes for one that is."""
RELEASED = 0.3
WARMING = 5
SLICES = 30
"""So many slices change, one after the other, after a stream."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What to measure.

    Attributes:
        held: `empty`, `full95` or `full100`: what is held at the start.
        mode: `first`, `all` or `stream`.
        claims: How many claims.
        nodes: How many nodes.
        seed: What a stream is drawn from.
    """

    held: str
    mode: str
    claims: int
    nodes: int
    seed: int = 1

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.held}, {self.mode}"


@dataclass(kw_only=True)
class Outcome:
    """What was measured; times in milliseconds.

    Attributes:
        placing: For each claim, from its JSON to the state after it was placed, or until it was refused.
        answers: For each question about all nodes, until all that can serve are known.
        releases: For each claim that went, until the state after.
        slices: For each slice that changed, from its JSON text to the state after, and the next answer.
        cold: The slowest of the first few claims, which are not among the others.
        placed: How many claims found a place.
        checked: How many answers were compared with plain evaluation, all with the same result.
        build_s: Time to read all slices and claims, in seconds.
        rss_mib: Memory of the process after building and at its highest.
    """

    placing: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    releases: list[float] = field(default_factory=list)
    slices: list[float] = field(default_factory=list)
    cold: float = 0.0
    placed: int = 0
    checked: int = 0
    build_s: float = 0.0
    rss_mib: tuple[float, float] = (0.0, 0.0)


class DifferentError(Exception):
    """An answer differs from plain evaluation."""


def measure(scenario: Scenario, *, settle: Callable[[], object] = gc.collect) -> Outcome:
    """Build the cluster and run a scenario.

    Args:
        scenario: What to measure.
        settle: Called when everything is built, before anything is measured.

    Raises:
        DifferentError: An answer differs from plain evaluation.
    """
    outcome = Outcome()
    began = time.process_time()
    held = (
        () if scenario.held == "empty" else world.sold(scenario.nodes, all_of_them=scenario.held == "full100")
    )
    snapshot = Snapshot.build(
        slices=(json.loads(world.slice_text(number)) for number in range(scenario.nodes)),
        classes=[world.device_class()],
    )
    cluster = Cluster.build(snapshot, claims=held)
    outcome.build_s = time.process_time() - began
    built = _rss_mib()
    run = _Run(cluster, outcome, settle)
    if scenario.mode == "stream":
        run.stream(scenario)
    else:
        run.plain(scenario)
    outcome.rss_mib = (built, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return outcome


class _Run:
    def __init__(self, cluster: Cluster, outcome: Outcome, settle: Callable[[], object]) -> None:
        self._settle = settle
        self._cluster = cluster
        self._outcome = outcome
        self._live: list[str] = []

    def plain(self, scenario: Scenario) -> None:
        """The claims of the scenarios, one after the other."""
        ask = self._first if scenario.mode == "first" else self._of_all
        self._outcome.cold, _ = self._asked(world.plain_claim(-1))
        self._settle()
        for number in range(scenario.claims):
            self._place(world.plain_claim(number), ask)

    def stream(self, scenario: Scenario) -> None:
        """Distinct claims, some of which go again."""
        draw = random.Random(scenario.seed)  # noqa: S311 - nothing secret
        warm = random.Random(scenario.seed + 1)  # noqa: S311
        for number in range(WARMING):
            took, _ = self._asked(world.distinct_claim(10**6 + number, warm))
            self._outcome.cold = max(self._outcome.cold, took)
        self._settle()
        for number in range(scenario.claims):
            claim = world.distinct_claim(number, draw)
            before = self._cluster
            decision = self._place(claim, self._first)
            checked = number % CHECKED == CHECKED - 1
            if checked and decision is not None:
                _check_first(before, claim, decision)
                self._outcome.checked += 1
            if number % ALL_EVERY == ALL_EVERY - 1:
                self._ask_all(world.distinct_claim(10**5 + number, draw), checked=checked)
            if self._live and draw.random() < RELEASED:
                self._release(self._live.pop(draw.randrange(len(self._live))))

        for number in range(SLICES):
            self._change(draw.randrange(scenario.nodes), generation=number + 2)

    def _change(self, node: int, *, generation: int) -> None:
        text = world.slice_text(node, generation=generation)

        def change() -> Cluster:
            cluster = self._cluster.with_slices(changed=[json.loads(text)])
            cluster.first([world.plain_claim(generation)])
            return cluster

        took, self._cluster = _timed(change)
        self._outcome.slices.append(took)

    def _asked(self, claim: world.JSON) -> tuple[float, Decision]:
        return _timed(lambda: self._cluster.first([claim]))

    def _ask_all(self, claim: world.JSON, *, checked: bool) -> None:
        took, answers = _timed(lambda: self._cluster.answers([claim]))
        self._outcome.answers.append(took)
        if checked:
            _check_all(self._cluster, claim, answers.feasible)
            self._outcome.checked += 1

    def _release(self, uid: str) -> None:
        took, self._cluster = _timed(lambda: self._cluster.with_claims(removed=[uid]))
        self._outcome.releases.append(took)

    def _place(self, claim: world.JSON, ask: Callable[[world.JSON], Decision | None]) -> Decision | None:
        def place() -> tuple[Decision | None, Cluster]:
            decision = ask(claim)
            if decision is None or decision.allocations is None:
                return decision, self._cluster
            changed = world.allocated(claim, decision.allocations[0])
            return decision, self._cluster.with_claims(changed=[changed])

        took, (decision, self._cluster) = _timed(place)
        self._outcome.placing.append(took)
        if decision is not None and decision.allocations is not None:
            self._outcome.placed += 1
            self._live.append(claim["metadata"]["uid"])
        return decision

    def _first(self, claim: world.JSON) -> Decision:
        return self._cluster.first([claim])

    def _of_all(self, claim: world.JSON) -> Decision | None:
        took, answers = _timed(lambda: self._cluster.answers([claim]))
        self._outcome.answers.append(took)
        return answers.decision(answers.feasible[0]) if answers.feasible else None


def _check_first(cluster: Cluster, claim: world.JSON, found: Decision) -> None:
    plain = found
    for node in cluster.snapshot.node_names:
        plain = allocate(cluster.snapshot, node=node, claims=[claim])
        if plain.allocations is not None:
            break
    if _devices(found) != _devices(plain):
        raise DifferentError(f"{claim}: {found}, by plain evaluation {plain}")


def _check_all(cluster: Cluster, claim: world.JSON, feasible: Sequence[str]) -> None:
    plain = [
        node
        for node in cluster.snapshot.node_names
        if allocate(cluster.snapshot, node=node, claims=[claim]).allocations is not None
    ]
    if list(feasible) != plain:
        raise DifferentError(f"{claim}: {len(feasible)} nodes, by plain evaluation {len(plain)}")


def _devices(decision: Decision) -> Any:
    """What was decided, without the ids of shares, which are new each time."""
    if decision.allocations is None:
        return None
    kept = [json.loads(json.dumps(one)) for one in decision.allocations]
    for one in kept:
        for result in one["devices"]["results"]:
            result.pop("shareID", None)
    return decision.node, kept


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.process_time()
    result = work()
    return (time.process_time() - began) * 1000, result


def _rss_mib() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Scenario(**json.loads(sys.argv[1])), settle=settle))))
