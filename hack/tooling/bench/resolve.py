"""`hack/bench resolve`: claims on a cluster of 5,000 nodes of 8 cards, as it fills.

Flow: each scenario runs in a process of its own (`tooling.bench.resolve_run`); with Go present, Kubernetes'
own allocator places the same claims on the same cluster right after (`hack/go/reference scale`).

Limits: processor time, one process at a time. Of a few processes for each scenario the one with the median
mean counts, since whoever shares the host's processors makes some of them half as slow again; the means of
all are printed. The reference is asked for the plain claims only, and for few of them where it takes seconds:
streams are checked by plain evaluation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tooling.bench import machine
from tooling.bench.errors import BenchError
from tooling.bench.figures import percentile
from tooling.bench.report import Verdict
from tooling.bench.resolve_run import Outcome, Scenario
from tooling.bench.table import milliseconds, table
from tooling.cluster.progress import to_terminal
from tooling.replay import reference
from tooling.replay.errors import ReplayError

ROOT = Path(__file__).parents[3]

PLACED_MS = 1.0
ALL_MS = 20.0
RSS_MIB = 256.0
FLAT = 1.5
"""Cost counts as flat while the median with 95 % held is at most this times that of the empty cluster."""

GO_CLAIMS = {"first": 50, "all": 5}
"""How many claims the reference places in each mode; where none fits, `first` is as long as `all`."""

_HEAD = ("held, mode", "claims", "placed", "mean ms", "p50", "p99", "max", "cold", "RSS MiB")


def add_commands(commands: Any) -> None:
    """Adds the command to a parser."""
    parser = commands.add_parser("resolve", help="claims on 5,000 nodes of 8 cards")
    parser.add_argument("--nodes", type=int, default=5000, help="nodes (default: %(default)s)")
    parser.add_argument("--claims", type=int, default=200, help="claims of a scenario (default: %(default)s)")
    parser.add_argument("--stream", type=int, default=300, help="distinct claims (default: %(default)s)")
    parser.add_argument(
        "--runs", type=int, default=3, help="processes for each scenario; the median counts (default: 3)"
    )
    parser.add_argument("--seed", type=int, default=1, help="what streams are drawn from (default: 1)")
    parser.add_argument("--no-go", action="store_true", help="do not run the reference beside it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a figure that must hold does not"
    )
    parser.set_defaults(run=_run)


def scenarios(options: argparse.Namespace) -> list[Scenario]:
    """What is measured."""
    plain = [
        Scenario(held=held, mode=mode, claims=options.claims, nodes=options.nodes)
        for held in ("empty", "full95", "full100")
        for mode in ("first", "all")
    ]
    streams = [
        Scenario(held=held, mode="stream", claims=options.stream, nodes=options.nodes, seed=options.seed)
        for held in ("empty", "full95")
    ]
    return plain + streams


def _run(options: argparse.Namespace) -> bool:
    before = machine.load()
    go = None if options.no_go else _go()
    found: dict[Scenario, Outcome] = {}
    means: dict[str, list[float]] = {}
    beside: dict[Scenario, Go] = {}
    for scenario in scenarios(options):
        to_terminal(scenario.name)
        runs = sorted(
            (_measured(scenario) for _ in range(max(options.runs, 1))), key=lambda one: _mean(one.placing)
        )
        found[scenario] = runs[len(runs) // 2]
        means[scenario.name] = [round(_mean(one.placing), 3) for one in runs]
        if go is not None and scenario.mode in GO_CLAIMS:
            beside[scenario] = _measured_go(go, scenario)
    print(placing_table(found))
    shown = "; ".join(
        f"{name} {', '.join(f'{one:.2f}' for one in several)}" for name, several in means.items()
    )
    print(f"\nmean ms of each run, of which the median counts: {shown}")
    print(f"\n{answers_table(found)}")
    print(f"\n{go_table(found, beside)}" if beside else "\nKubernetes' own allocator was not run beside it.")
    judged = verdicts(found)
    print()
    for verdict in judged:
        print(f"{'met   ' if verdict.holds else 'MISSED'}  {verdict.what}: {verdict.seen}")
    here = machine.this_machine(ROOT, versions={})
    loads = f"load {before:.1f} before, {machine.load():.1f} after"
    print(f"\n{here.line()}; commit {machine.commit(ROOT)}; {loads}")
    if options.json is not None:
        document = {
            "machine": here.document(),
            "commit": machine.commit(ROOT),
            "scenarios": [{**asdict(scenario), **asdict(outcome)} for scenario, outcome in found.items()],
            "means_ms": means,
            "go": [{**asdict(scenario), **asdict(go)} for scenario, go in beside.items()],
            "verdicts": [asdict(verdict) for verdict in judged],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return all(verdict.holds for verdict in judged)


def _measured(scenario: Scenario) -> Outcome:
    ran = subprocess.run(
        [sys.executable, "-m", "tooling.bench.resolve_run", json.dumps(asdict(scenario))],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BenchError(f"{scenario.name}: the measuring process ended with {ran.returncode}, see above")
    fields = json.loads(ran.stdout)
    return Outcome(**{**fields, "rss_mib": tuple(fields["rss_mib"])})


@dataclass(frozen=True, kw_only=True)
class Go:
    """What the reference took.

    Attributes:
        claims: How many claims it was asked to place.
        placed: How many it placed.
        milliseconds: Processor time for each.
        rss_mib: Its memory at the end.
    """

    claims: int
    placed: int
    milliseconds: Sequence[float]
    rss_mib: float


def _go() -> reference.Reference | None:
    try:
        return reference.build("1.36", report=to_terminal)
    except ReplayError as missing:
        to_terminal(str(missing))
        return None


def _measured_go(go: reference.Reference, scenario: Scenario) -> Go:
    claims = GO_CLAIMS["all" if scenario.held == "full100" else scenario.mode]
    flags = (
        "-held",
        scenario.held,
        "-mode",
        scenario.mode,
        "-nodes",
        f"{scenario.nodes}",
        "-claims",
        f"{claims}",
    )
    (answer,) = go.ask("scale", *flags)
    return Go(
        claims=claims, placed=answer["placed"], milliseconds=answer["cpu_ms"], rss_mib=answer["rss_mib"]
    )


def go_table(found: Mapping[Scenario, Outcome], beside: Mapping[Scenario, Go]) -> str:
    """The reference's figures, and how many times as fast ours is."""
    rows = []
    for scenario, go in beside.items():
        ours, theirs = _mean(found[scenario].placing), _mean(go.milliseconds)
        rows.append(
            (
                scenario.name,
                f"{go.claims}",
                f"{go.placed}",
                milliseconds(theirs),
                milliseconds(ours),
                f"{theirs / ours:,.0f}",
                f"{go.rss_mib:.0f}",
            )
        )
    head = ("Kubernetes' own, 1.36", "claims", "placed", "mean ms", "ours", "times", "its RSS MiB")
    return table(head, rows)


def placing_table(found: Mapping[Scenario, Outcome]) -> str:
    """One line for each scenario: how long a claim takes."""
    return table(
        _HEAD,
        [
            (
                scenario.name,
                f"{scenario.claims:,}",
                f"{outcome.placed:,}",
                *_cells(outcome.placing),
                milliseconds(outcome.cold),
                f"{outcome.rss_mib[1]:.0f}",
            )
            for scenario, outcome in found.items()
        ],
    )


def answers_table(found: Mapping[Scenario, Outcome]) -> str:
    """How long answers about all nodes, releases, and changes of slices take."""
    rows = []
    for scenario, outcome in found.items():
        parts = {
            "all nodes": outcome.answers,
            "release": outcome.releases,
            "slice changed, then first": outcome.slices,
        }
        rows += [
            (f"{scenario.name}: {what}", f"{len(times)}", *_cells(times))
            for what, times in parts.items()
            if times
        ]
    return table(("question", "times", "mean ms", "p50", "p99", "max"), rows)


def verdicts(found: Mapping[Scenario, Outcome]) -> list[Verdict]:
    """What the project holds itself to."""
    judged = []
    for scenario, outcome in found.items():
        if scenario.mode != "all":
            mean = _mean(outcome.placing)
            judged.append(
                Verdict(
                    what=f"{scenario.name}: a claim in less than {PLACED_MS:g} ms on average",
                    holds=mean < PLACED_MS,
                    seen=f"{milliseconds(mean)} ms",
                )
            )
        if outcome.answers:
            mean = _mean(outcome.answers)
            judged.append(
                Verdict(
                    what=f"{scenario.name}: all nodes in less than {ALL_MS:g} ms on average",
                    holds=mean < ALL_MS,
                    seen=f"{milliseconds(mean)} ms",
                )
            )
        if outcome.checked:
            judged.append(
                Verdict(
                    what=f"{scenario.name}: answers are those of plain evaluation",
                    holds=True,
                    seen=f"{outcome.checked} compared, none differs",
                )
            )
    peak = max(outcome.rss_mib[1] for outcome in found.values())
    judged.append(
        Verdict(
            what=f"at most {RSS_MIB:.0f} MiB RSS, at its highest",
            holds=peak <= RSS_MIB,
            seen=f"{peak:.0f} MiB",
        )
    )
    return [*judged, *_flat(found)]


def _flat(found: Mapping[Scenario, Outcome]) -> Sequence[Verdict]:
    judged = []
    for mode in ("first", "stream"):
        medians = {one.held: percentile(some.placing, 50) for one, some in found.items() if one.mode == mode}
        empty, full = medians["empty"], medians["full95"]
        judged.append(
            Verdict(
                what=f"{mode}: the median flat from the empty cluster to 95 % held",
                holds=full <= FLAT * empty,
                seen=f"{milliseconds(empty)} and {milliseconds(full)} ms",
            )
        )
    return judged


def _cells(values: Sequence[float]) -> tuple[str, ...]:
    shown = (_mean(values), percentile(values, 50), percentile(values, 99), max(values))
    return tuple(milliseconds(value) for value in shown)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
