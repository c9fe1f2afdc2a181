"""`hack/bench scale`: 1,000 nodes, 1,000 claims at once, and 10,000 kept, in both modes.

Flow: for each mode a cluster of its own (`tooling.bench.scale_run`), one after the other on the same
machine: mode native on a release whose kube-scheduler gives out shares, mode controller on a stock one. Then
the tables: our allocator beside kube-scheduler, and what the controller's memory was.

Limits: kwok plays the nodes (`tooling.cluster.kwok`). What is measured is all of Kubernetes on one small
machine: claims are made by the controller manager and pods bound by kube-scheduler in both modes. The ratio
says what it costs that another one than kube-scheduler decides; no time says what a large control plane would
take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.cluster.support.images import make_images
from tooling.bench import machine
from tooling.bench.errors import BenchError
from tooling.bench.figures import median, ratio
from tooling.bench.report import Verdict
from tooling.bench.scale_run import Outcome, Plan, Round, measure
from tooling.bench.subjects import ROOT
from tooling.bench.table import milliseconds, table, times
from tooling.cluster import build, kwok
from tooling.cluster.progress import step, to_terminal

NATIVE, CONTROLLER = "native", "controller"
MODES = (NATIVE, CONTROLLER)
RSS_MIB = 256.0
LEAST_CLAIMS = 10_000
"""From so many claims and pods on, the limit of memory is said to hold or not."""
_HEAD = (
    "claim created to pod bound",
    "claims",
    "a second",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "to allocated: p50",
    "p99",
    "claims made in s",
)


def add_commands(commands: Any) -> None:
    """Adds the command to a parser."""
    parser = commands.add_parser("scale", help="1,000 nodes by kwok, our allocator beside kube-scheduler")
    parser.add_argument("--nodes", type=int, default=1000, help="nodes (default: %(default)s)")
    parser.add_argument("--cards", type=int, default=8, help="cards of each node (default: %(default)s)")
    parser.add_argument("--claims", type=int, default=1000, help="claims at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds in each mode (default: %(default)s)")
    parser.add_argument(
        "--fill",
        type=int,
        default=LEAST_CLAIMS,
        metavar="COUNT",
        help="claims and pods in the end; 0: only those of the rounds (default: %(default)s)",
    )
    parser.add_argument("--modes", default=",".join(MODES), help="which, in order (default: %(default)s)")
    parser.add_argument("--native", default="1.36.3", metavar="RELEASE", help="default: %(default)s")
    parser.add_argument("--controller", default="1.34.4", metavar="RELEASE", help="default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="leave the clusters up, to be looked at")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a figure that must hold does not"
    )
    parser.set_defaults(run=_run)


def plans(options: argparse.Namespace) -> list[Plan]:
    """What is measured.

    Raises:
        BenchError: A mode is not known, or what is asked for cannot be had.
    """
    releases = {NATIVE: options.native, CONTROLLER: options.controller}
    modes = options.modes.split(",")
    if unknown := [mode for mode in modes if mode not in releases]:
        raise BenchError(f"There is no mode {unknown[0]!r}; there are {' and '.join(MODES)}.")
    if options.rounds < 1 or options.claims < 1:
        raise BenchError("At least one round of one claim is needed.")
    return [
        Plan(
            mode=mode,
            kubernetes=releases[mode],
            nodes=options.nodes,
            cards=options.cards,
            claims=options.claims,
            rounds=options.rounds,
            fill=options.fill,
        )
        for mode in modes
    ]


def _run(options: argparse.Namespace) -> bool:
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = plans(options)
        with step("images made", report=to_terminal):
            images = make_images(folder=Path(folder))
        for plan in chosen:
            to_terminal(f"Mode {plan.mode} on Kubernetes {plan.kubernetes}")
            outcomes.append(measure(plan, images=images, keep=options.keep, report=to_terminal))
    print(times_table(outcomes))
    print()
    print(processor_table(outcomes))
    print()
    print(memory_table(outcomes))
    print()
    found = verdicts(outcomes)
    for one in found:
        print(f"{'met   ' if one.holds else 'MISSED'}  {one.what}: {one.seen}")
    here = machine.this_machine(
        Path("/var/lib"), versions={"kwok": kwok.KWOK.version, "etcd": build.ETCD.version}
    )
    for outcome in outcomes:
        before, after = outcome.load
        print(f"load in mode {outcome.plan.mode}: {before:.1f} before, {after:.1f} after")
    commit = machine.commit(ROOT)
    print(f"\n{here.line()}; commit {commit}")
    if options.json is not None:
        written = {
            "machine": here.document(),
            "commit": commit,
            "outcomes": [asdict(one) for one in outcomes],
            "verdicts": [asdict(one) for one in found],
        }
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return all(one.holds for one in found)


def times_table(outcomes: Sequence[Outcome]) -> str:
    """From claim created to pod bound: each mode, and ours divided by kube-scheduler's where both ran."""
    rows: list[tuple[str, ...]] = []
    for name, count, found in _compared(outcomes):
        one = median([each.figures for each in found])
        made = statistics.median(each.making_s for each in found)
        rows.append(
            (
                name,
                f"{count:,}",
                f"{one.rate:.1f}",
                *map(milliseconds, (one.p50, one.p90, one.p99)),
                *(
                    milliseconds(statistics.median(each.allocated[which] for each in found))
                    for which in (0, 1)
                ),
                f"{made:.1f}",
            )
        )
    if {one.plan.mode for one in outcomes} == set(MODES):
        by_mode = {one.plan.mode: median([each.figures for each in one.rounds]) for one in outcomes}
        part = ratio(by_mode[CONTROLLER], by_mode[NATIVE])
        rows.append(
            (
                "controller / native, at once",
                "",
                times(part.rate),
                *map(times, (part.p50, part.p90, part.p99)),
                "",
                "",
                "",
            )
        )
    return table(_HEAD, rows)


def processor_table(outcomes: Sequence[Outcome]) -> str:
    """Processor time for a claim, by process."""
    compared = _compared(outcomes)
    processes = list(compared[0][2][0].cpu_ms)
    rows = [
        (
            name,
            *(milliseconds(statistics.median(one.cpu_ms[process] for one in found)) for process in processes),
        )
        for name, _, found in compared
    ]
    return table(("CPU ms a claim", *processes), rows)


def memory_table(outcomes: Sequence[Outcome]) -> str:
    """The controller's memory."""
    rows = [
        (
            f"{outcome.plan.mode}, {held.when}",
            f"{held.claims:,}",
            f"{held.memory.rss_mib:.0f}",
            f"{held.memory.uss_mib:.0f}",
            f"{held.peak_mib:.0f}",
        )
        for outcome in outcomes
        for held in outcome.held
    ]
    head = ("controller's memory, MiB", "claims and pods", "RSS", "USS", "peak RSS")
    return table(head, rows)


def verdicts(outcomes: Sequence[Outcome]) -> list[Verdict]:
    """What the project holds itself to, as far as it was measured."""
    found: list[Verdict] = []
    for outcome in outcomes:
        large = [one for one in outcome.held if one.claims >= LEAST_CLAIMS]
        if large:
            most = max(one.memory.rss_mib for one in large)
            peak = max(one.peak_mib for one in large)
            found.append(
                Verdict(
                    what=f"{outcome.plan.mode}: at most {RSS_MIB:.0f} MiB RSS with {LEAST_CLAIMS:,} claims",
                    holds=most <= RSS_MIB,
                    seen=f"{most:.0f} MiB, {peak:.0f} at its peak",
                )
            )
        found.append(
            Verdict(
                what=f"{outcome.plan.mode}: the controller never ended by itself",
                holds=outcome.restarts == 0,
                seen=f"{outcome.restarts} restarts",
            )
        )
    return found


def _compared(outcomes: Sequence[Outcome]) -> list[tuple[str, int, list[Round]]]:
    rows = []
    for outcome in outcomes:
        plan = outcome.plan
        name = f"{plan.mode}, {plan.kubernetes}"
        rows.append((f"{name}, at once", plan.claims, outcome.rounds))
    return rows
