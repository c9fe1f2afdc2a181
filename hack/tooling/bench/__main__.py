"""The command line of `hack/bench`.

Only the module of the command that was asked for is imported: what it measures may be its own memory, and a
command that needs no cluster runs without root and without a cluster's tools.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tooling.bench.errors import BenchError
from tooling.cluster import machine as clusters_machine
from tooling.cluster.progress import elapsed, to_terminal

EPILOG = """\
commands:
  prepare   our agent beside the Go example driver on one real API server:
            prepare and unprepare, one by one and 8 at once, with 0, 100 and
            1,000 claims prepared already (3 to 4 minutes; builds Go's once)
  start     from exec to the kubelet's GetInfo, and the memory of an idle agent
            with 8 NVIDIA cards
  pods      30 pods at once, create to Running, with and without claims, with
            the chart installed
  admit     the webhooks over HTTPS beside a handler that allows everything, for
            a pod that is none of ours, a legacy pod, a claim, and a claim with
            a quota: p50, p99 and rate (about 2 minutes)
  policies  placement policies on random streams of claims: how full until the
            first refusal, what is stranded, which cards stay whole (about 3
            minutes; no times, so the same on every machine)
  resolve   claims placed one by one on 5,000 nodes of 8 cards, empty and as
            they fill, and a stream of claims none of which is like another
            (about 2 minutes)
  scale     1,000 nodes by kwok, 1,000 claims at once, then 10,000: our
            allocator beside kube-scheduler, and the controller's memory (about
            an hour; --modes and --fill for less; builds kwok once)
  selectors 100 selectors not seen before over 80,000 devices, by the index and
            on each device (2 minutes)

prepare, start, pods and scale need root and Linux, since they start a cluster
(see hack/cluster --help); the others need nothing. Figures hold for this
machine and this moment: look at the load that is printed, and at ratios rather
than at times.
"""


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command is.

    Attributes:
        module: Its module has `add_commands(commands)`, which adds it to a parser. Its `run` takes the
            options and says whether all that must hold does.
        on_a_cluster: Whether it starts a cluster.
    """

    module: str
    on_a_cluster: bool = False


COMMANDS = {
    "prepare": Command("tooling.bench.on_a_cluster", on_a_cluster=True),
    "start": Command("tooling.bench.on_a_cluster", on_a_cluster=True),
    "pods": Command("tooling.bench.on_a_cluster", on_a_cluster=True),
    "admit": Command("tooling.bench.admit"),
    "policies": Command("tooling.bench.policies"),
    "resolve": Command("tooling.bench.resolve"),
    "scale": Command("tooling.bench.scale", on_a_cluster=True),
    "selectors": Command("tooling.bench.selectors"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one measurement; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser(arguments).parse_args(arguments)
    if COMMANDS[options.command].on_a_cluster and (missing := _missing()):
        print(f"hack/bench: nothing can be measured here: {missing}", file=sys.stderr)
        return 2
    began = time.monotonic()
    try:
        met = options.run(options)
    except BenchError as failed:
        print(f"hack/bench: {failed}", file=sys.stderr)
        return 2
    to_terminal(f"Done in {elapsed(time.monotonic() - began)}.")
    return 0 if met or not options.check else 1


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/bench",
        description="Measures, and says on which machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = COMMANDS.get(arguments[0]) if arguments else None
    chosen = COMMANDS.values() if asked is None else (asked,)
    for module in dict.fromkeys(command.module for command in chosen):
        importlib.import_module(module).add_commands(commands)
    return parser


def _missing() -> str:
    return " ".join(
        f"{one.what}. {one.remedy}"
        for one in clusters_machine.missing()
        if not one.package and not one.to_build
    )


if __name__ == "__main__":
    sys.exit(main())
