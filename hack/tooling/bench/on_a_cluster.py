"""The commands that start a cluster: `prepare`, `start` and `pods`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tooling.bench import pods, prepare, report, start
from tooling.bench.subjects import GO, OURS
from tooling.cluster.progress import to_terminal


def add_commands(commands: Any) -> None:
    """Adds the commands to a parser."""
    _add_prepare(commands)
    _add_start(commands)
    _add_pods(commands)


def _cluster_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a figure that must hold does not"
    )
    parser.add_argument(
        "--cluster", default="", metavar="NAME", help="use (or start and keep) this cluster of hack/cluster"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/var/tmp"),  # noqa: S108 - a disk, as for state on a node; a fresh folder is made in it
        help="where state is kept for the run (default: %(default)s)",
    )


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser("prepare", help="prepare and unprepare, beside the Go example driver")
    parser.add_argument("--only", choices=(GO, OURS), help="measure one of the two")
    parser.add_argument("--claims", type=int, default=200, help="claims of a round (default: %(default)s)")
    parser.add_argument(
        "--levels", default="0,100,1000", help="how many claims are prepared already (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each driver (default: %(default)s)")
    parser.add_argument(
        "--cdi",
        choices=("tmpfs", "disk"),
        default="tmpfs",
        help="where both keep CDI specs: on tmpfs, as in /var/run/cdi, or beside the state (default: tmpfs)",
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="run our agent under cProfile (distorts)"
    )
    _cluster_options(parser)
    parser.set_defaults(run=_prepare)


def _prepare(options: argparse.Namespace) -> bool:
    launcher = ("-m", "cProfile", "-o", str(options.profile.absolute())) if options.profile else ()
    outcome = prepare.run(
        prepare.Options(
            names=(options.only,) if options.only else (GO, OURS),
            claims=options.claims,
            levels=tuple(int(level) for level in options.levels.split(",")),
            rounds=options.rounds,
            cluster=options.cluster,
            folder=options.folder,
            cdi_on_tmpfs=options.cdi == "tmpfs",
            launcher=launcher,
        ),
        report=to_terminal,
    )
    print(report.figures_table(outcome.figures))
    print()
    for name, memory in outcome.memory.items():
        print(f"{name}: {memory.rss_mib:.1f} MiB RSS, {memory.uss_mib:.1f} MiB USS after all calls")
    return _closing(
        options, outcome, verdicts=report.verdicts(outcome.figures), document=report.document(outcome)
    )


def _add_start(commands: Any) -> None:
    parser = commands.add_parser("start", help="exec to serving, and memory when idle")
    parser.add_argument("--runs", type=int, default=10, help="starts that count (default: %(default)s)")
    _cluster_options(parser)
    parser.set_defaults(run=_start)


def _start(options: argparse.Namespace) -> bool:
    outcome = start.run(cluster=options.cluster, folder=options.folder, runs=options.runs, report=to_terminal)
    print(report.start_table(outcome))
    return _closing(
        options, outcome, verdicts=report.start_verdicts(outcome), document=report.start_document(outcome)
    )


def _add_pods(commands: Any) -> None:
    parser = commands.add_parser("pods", help="pods at once with and without claims, create to Running")
    parser.add_argument("--pods", type=int, default=30, help="pods at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind (default: %(default)s)")
    _cluster_options(parser)
    parser.set_defaults(run=_pods)


def _pods(options: argparse.Namespace) -> bool:
    outcome = pods.run(cluster=options.cluster, count=options.pods, rounds=options.rounds, report=to_terminal)
    print(report.pods_table(outcome))
    return _closing(
        options, outcome, verdicts=report.pods_verdicts(outcome), document=report.pods_document(outcome)
    )


def _closing(
    options: argparse.Namespace,
    outcome: prepare.Outcome | start.Outcome | pods.Outcome,
    *,
    verdicts: Sequence[report.Verdict],
    document: dict[str, Any],
) -> bool:
    """Prints what had to hold and the machine, writes JSON; whether all holds."""
    print()
    for verdict in verdicts:
        print(f"{'met   ' if verdict.holds else 'MISSED'}  {verdict.what}: {verdict.seen}")
    before, after = outcome.load
    print(f"\n{outcome.machine.line()}; commit {outcome.commit}; load {before:.1f} before, {after:.1f} after")
    if options.json is not None:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return all(verdict.holds for verdict in verdicts)
