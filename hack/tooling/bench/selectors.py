"""`hack/bench selectors`: selectors not seen before, over all devices of a large cluster.

Flow: an index is filled with 10,000 slices of 8 devices; then 100 selectors are compiled and answered while
it makes its columns (cold), 100 more with the columns there (warm), 100 more after each change of 1 % of the
slices, and the 100 of the warm round once more on each device with the evaluator alone. The last round's
answers must be those of the index.

Limits: processor time of one thread, compiling included, but for the warm-up of a few selectors that loads
code. Devices are converted before the clock starts, for the index and for the evaluator alike: a driver does
that when a slice changes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driver.cel import DeviceView, Selector, SelectorRaisedError, compile_selector
from driver.selection import Index, Slots
from tooling.bench import machine
from tooling.bench.errors import BenchError
from tooling.bench.process import memory_of
from tooling.bench.selectors_world import CARDS, DRIVER, KINDS, STANDARD, TOPOLOGY, Selectors, device, slices
from tooling.bench.table import table
from tooling.cluster.progress import Report, to_terminal

NEEDED = 1000.0
_CHANGED = 0.01
# One selector that reads each column; none of them is a selector of the rounds.
_COLUMNS = tuple(
    f'device.attributes["{domain}"].{name}'
    for domain, names in (
        (DRIVER, "vendor model uuid serial architecture driverVersion features nvlink"),
        (STANDARD, "pciBusID pcieRoot numaNode"),
        (TOPOLOGY, "rack block zone"),
    )
    for name in names.split()
)


@dataclass(kw_only=True)
class Outcome:
    """What was measured; times in seconds of processor time.

    Attributes:
        devices: How many devices there were.
        selectors: How many selectors a round had.
        filled: Adding all slices.
        rounds: For each round, the times by kind of selector.
        compiled: Times of compiling alone, by kind.
        updates: Time of each change of the slices.
        again: Time of answering known selectors after a change, for each change.
        view_mib: Memory of the converted devices.
        index_mib: Memory of the index with the columns that the selectors read.
        full_mib: The same with all columns.
    """

    devices: int
    selectors: int
    filled: float = 0.0
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    compiled: dict[str, list[float]] = field(default_factory=dict)
    updates: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    view_mib: float = 0.0
    index_mib: float = 0.0
    full_mib: float = 0.0

    def total(self, name: str) -> float:
        """All selectors of a round."""
        return sum(map(sum, self.rounds[name].values()))

    def ratio(self, name: str) -> float:
        """How many times faster than evaluating each device a round was."""
        return self.total("plain") / self.total(name)


def add_commands(commands: Any) -> None:
    """Adds the command to a parser."""
    parser = commands.add_parser(
        "selectors", help="unseen selectors over 80,000 devices, beside evaluating each"
    )
    parser.add_argument("--nodes", type=int, default=10_000, help="nodes of 8 devices (default: %(default)s)")
    parser.add_argument(
        "--selectors", type=int, default=100, help="selectors of a round (default: %(default)s)"
    )
    parser.add_argument("--changes", type=int, default=5, help="changes of 1 %% (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    parser.add_argument(
        "--check", action="store_true", help=f"exit with 1 if warm is not {NEEDED:,.0f} times faster"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> bool:
    load_before = machine.load()
    outcome = measure(
        nodes=options.nodes, selectors=options.selectors, changes=options.changes, report=to_terminal
    )
    print(_table(outcome))
    print()
    print(_summary(outcome))
    here = machine.this_machine(Path(__file__), versions={})
    print(
        f"\n{here.cores} cores ({here.processor}), Python {here.python}, processor time of one thread; "
        f"commit {machine.commit(Path(__file__).parent)}; "
        f"load {load_before:.1f} before, {machine.load():.1f} after"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(_document(outcome), indent=1) + "\n")
    met = outcome.ratio("warm") >= NEEDED
    print(
        f"{'met   ' if met else 'MISSED'}  warm, compiling included, at least {NEEDED:,.0f} times faster "
        f"than evaluating each device: {outcome.ratio('warm'):,.0f}"
    )
    return met


def measure(*, nodes: int, selectors: int, changes: int, report: Report) -> Outcome:
    """Measures all rounds.

    Raises:
        BenchError: There are too few selectors, or the index and the evaluator disagree.
    """
    if selectors < len(KINDS):
        raise BenchError(f"at least {len(KINDS)} selectors are needed, one of each kind")
    rng = random.Random(20261)  # noqa: S311 - reproducible, nothing secret
    outcome = Outcome(devices=nodes * CARDS, selectors=selectors)
    make = Selectors()
    _load_code(make)
    before = _rss()
    views = list(slices(nodes, rng=rng))
    outcome.view_mib = _rss() - before
    report(f"  {outcome.devices:,} devices made")

    before = _rss()
    index = Index()
    began = time.process_time()
    slots = [index.add(one) for one in views]
    outcome.filled = time.process_time() - began
    report(f"  filled in {outcome.filled:.2f} s")
    _round(outcome, "cold", make.take(selectors), index=index)
    # The answer kept for each selector of the cold round is part of the index.
    outcome.index_mib = _rss() - before
    warm = _round(outcome, "warm", make.take(selectors), index=index)
    report("  cold and warm done")
    changed = max(1, round(nodes * _CHANGED))
    for _ in range(changes):
        _change(outcome, index, views=views, slots=slots, count=changed, rng=rng)
        began = time.process_time()
        for _, selector in warm:
            index.select(selector)
        outcome.again.append(time.process_time() - began)
        _round(outcome, "changed", make.take(selectors), index=index)
    report("  changes done")
    for text in _COLUMNS:
        index.select(compile_selector(f'{text} == "none"'))
    outcome.full_mib = _rss() - before
    report("  now each device with the evaluator")
    _plain(outcome, warm, index=index, views=views, slots=slots)
    return outcome


def _load_code(make: Selectors) -> None:
    few = Index()
    few.add([device(node=0, place=0, rng=random.Random(1))])  # noqa: S311 - nothing secret
    for _, text in make.take(len(KINDS)):
        few.select(compile_selector(text))


def _round(
    outcome: Outcome, name: str, texts: Sequence[tuple[str, str]], *, index: Index
) -> list[tuple[str, Selector]]:
    times = outcome.rounds.setdefault(name, defaultdict(list))
    compiled = outcome.compiled
    answered: list[tuple[str, Selector]] = []
    clock: Callable[[], float] = time.process_time
    gc.collect()
    for kind, text in texts:
        began = clock()
        selector = compile_selector(text)
        made = clock()
        index.select(selector)
        ended = clock()
        times[kind].append(ended - began)
        compiled.setdefault(kind, []).append(made - began)
        answered.append((kind, selector))
    return answered


def _change(
    outcome: Outcome,
    index: Index,
    *,
    views: list[list[DeviceView]],
    slots: list[Slots],
    count: int,
    rng: random.Random,
) -> None:
    chosen = rng.sample(range(len(views)), count)
    fresh = [
        [device(node=rng.randrange(len(views)), place=place, rng=rng) for place in range(CARDS)]
        for _ in chosen
    ]
    began = time.process_time()
    for place, devices in zip(chosen, fresh, strict=True):
        index.remove(slots[place])
        slots[place] = index.add(devices)
    outcome.updates.append(time.process_time() - began)
    for place, devices in zip(chosen, fresh, strict=True):
        views[place] = devices


def _plain(
    outcome: Outcome,
    selectors: Sequence[tuple[str, Selector]],
    *,
    index: Index,
    views: Sequence[Sequence[DeviceView]],
    slots: Sequence[Slots],
) -> None:
    numbered = [
        (number, view)
        for place, devices in zip(slots, views, strict=True)
        for number, view in zip(place.numbers, devices, strict=True)
    ]
    times: dict[str, list[float]] = defaultdict(list)
    outcome.rounds["plain"] = times
    for kind, selector in selectors:
        true: list[int] = []
        raises: list[int] = []
        began = time.process_time()
        # A space more makes it a text that was never compiled.
        fresh = compile_selector(f" {selector.expression}")
        evaluate = fresh.evaluate
        for number, view in numbered:
            try:
                if evaluate(view):
                    true.append(number)
            except SelectorRaisedError:
                raises.append(number)
        times[kind].append(time.process_time() - began)
        said = index.select(selector)
        if (said.true.bit_count(), said.raises.bit_count()) != (len(true), len(raises)) or not (
            all(said.true >> number & 1 for number in true)
            and all(said.raises >> number & 1 for number in raises)
        ):
            raise BenchError(f"index and evaluator disagree about {selector.expression}")


def _rss() -> float:
    gc.collect()
    return memory_of(os.getpid()).rss_mib


def _table(outcome: Outcome) -> str:
    head = (
        f"selector; median over {outcome.devices:,} devices",
        "compile µs",
        "cold ms",
        "warm µs",
        "after 1 % µs",
        "each device ms",
        "warm, times faster",
    )
    rows = []
    for kind in KINDS:
        cold, warm, changed, plain = (
            statistics.median(outcome.rounds[name][kind]) for name in ("cold", "warm", "changed", "plain")
        )
        # The columns are made for the first selector of a kind.
        cold = max(outcome.rounds["cold"][kind])
        rows.append(
            (
                f"`{kind}`",
                f"{statistics.median(outcome.compiled[kind]) * 1e6:.0f}",
                f"{cold * 1e3:.1f}",
                f"{warm * 1e6:.0f}",
                f"{changed * 1e6:.0f}",
                f"{plain * 1e3:.0f}",
                f"{plain / warm:,.0f}",
            )
        )
    return table(head, rows)


def _summary(outcome: Outcome) -> str:
    count = outcome.selectors
    changes = len(outcome.updates)
    changed = outcome.total("changed") / changes if changes else 0.0
    warm, cold = outcome.ratio("warm"), outcome.ratio("cold")
    text = (
        f"{count} selectors, compiling included: {outcome.total('warm') * 1e3:.1f} ms warm, "
        f"{outcome.total('cold') * 1e3:.0f} ms cold, {outcome.total('plain'):.1f} s on each device "
        f"({warm:,.0f} and {cold:,.0f} times faster)\n"
    )
    if changes:
        text += (
            f"a change of 1 % of the slices: {statistics.median(outcome.updates) * 1e3:.1f} ms; then "
            f"{count} unseen selectors {changed * 1e3:.1f} ms "
            f"({outcome.total('plain') / changed:,.0f} times faster), "
            f"{count} known ones {statistics.median(outcome.again) * 1e3:.1f} ms\n"
        )
    return text + (
        f"memory: devices {outcome.view_mib:.0f} MiB; index {outcome.index_mib:.1f} MiB, "
        f"with all columns and the answers of all rounds {outcome.full_mib:.1f} MiB; "
        f"filled in {outcome.filled:.2f} s"
    )


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "devices": outcome.devices,
        "selectors": outcome.selectors,
        "ratioWarm": outcome.ratio("warm"),
        "ratioCold": outcome.ratio("cold"),
        "filledSeconds": outcome.filled,
        "updateSeconds": outcome.updates,
        "againSeconds": outcome.again,
        "memoryMiB": {
            "devices": outcome.view_mib,
            "index": outcome.index_mib,
            "allColumns": outcome.full_mib,
        },
        "seconds": outcome.rounds,
    }
