"""`hack/bench prepare`: our agent beside the Go example driver, in one run on one API server.

Flow: a cluster -> claims of both -> for each level (how many claims are prepared already) fill both, then
rounds that alternate. The one that is not measured is stopped (SIGSTOP) meanwhile. A round is, for one driver
and always the same claims: empty calls, prepare one by one,
the same again (prepared already), unprepare one by one, prepare 8 at once, unprepare 8 at once.

The measured claims are the first ones made; those that fill up are others, and stay prepared.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from driver.cards import DRIVER_NAME
from tooling.bench import machine, world
from tooling.bench.errors import BenchError
from tooling.bench.figures import Figures, Series, figures_of, median
from tooling.bench.kubelet import Ref, Service, measure
from tooling.bench.process import Memory, memory_of, processor_s
from tooling.bench.rounds import Step, alternating
from tooling.bench.stage import stage
from tooling.bench.subjects import GO, OURS, ROOT, Subject, start_go, start_ours
from tooling.cluster.progress import Report, step

DRIVERS = {GO: world.EXAMPLE_DRIVER, OURS: DRIVER_NAME}
EMPTY = "empty call"
ONE_BY_ONE = "prepare, one by one"
AGAIN = "prepare again"
UNPREPARE = "unprepare, one by one"
AT_ONCE = "prepare, 8 at once"
UNPREPARE_AT_ONCE = "unprepare, 8 at once"
PHASES = (EMPTY, ONE_BY_ONE, AGAIN, UNPREPARE, AT_ONCE, UNPREPARE_AT_ONCE)
WORKERS = 8
_CALM_S = 3.0
_REST_S = 0.5
_REST_SHARE = 0.05
_PATIENCE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person asked for.

    Attributes:
        names: Who is measured.
        claims: Claims of a round.
        levels: How many claims are prepared already.
        rounds: Rounds of each driver at each level.
        cluster: A cluster that stays up, "" for one of this run's own.
        folder: Parent of the folder for state.
        cdi_on_tmpfs: Whether CDI specs are kept on tmpfs, as in /var/run/cdi of a node, or beside the state.
        launcher: What to put before `-m kubelet_plugin`.
    """

    names: Sequence[str]
    claims: int
    levels: Sequence[int]
    rounds: int
    cluster: str
    folder: Path
    cdi_on_tmpfs: bool
    launcher: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured.

    Attributes:
        figures: By level, phase and driver: the median over the rounds.
        memory: Of each driver's process at the end.
        machine: Where.
        load: Load average over a minute before the first and after the last round.
        commit: Of the tree.
    """

    figures: Mapping[tuple[int, str, str], Figures]
    memory: Mapping[str, Memory]
    machine: machine.Machine
    load: tuple[float, float]
    commit: str


def run(options: Options, *, report: Report) -> Outcome:
    """Measures.

    Raises:
        BenchError: Something did not come up, or a claim was refused.
    """
    with ExitStack() as stack:
        on = stack.enter_context(
            stage(options.cluster, folder=options.folder, report=report, cdi_on_tmpfs=options.cdi_on_tmpfs)
        )
        claims = world.make_claims(on.api, options.claims + max(options.levels), report=report)
        subjects: dict[str, Subject] = {}
        for name in options.names:
            with step(f"{name}: started and registered", report=report):
                if name == GO:
                    subjects[name] = start_go(on.access, on.place, report=report)
                else:
                    subjects[name] = start_ours(on.access, on.place, launcher=options.launcher)
            stack.callback(subjects[name].stop)
        time.sleep(_CALM_S)
        before = machine.load()
        services = {
            name: stack.enter_context(Service(subject.registered.endpoint))
            for name, subject in subjects.items()
        }
        refs = {name: claims[DRIVERS[name]] for name in subjects}
        figures = _all_rounds(options, services=services, refs=refs, subjects=subjects, report=report)
        return Outcome(
            figures=figures,
            memory={name: memory_of(subject.process.pid) for name, subject in subjects.items()},
            machine=on.machine(
                **{
                    "CDI specs on": "tmpfs" if options.cdi_on_tmpfs else "the same",
                    "dra-example-driver": "0.4.0",
                }
            ),
            load=(before, machine.load()),
            commit=machine.commit(ROOT),
        )


def _all_rounds(
    options: Options,
    *,
    services: Mapping[str, Service],
    refs: Mapping[str, Sequence[Ref]],
    subjects: Mapping[str, Subject],
    report: Report,
) -> Mapping[tuple[int, str, str], Figures]:
    filled = dict.fromkeys(services, 0)
    rounds: defaultdict[tuple[int, str, str], list[Figures]] = defaultdict(list)
    for one in alternating(options.names, levels=options.levels, rounds=options.rounds):
        _run_alone(subjects, one.name)
        service, all_refs = services[one.name], refs[one.name]
        if filled[one.name] < one.level:
            with step(f"{one.name}: filled up to {one.level} prepared claims", report=report):
                more = all_refs[options.claims + filled[one.name] : options.claims + one.level]
                measure(service.prepare, more, at_once=WORKERS)
            filled[one.name] = one.level
        if not _came_to_rest(subjects[one.name]):
            report(
                f"  {one.name} is still at work {_PATIENCE_S:.0f} s after its last answer; measured as it is"
            )
        series = _round(service, all_refs[: options.claims], subject=subjects[one.name], level=one.level)
        for phase, times in series.items():
            rounds[one.level, phase, one.name].append(figures_of(times))
        report(_line(one, series))
    return {key: median(found) for key, found in rounds.items()}


def _run_alone(subjects: Mapping[str, Subject], name: str) -> None:
    """Stops all others, so that what one still does after its answers is not paid for by the next."""
    for subject in subjects.values():
        subject.process.send_signal(signal.SIGCONT if subject.name == name else signal.SIGSTOP)


def _came_to_rest(subject: Subject, *, patience_s: float = _PATIENCE_S) -> bool:
    """Waits until a driver has done what it does after its answers; whether that came to an end in time."""
    deadline = time.monotonic() + patience_s
    before = processor_s(subject.process.pid)
    while time.monotonic() < deadline:
        time.sleep(_REST_S)
        now = processor_s(subject.process.pid)
        if now - before <= _REST_S * _REST_SHARE:
            return True
        before = now
    return False


def _measured(subject: Subject, call: Callable[[Ref], float], refs: Sequence[Ref], *, at_once: int) -> Series:
    before = processor_s(subject.process.pid)
    found = measure(call, refs, at_once=at_once)
    return replace(found, cpu_s=processor_s(subject.process.pid) - before)


def _round(service: Service, refs: Sequence[Ref], *, subject: Subject, level: int) -> dict[str, Series]:
    found = {
        EMPTY: _measured(subject, service.nothing, refs, at_once=1),
        ONE_BY_ONE: _measured(subject, service.prepare, refs, at_once=1),
    }
    specs = sum(any(ref.uid in path.name for ref in refs) for path in subject.cdi.iterdir())
    if specs != len(refs):
        raise BenchError(f"{subject.name} prepared {len(refs)} claims and wrote {specs} CDI specs.")
    found[AGAIN] = _measured(subject, service.prepare, refs, at_once=1)
    found[UNPREPARE] = _measured(subject, service.unprepare, refs, at_once=1)
    found[AT_ONCE] = _measured(subject, service.prepare, refs, at_once=WORKERS)
    found[UNPREPARE_AT_ONCE] = _measured(subject, service.unprepare, refs, at_once=WORKERS)
    left = len(list(subject.cdi.iterdir())) - level
    # The example driver keeps one spec for edits that all its devices share.
    if left > 1:
        raise BenchError(f"{subject.name} left {left} CDI specs of claims that it unprepared.")
    return found


def _line(one: Step, series: Mapping[str, Series]) -> str:
    prepare, at_once = figures_of(series[ONE_BY_ONE]), figures_of(series[AT_ONCE])
    return (
        f"  {one.level:>5} prepared, round {one.round + 1}, {one.name:<4}: prepare p50 {prepare.p50:.2f} "
        f"p99 {prepare.p99:.2f} ms, 8 at once {at_once.rate:.0f}/s"
    )
