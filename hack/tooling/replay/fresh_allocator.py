"""New random allocation problems, answered by both sides.

Flow: `generate_allocator` makes them, the reference of both releases answers, ours answers as each, and the
judge compares: what 1.36 does by a flaw shows as the answer of 1.37.

Limits: what the reference answers by chance, or not in time, is left out.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tooling.bench.table import table
from tooling.cluster.progress import to_terminal
from tooling.replay.allocations import answer, inputs
from tooling.replay.by_cluster import differing_nodes, is_stock
from tooling.replay.check import percent
from tooling.replay.fresh import chosen_seed, close
from tooling.replay.generate_allocator import LISTS, ODD, case
from tooling.replay.judge import compare, flaw_not_copied
from tooling.replay.lines import Line
from tooling.replay.progress import Progress
from tooling.replay.reference import RELEASES, Reference, build

CASES = 1500


@dataclass(slots=True)
class Run:
    """What came out for one release.

    Attributes:
        outcomes: Answers on nodes that were compared.
        feasible: Of them, with the same feasibility.
        exact: Of them, the same in all.
        alike: Of them, with amounts written alike.
        over: Where ours allocates what the reference says cannot be.
        solved: Where the reference allocates.
        flaws: Answers of 1.36 by a flaw, which ours does not copy; compared with what it answers otherwise
            where it can be asked so, else not compared.
        chance: Cases that the reference answers by chance or not in time; not compared.
        used: Outcomes by what is in the case.
        agreed: Of these, the same in all.
        by_cluster: Outcomes for which `Cluster` was asked too.
        wrong: Disagreements, as lines of a corpus.
    """

    outcomes: int = 0
    feasible: int = 0
    exact: int = 0
    alike: int = 0
    over: int = 0
    solved: int = 0
    flaws: int = 0
    chance: int = 0
    used: Counter[str] = field(default_factory=Counter)
    agreed: Counter[str] = field(default_factory=Counter)
    by_cluster: int = 0
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def table(self) -> str:
        """Use and agreement by what is in the cases."""
        rows = [
            (name, f"{used:,}", f"{self.agreed[name]:,}", percent(self.agreed[name], used))
            for name, used in sorted(self.used.items())
        ]
        return table(("in the case", "outcomes", "exact", "%"), rows)

    def summary(self) -> str:
        """One line."""
        rates = ", ".join(
            f"{name} {percent(getattr(self, name), self.outcomes)} %"
            for name in ("feasible", "exact", "alike")
        )
        return (
            f"{self.outcomes:,} outcomes ({self.solved:,} solutions): {rates}, {self.over} over; "
            f"{self.by_cluster:,} asked of the cluster as well; "
            f"beside: {self.flaws} flaws of 1.36 not copied, {self.chance} cases of chance"
        )


def problems(seed: int, count: int) -> list[dict[str, Any]]:
    """The problems of a seed."""
    rng = random.Random(seed)  # noqa: S311 - to be made again from its seed is the point
    return [case(rng, f"fresh-{seed}-{place}") for place in range(count)]


def compare_both(references: Mapping[str, Reference], *, seed: int, count: int = CASES) -> dict[str, Run]:
    """Make problems, and compare for each release whose reference is given."""
    made = problems(seed, count)
    answers = {release: reference.ask("allocator", lines=made) for release, reference in references.items()}
    runs = {}
    for release, theirs in answers.items():
        result = runs[release] = Run()
        progress = Progress(f"allocations of {release}", total=len(made))
        beside = _beside(made, theirs, references, release)
        later = answers.get("1.37") if release < "1.37" else None
        for place, problem in enumerate(made):
            progress.step()
            if theirs[place].get("random"):
                result.chance += 1
                continue
            newer = later[place] if later and may_be_flawed(problem) else None
            _judge(result, problem, _Theirs(theirs[place], newer, beside), release)
        progress.end()
    return runs


@dataclass(frozen=True, slots=True)
class _Theirs:
    answer: dict[str, Any]
    newer: dict[str, Any] | None
    beside: Mapping[tuple[str, str], dict[str, Any]]

    def node(self, name: str, place: int) -> tuple[dict[str, Any], bool]:
        """What counts for a node, and whether it differs from what the release itself says."""
        found: dict[str, Any] = self.answer["nodes"][place]
        other = self.beside.get((name, found["node"]))
        return (found, False) if other is None else (other, not compare(other, found).exact)


def _beside(
    made: Sequence[dict[str, Any]],
    theirs: Sequence[dict[str, Any]],
    references: Mapping[str, Reference],
    release: str,
) -> dict[tuple[str, str], dict[str, Any]]:
    """What the reference says when it does not see the counters of pools that are on other nodes only."""
    asked = [
        pruned
        for problem, answered in zip(made, theirs, strict=True)
        if not answered.get("random")
        for node in problem["tryNodes"]
        if (pruned := without_foreign_counters(problem, node)) is not None
    ]
    answers = references[release].ask("allocator", lines=asked)
    return {(one["id"], one["nodes"][0]["node"]): one["nodes"][0] for one in answers if not one.get("random")}


def without_foreign_counters(problem: dict[str, Any], node: str) -> dict[str, Any] | None:
    """The problem for one node without the counters of pools that are on other nodes; None if there are none.

    1.36, and the stable allocator of 1.37 still, take the counters of all nodes into account, and answer with
    errors about pools elsewhere.
    """
    places: dict[tuple[str, str], set[str]] = {}
    for one in problem["slices"]:
        places.setdefault(_pool(one), set()).add(one["spec"].get("nodeName", ""))
    kept = [
        one
        for one in problem["slices"]
        if not one["spec"].get("sharedCounters") or places[_pool(one)] & {"", node}
    ]
    if len(kept) == len(problem["slices"]):
        return None
    return {**problem, "slices": kept, "tryNodes": [node]}


def _pool(one: Mapping[str, Any]) -> tuple[str, str]:
    return one["spec"]["driver"], one["spec"]["pool"]["name"]


def may_be_flawed(problem: Mapping[str, Any]) -> bool:
    """Whether something is asked for that 1.36 is known to answer wrongly.

    These are distinctAttribute, lists in constraints, amounts that are negative, too large or fractions, and
    counters of two drivers in pools of one name.
    """
    if {"distinctAttribute", LISTS} & set(problem["tags"]):
        return True
    asked = json.dumps(problem["claims"])
    if any(f'"{amount}"' in asked for amount in ODD):
        return True
    pools = {_pool(one) for one in problem["slices"] if one["spec"].get("sharedCounters")}
    return len({name for _, name in pools}) < len(pools)


def _judge(result: Run, problem: dict[str, Any], theirs: _Theirs, release: str) -> None:
    ours = answer(inputs(Line(0, problem)), release=release)
    tags: Sequence[str] = problem["tags"]
    wrong = False
    for place, mine in enumerate(ours["nodes"]):
        yours, mended = theirs.node(problem["id"], place)
        result.flaws += mended
        verdict = compare(mine, yours)
        if (
            not verdict.exact
            and theirs.newer
            and (flaw_not_copied(mine, yours, theirs.newer["nodes"][place]) or "All" in tags)
        ):
            # Mode All has other rules in 1.37, so that with it nobody can be asked for 1.36 without the flaw.
            result.flaws += 1
            continue
        result.outcomes += 1
        result.feasible += verdict.feasible
        result.exact += verdict.exact
        result.alike += verdict.alike
        result.over += verdict.over
        result.solved += yours["allocations"] is not None
        result.used.update(tags)
        if verdict.exact:
            result.agreed.update(tags)
        wrong = wrong or not verdict.exact
    differing = differing_nodes(problem, ours, release=release) if is_stock(problem) else []
    result.by_cluster += len(ours["nodes"]) if is_stock(problem) else 0
    if wrong or differing:
        expected = {"allocator": theirs.answer.get("allocator"), "nodes": theirs.answer["nodes"]}
        name = "expected137" if release >= "1.37" else "expected"
        told = {**problem, name: expected, "kubernetes": release, "ours": ours["nodes"]}
        result.wrong.append(told | ({"clusterDiffersOn": differing} if differing else {}))


def run(options: argparse.Namespace) -> int:
    """The command `allocator --fresh`; returns the exit status."""
    seed = chosen_seed(options)
    references = {release: build(release, report=to_terminal) for release in RELEASES}
    runs = compare_both(references, seed=seed, count=options.cases or CASES)
    asked = [options.kubernetes] if options.kubernetes else list(RELEASES)
    for release in asked:
        print(f"\nAllocations of {release}, seed {seed}\n\n{runs[release].table()}\n")
    wrong = {release: [[one] for one in runs[release].wrong] for release in asked}
    return close(wrong, {release: runs[release].summary() for release in asked}, seed=seed)
