"""Tables and verdicts."""

import pytest

from tooling.bench.figures import Figures
from tooling.bench.machine import Machine
from tooling.bench.pods import CLAIMING, PLAIN
from tooling.bench.pods import Outcome as Pods
from tooling.bench.prepare import AT_ONCE, ONE_BY_ONE, Outcome
from tooling.bench.process import Memory
from tooling.bench.report import (
    FLAT,
    document,
    figures_table,
    pods_verdicts,
    start_table,
    start_verdicts,
    verdicts,
)
from tooling.bench.start import Outcome as Start
from tooling.bench.subjects import GO, OURS
from tooling.bench.table import milliseconds, table

MACHINE = Machine(cores=2, processor="", memory_gib=24, kernel="6.1", python="3.11.7", storage="ext4")
Measured = dict[tuple[int, str, str], Figures]


def figures(p50: float = 1.0, *, p99: float = 2.0, rate: float = 100.0) -> Figures:
    return Figures(p50=p50, p90=p50, p99=p99, rate=rate, cpu=1.0)


def measured(ours: Figures, go: Figures, *, level: int = 0) -> Measured:
    return {
        (level, phase, name): found
        for phase in (ONE_BY_ONE, AT_ONCE)
        for name, found in ((OURS, ours), (GO, go))
    }


def missed(found: Measured) -> list[str]:
    return [verdict.what for verdict in verdicts(found) if not verdict.holds]


def test_a_table_is_markdown_with_aligned_columns() -> None:
    assert table(("what", "ms"), [("a", "1.0"), ("longer", "10.0")]) == (
        "| what   |   ms |\n"  # a table's lines have one width
        "| ------ | ---: |\n"
        "| a      |  1.0 |\n"
        "| longer | 10.0 |"
    )


def test_a_row_that_does_not_fit_its_head_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 headings"):
        table(("a", "b"), [("1",)])


@pytest.mark.parametrize(
    ("value", "shown"), [(0.123, "0.12"), (9.876, "9.88"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_times_show_three_digits_or_all_before_the_point(value: float, shown: str) -> None:
    assert milliseconds(value) == shown


def test_where_both_were_measured_a_line_holds_their_ratio() -> None:
    lines = figures_table(measured(figures(3.0), figures(2.0))).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:5]] == ["go", "ours", "ours / go"]
    assert lines[4].split("|")[3].strip() == "1.50"


def test_where_one_was_measured_there_is_no_ratio() -> None:
    only = {key: found for key, found in measured(figures(), figures()).items() if key[2] == OURS}
    assert "ours / go" not in figures_table(only)
    assert verdicts(only) == []


def test_better_than_go_in_all_three_meets_what_has_to_hold() -> None:
    ours, go = figures(1.0, p99=2.0, rate=101), figures(1.1, p99=2.1, rate=100)
    assert missed(measured(ours, go)) == []


@pytest.mark.parametrize(
    ("ours", "what"),
    [
        (figures(1.1, p99=1.0, rate=200), "p50 of prepare below Go's"),
        (figures(0.5, p99=2.0, rate=200), "p99 of prepare below Go's"),
        (figures(0.5, p99=1.0, rate=100), "rate 8 at once above Go's"),
    ],
)
def test_each_figure_that_is_not_better_than_gos_is_missed_by_name(ours: Figures, what: str) -> None:
    go = figures(1.0, p99=2.0, rate=100)
    assert missed(measured(ours, go, level=100)) == [f"100 prepared: {what}"]


@pytest.mark.parametrize(("growth", "holds"), [(1.0, True), (FLAT, True), (FLAT + 0.01, False)])
def test_cost_is_flat_while_it_grows_little_with_the_number_of_prepared_claims(
    growth: float, holds: bool
) -> None:
    go = figures(100.0, p99=200.0, rate=1)
    found = {**measured(figures(4.0), go), **measured(figures(4.0 * growth), go, level=1000)}
    flat = [verdict for verdict in verdicts(found) if "flat from 0 to 1,000" in verdict.what]
    assert [verdict.holds for verdict in flat] == [holds]


def test_the_document_holds_every_figure_and_verdict() -> None:
    found = measured(figures(), figures())
    outcome = Outcome(
        figures=found,
        memory={OURS: Memory(rss_mib=60.0, uss_mib=35.0)},
        machine=MACHINE,
        load=(0.1, 0.2),
        commit="abc",
    )
    told = document(outcome)
    assert len(told["figures"]) == len(found)
    assert [verdict["what"] for verdict in told["verdicts"]] == [one.what for one in verdicts(found)]


@pytest.mark.parametrize(
    ("serving", "rss", "holds"), [(999.0, 64.0, [True, True]), (1000.0, 64.1, [False, False])]
)
def test_a_start_has_to_be_quick_and_an_idle_agent_small(
    serving: float, rss: float, holds: list[bool]
) -> None:
    outcome = Start(
        serving_ms=(1.0, serving, 5000.0),
        idle=Memory(rss_mib=rss, uss_mib=1.0),
        cards=8,
        machine=MACHINE,
        load=(0, 0),
        commit="abc",
    )
    assert [verdict.holds for verdict in start_verdicts(outcome)] == holds
    assert "5,000" in start_table(outcome)


@pytest.mark.parametrize(("with_claims", "holds"), [(1249.0, True), (1251.0, False)])
def test_claims_may_make_pods_a_quarter_slower(with_claims: float, holds: bool) -> None:
    found = {PLAIN: figures(1000.0, p99=1000.0), CLAIMING: figures(with_claims, p99=with_claims)}
    outcome = Pods(pods=30, figures=found, machine=MACHINE, load=(0, 0), commit="abc")
    assert [verdict.holds for verdict in pods_verdicts(outcome)] == [holds, holds]
