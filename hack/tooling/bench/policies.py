"""`hack/bench policies`: placement policies on random streams of claims.

Flow: each policy gets the same streams, one for each seed; the table shows the mean over the seeds and, after
±, their standard deviation.

Limits: nothing here is a time, so the figures are the same on every machine. They hold for this mix of claims
and this cluster (`tooling.bench.policies_stream`), and say which policy does better at what, not how full a
cluster of somebody else will be.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from driver.allocation import Snapshot
from tooling.bench.policies_run import ROWS, Outcome, run
from tooling.bench.policies_stream import CARDS, KINDS, device_class, slices, stream
from tooling.bench.table import table
from tooling.cluster.progress import to_terminal

_HEAD = (
    "policy; all in %, mean ± deviation",
    "memory at first refusal",
    "cores at first refusal",
    "refused of all",
    "stranded at the end",
    "whole cards free at half load",
    "whole cards free at the end",
)
SEEDS = (1, 2, 3, 4, 5)


def add_commands(commands: Any) -> None:
    """Adds the command to a parser."""
    parser = commands.add_parser("policies", help="placement policies on random streams of claims")
    parser.add_argument("--nodes", type=int, default=16, help="nodes of eight cards (default: %(default)s)")
    parser.add_argument("--claims", type=int, default=1500, help="claims of a stream (default: %(default)s)")
    parser.add_argument(
        "--offered",
        type=float,
        default=1.2,
        help="what the claims alive would ask for if none was refused, in clusters (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds", default=",".join(map(str, SEEDS)), help="one stream for each (default: %(default)s)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="policies whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    parser.add_argument(
        "--check", action="store_true", help="accepted as for the others; nothing has to hold"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> bool:
    seeds = [int(seed) for seed in options.seeds.split(",")]
    snapshot = Snapshot.build(slices=slices(options.nodes), classes=[device_class()])
    found: dict[str, list[Outcome]] = {}
    for seed in seeds:
        arrivals = stream(nodes=options.nodes, arrivals=options.claims, offered=options.offered, seed=seed)
        for row in ROWS:
            if options.only in row.name:
                to_terminal(f"seed {seed}: {row.name}")
                found.setdefault(row.name, []).append(run(row, snapshot, arrivals))
    print(outcomes_table(found))
    print(f"\n{how_it_was_made(options, seeds)}")
    if options.json is not None:
        document = {name: [asdict(one) for one in some] for name, some in found.items()}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return True


def outcomes_table(found: Mapping[str, Sequence[Outcome]]) -> str:
    """One line for each policy."""
    return table(
        _HEAD,
        [
            (name, *(_figure([getattr(one, field.name) for one in some]) for field in fields(Outcome)))
            for name, some in found.items()
        ],
    )


def how_it_was_made(options: argparse.Namespace, seeds: Sequence[int]) -> str:
    """The paragraph below the table."""
    total = sum(kind.weight for kind in KINDS)
    mix = ", ".join(f"{100 * kind.weight / total:.0f} % {kind.name}" for kind in KINDS)
    return (
        f"Made by `hack/bench policies`: {options.nodes} nodes of {CARDS} cards (80, 80, 48 and 24 GiB in"
        f" turn), {len(seeds)} streams (seeds {', '.join(map(str, seeds))}) of {options.claims} claims each:"
        f" {mix}."
        f" Claims are released after an exponentially distributed time; those alive would ask for"
        f" {options.offered:g} times the cluster's scarcer dimension. A refused claim does not come again."
        f" Stranded: free memory of cards with less compute left than the smallest claim asks for, and the"
        f" other way round, the mean of both."
    )


def _figure(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {spread:.1f}"
