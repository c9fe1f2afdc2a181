"""Percentiles, rates, medians and ratios."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tooling.bench.figures import Figures, Series, figures_of, median, percentile, ratio

TIMES = st.lists(st.floats(min_value=0.001, max_value=1e6), min_size=1, max_size=300)


def figures(value: float) -> Figures:
    return Figures(p50=value, p90=value, p99=value, rate=value, cpu=value)


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (90, 4.0), (99, 4.0), (100, 4.0), (25, 1.0)])
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == expected


def test_the_p99_of_200_calls_is_the_third_slowest() -> None:
    assert percentile([float(number) for number in range(1, 201)], 99) == 198.0


@given(values=TIMES, percent=st.floats(min_value=0.1, max_value=100))
def test_a_percentile_is_a_time_that_was_measured_and_has_its_part_of_all_at_or_below(
    values: list[float], percent: float
) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_what_has_no_percentile_is_refused(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_the_rate_counts_calls_by_wall_time_and_cpu_is_told_for_a_call() -> None:
    found = figures_of(Series(milliseconds=(10.0, 20.0, 30.0, 40.0), wall_s=0.05, cpu_s=0.002))
    assert found == Figures(p50=20.0, p90=40.0, p99=40.0, rate=80.0, cpu=0.5)


def test_each_figure_has_its_own_median_over_the_rounds() -> None:
    rounds = [
        Figures(p50=1, p90=9, p99=5, rate=100, cpu=1),
        Figures(p50=2, p90=7, p99=9, rate=300, cpu=3),
        Figures(p50=3, p90=8, p99=1, rate=200, cpu=2),
    ]
    assert median(rounds) == Figures(p50=2, p90=8, p99=5, rate=200, cpu=2)


def test_a_ratio_is_ours_by_theirs() -> None:
    assert ratio(figures(3.0), figures(2.0)) == figures(1.5)


def test_a_ratio_to_nothing_measured_is_no_number() -> None:
    assert math.isnan(ratio(figures(1.0), figures(0.0)).cpu)
