"""What `hack/bench` says: tables, what had to hold and whether it did, and JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tooling.bench import pods, start
from tooling.bench.figures import Figures, percentile, ratio
from tooling.bench.prepare import AT_ONCE, ONE_BY_ONE, PHASES, Outcome
from tooling.bench.subjects import GO, OURS
from tooling.bench.table import milliseconds, per_second, table, times

SLOWER = 1.25
SERVING_MS = 1000.0
IDLE_MIB = 64.0
FLAT = 1.25
"""Cost counts as flat while the median with most claims prepared is at most this times that with fewest."""

_HEAD = ("prepared already, phase", "who", "p50 ms", "p90 ms", "p99 ms", "per s", "cpu ms")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Something that had to hold, whether it does, and the figures that say so."""

    what: str
    holds: bool
    seen: str


def figures_table(figures: Mapping[tuple[int, str, str], Figures]) -> str:
    """All figures; where both drivers were measured, a third line holds ours divided by theirs."""
    rows: list[tuple[str, ...]] = []
    for level in sorted({level for level, _, _ in figures}):
        for phase in PHASES:
            found = {
                name: figures[level, phase, name] for name in (GO, OURS) if (level, phase, name) in figures
            }
            title = f"{level:,}: {phase}"
            for name, one in found.items():
                rows.append((title, name, *_cells(one)))
                title = ""
            if len(found) == 2:
                part = ratio(found[OURS], found[GO])
                rows.append(
                    (
                        "",
                        "ours / go",
                        times(part.p50),
                        times(part.p90),
                        times(part.p99),
                        times(part.rate),
                        times(part.cpu),
                    )
                )
    return table(_HEAD, rows)


def verdicts(figures: Mapping[tuple[int, str, str], Figures]) -> list[Verdict]:
    """What the project holds itself to, as far as it was measured."""
    levels = sorted({level for level, _, name in figures if name == OURS})
    return [*_against_go(figures, levels), *_flat(figures, levels)]


def document(outcome: Outcome) -> dict[str, Any]:
    """For JSON."""
    return {
        "machine": outcome.machine.document(),
        "commit": outcome.commit,
        "load": list(outcome.load),
        "memory": {name: asdict(memory) for name, memory in outcome.memory.items()},
        "figures": [
            {"prepared": level, "phase": phase, "who": name, **asdict(one)}
            for (level, phase, name), one in sorted(outcome.figures.items())
        ],
        "verdicts": [asdict(verdict) for verdict in verdicts(outcome.figures)],
    }


def start_table(outcome: start.Outcome) -> str:
    """How long starts took, and what an idle agent holds."""
    times = outcome.serving_ms
    return table(
        ("start and memory", "figure"),
        [
            (f"exec to GetInfo, median of {len(times)} starts, ms", milliseconds(percentile(times, 50))),
            ("the slowest of them, ms", milliseconds(max(times))),
            (f"idle with {outcome.cards} NVIDIA cards by NVML, RSS MiB", f"{outcome.idle.rss_mib:.1f}"),
            ("of that its own (USS), MiB", f"{outcome.idle.uss_mib:.1f}"),
        ],
    )


def start_verdicts(outcome: start.Outcome) -> list[Verdict]:
    """What the project holds itself to."""
    median_ms = percentile(outcome.serving_ms, 50)
    return [
        Verdict(
            what="serving within 1 s of exec (median)",
            holds=median_ms < SERVING_MS,
            seen=f"{milliseconds(median_ms)} ms",
        ),
        Verdict(
            what=f"at most {IDLE_MIB:.0f} MiB RSS when idle",
            holds=outcome.idle.rss_mib <= IDLE_MIB,
            seen=f"{outcome.idle.rss_mib:.1f} MiB",
        ),
    ]


def start_document(outcome: start.Outcome) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(outcome), "verdicts": [asdict(verdict) for verdict in start_verdicts(outcome)]}


def pods_table(outcome: pods.Outcome) -> str:
    """Create to Running, with claims and without."""
    found = outcome.figures
    part = ratio(found[pods.CLAIMING], found[pods.PLAIN])
    rows = [
        (name, *(milliseconds(value) for value in (one.p50, one.p90, one.p99))) for name, one in found.items()
    ]
    return table(
        (f"{outcome.pods} pods at once, create to Running", "p50 ms", "p90 ms", "p99 ms"),
        [*rows, ("with / without", times(part.p50), times(part.p90), times(part.p99))],
    )


def pods_verdicts(outcome: pods.Outcome) -> list[Verdict]:
    """What the project holds itself to."""
    part = ratio(outcome.figures[pods.CLAIMING], outcome.figures[pods.PLAIN])
    return [
        Verdict(
            what=f"{name} with claims at most a quarter above that without",
            holds=getattr(part, name) <= SLOWER,
            seen=f"{times(getattr(part, name))} times",
        )
        for name in ("p50", "p99")
    ]


def pods_document(outcome: pods.Outcome) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(outcome), "verdicts": [asdict(verdict) for verdict in pods_verdicts(outcome)]}


def _against_go(figures: Mapping[tuple[int, str, str], Figures], levels: Sequence[int]) -> Iterator[Verdict]:
    for level in levels:
        if (level, ONE_BY_ONE, GO) not in figures:
            continue
        ours, theirs = figures[level, ONE_BY_ONE, OURS], figures[level, ONE_BY_ONE, GO]
        for name in ("p50", "p99"):
            here, there = getattr(ours, name), getattr(theirs, name)
            yield Verdict(
                what=f"{level:,} prepared: {name} of prepare below Go's",
                holds=here < there,
                seen=f"{milliseconds(here)} and {milliseconds(there)} ms",
            )
        here, there = figures[level, AT_ONCE, OURS].rate, figures[level, AT_ONCE, GO].rate
        yield Verdict(
            what=f"{level:,} prepared: rate 8 at once above Go's",
            holds=here > there,
            seen=f"{per_second(here)} and {per_second(there)} a second",
        )


def _flat(figures: Mapping[tuple[int, str, str], Figures], levels: Sequence[int]) -> Iterator[Verdict]:
    if len(levels) < 2:
        return
    fewest, most = levels[0], levels[-1]
    before, after = figures[fewest, ONE_BY_ONE, OURS].p50, figures[most, ONE_BY_ONE, OURS].p50
    yield Verdict(
        what=f"p50 of prepare flat from {fewest:,} to {most:,} prepared claims",
        holds=after <= before * FLAT,
        seen=f"{milliseconds(before)} and {milliseconds(after)} ms",
    )


def _cells(one: Figures) -> tuple[str, ...]:
    shown = (milliseconds(one.p50), milliseconds(one.p90), milliseconds(one.p99))
    return (*shown, per_second(one.rate), milliseconds(one.cpu))
