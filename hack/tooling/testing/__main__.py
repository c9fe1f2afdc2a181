"""The command line of `hack/test`, and its closing table."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence

from tooling.testing.parts import Part, choose, this_machine
from tooling.testing.runner import ROOT, Outcome, run_part
from tooling.testing.tools import install_missing

PARTS = ("unit", "faults", "cluster", "own-cluster")
EPILOG = """\
parts:
  unit         everything that needs no cluster
  faults       the agent killed at each of its system calls, power loss,
               full disks
  cluster      on a real API server, scheduler, kubelet and containerd, built
               and started here
  own-cluster  the same, for tests that kill parts of the cluster

The cluster parts need root, Go and Debian's packages, or --kubeconfig;
elsewhere the table at the end says which part did not run and why. Built
programs are kept in ${DRAGOMAN_CACHE:-~/.cache/dragoman}.
Everything after -- goes to pytest: hack/test --part unit -- -k quantities -x
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/test",
        description="Runs all tests with one command.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--part", action="append", choices=PARTS, default=[], help="only this part (repeatable)"
    )
    parser.add_argument(
        "--kubernetes", default="1.36.3", help="version to build and start (default: %(default)s)"
    )
    parser.add_argument("--kubeconfig", default="", help="use this cluster instead of starting one")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running at the end")
    parser.add_argument("--long", action="store_true", help="also what is too long for every run, all of it")
    parser.add_argument(
        "--long-sample", type=int, metavar="N", help="N of the long tests, chosen by the seed"
    )
    parser.add_argument("--seed", type=int, help="seed of the sample (default: random; printed)")
    parser.add_argument("--require-cluster", action="store_true", help="fail if a cluster part did not run")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    options = parser.parse_args(argv)

    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    arguments = [*options.pytest]
    if options.long:
        arguments.append("--long")
    elif options.long_sample:
        arguments += [f"--long-sample={options.long_sample}", f"--long-seed={seed}"]
        print(f"==> a sample of {options.long_sample} long tests, seed {seed}")
    machine = this_machine()
    install_missing(machine)
    parts = choose(machine=machine, only=frozenset(options.part), kubeconfig=options.kubeconfig)
    outcomes = [
        _run(
            part,
            arguments=arguments,
            chosen=bool(options.pytest),
            kubeconfig=options.kubeconfig,
            version=options.kubernetes,
            keep=options.keep,
        )
        for part in parts
    ]
    _print_table(outcomes)
    failed = any(outcome.status or outcome.failed for outcome in outcomes)
    missing = [outcome.part for outcome in outcomes if not outcome.ran and "cluster" in outcome.part]
    if options.require_cluster and missing:
        print(f"\nhack/test: failed, because these parts had to run and did not: {', '.join(missing)}.")
        return 1
    return 1 if failed else 0


CLUSTER = os.environ.get("DRAGOMAN_TEST_CLUSTER", "test")
"""Name of the cluster of a run; two checkouts that test at the same time need two names."""


def _run(
    part: Part, *, arguments: list[str], chosen: bool, kubeconfig: str, version: str, keep: bool
) -> Outcome:
    if part.why_not:
        print(f"==> {part.name}: not run. {part.why_not}", flush=True)
        return Outcome(part=part.name, why_not=part.why_not)
    environment = {**os.environ, "DRAGOMAN_KUBERNETES": version}
    began = time.monotonic()
    spread = () if chosen else part.spread
    names: list[str] = []
    if part.clusters and kubeconfig:
        environment["DRAGOMAN_KUBECONFIG"] = kubeconfig
    elif part.clusters:
        names = _names(part.clusters if spread else 1)
        print(
            f"==> {part.name}: Kubernetes {version}, built on the first run (about 20 minutes), then reused",
            flush=True,
        )
        if any(_cluster("up", "--name", name, "--kubernetes", version) for name in names):
            _take_down(names, keep=keep)
            return Outcome(
                part=part.name,
                why_not="The cluster did not start (above).",
                status=1,
                seconds=time.monotonic() - began,
            )
        environment["DRAGOMAN_CLUSTER"] = ",".join(names)
    print(f"==> {part.name}", flush=True)
    # With pytest's own arguments only some tests run: then nothing can be said about reasons.
    check = ["--check-reasons"] if part.name == "unit" and not chosen else []
    outcome = run_part(part, arguments=[*arguments, *check, *spread], environment=environment)
    _take_down(names, keep=keep)
    return outcome


def _take_down(names: Sequence[str], *, keep: bool) -> None:
    # Not only at the very end: other parts start clusters of their own.
    for name in () if keep else names:
        _cluster("down", "--name", name)


def _names(count: int) -> list[str]:
    return [CLUSTER, *(f"{CLUSTER}-{number}" for number in range(2, count + 1))][:count]


def _cluster(*arguments: str) -> int:
    return subprocess.run([ROOT / "hack" / "cluster", *arguments], cwd=ROOT, check=False).returncode


def _print_table(outcomes: Sequence[Outcome]) -> None:
    print("\npart         passed  failed  skipped  seconds  ")
    for outcome in outcomes:
        counts = f"{outcome.passed:>6}  {outcome.failed:>6}  {outcome.skipped:>7}  {outcome.seconds:>7.0f}"
        print(f"{outcome.part:<11}  {counts}  {outcome.why_not}".rstrip())
    passed, failed = (sum(getattr(o, name) for o in outcomes) for name in ("passed", "failed"))
    print(f"\n{passed} passed, {failed} failed")


if __name__ == "__main__":
    sys.exit(main())
