"""From times to figures: percentiles, rates, medians over rounds, ratios. Pure.

Flow: `Series` (the times of one phase of one round) -> `Figures` -> `median` over the rounds -> `ratio`.

Limits: percentiles are nearest-rank, so each is a time that was really measured; the p99 of 200 calls is the
third slowest, which is why rounds are repeated and their median is shown.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Series:
    """The calls of one phase of one round.

    Attributes:
        milliseconds: How long each call took, as its caller saw it.
        wall_s: From the first call's start to the last one's end, in seconds.
        cpu_s: Processor time that the driver's process took meanwhile, in seconds.
    """

    milliseconds: tuple[float, ...]
    wall_s: float
    cpu_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is told of a phase; as a ratio (ours divided by theirs) more is better for the rate alone.

    Attributes:
        p50, p90, p99: How long a call took, in milliseconds.
        rate: Calls a second.
        cpu: Processor time of the driver's process for a call, in milliseconds.
    """

    p50: float
    p90: float
    p99: float
    rate: float
    cpu: float


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile.

    Raises:
        ValueError: There are no values, or `percent` is not above 0 and at most 100.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is no percentile")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def figures_of(series: Series) -> Figures:
    """The figures of one phase of one round."""
    times = series.milliseconds
    return Figures(
        p50=percentile(times, 50),
        p90=percentile(times, 90),
        p99=percentile(times, 99),
        rate=len(times) / series.wall_s,
        cpu=series.cpu_s * 1000 / len(times),
    )


def median(rounds: Sequence[Figures]) -> Figures:
    """Each figure's median over the rounds."""
    return Figures(**{name: statistics.median(getattr(one, name) for one in rounds) for name in _NAMES})


def ratio(ours: Figures, theirs: Figures) -> Figures:
    """How ours compares."""
    return Figures(**{name: _divided(getattr(ours, name), getattr(theirs, name)) for name in _NAMES})


def _divided(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else math.nan


_NAMES = tuple(one.name for one in fields(Figures))
