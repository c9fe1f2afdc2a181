"""The command line of `hack/bench`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tooling.bench import pods, prepare, report, start
from tooling.bench.errors import BenchError
from tooling.bench.subjects import GO, OURS
from tooling.cluster import machine as clusters_machine
from tooling.cluster.progress import elapsed, to_terminal

EPILOG = """\
commands:
  prepare   our agent beside the Go example driver on one real API server: prepare and unprepare, one by one
            and 8 at once, with 0, 100 and 1,000 claims prepared already (3 to 4 minutes; builds Go's once)
  start     from exec to the kubelet's GetInfo, and the memory of an idle agent with 8 NVIDIA cards
  pods      30 pods at once, create to Running, with and without claims, with the chart installed

All need root and Linux, since they start a cluster (see hack/cluster --help). Figures hold for this machine
and this moment: look at the load that is printed, and at ratios rather than at times.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one measurement; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/bench",
        description="Measures, and says on which machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_prepare(commands)
    _add_start(commands)
    _add_pods(commands)
    options = parser.parse_args(argv)
    missing = [
        f"{one.what}. {one.remedy}"
        for one in clusters_machine.missing()
        if not one.package and not one.to_build
    ]
    if missing:
        print(f"hack/bench: nothing can be measured here: {' '.join(missing)}", file=sys.stderr)
        return 2
    began = time.monotonic()
    try:
        met = options.run(options)
    except BenchError as failed:
        print(f"hack/bench: {failed}", file=sys.stderr)
        return 2
    to_terminal(f"Done in {elapsed(time.monotonic() - began)}.")
    return 0 if met or not options.check else 1


def _common(parser: argparse.ArgumentParser) -> None:
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
    _common(parser)
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
    _common(parser)
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
    _common(parser)
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


if __name__ == "__main__":
    sys.exit(main())
