"""`hack/bench selectors` on a small cluster: that it measures what it says, not how fast."""

from __future__ import annotations

import random

import pytest

from driver.cel import compile_selector
from driver.cel.deep import make_room
from driver.selection import Index, Selection
from tooling.bench import selectors
from tooling.bench.errors import BenchError
from tooling.bench.selectors_world import KINDS, Selectors, slices
from tooling.cluster.progress import silent


def test_no_selector_comes_twice_and_the_kinds_have_equal_shares() -> None:
    make = Selectors()
    taken = [one for _ in range(8) for one in make.take(70)]
    assert len({text for _, text in taken}) == len(taken)
    assert {kind: sum(one == kind for one, _ in taken) for kind in KINDS} == dict.fromkeys(KINDS, 40)


def test_every_kind_compiles_and_divides_the_devices() -> None:
    make_room()
    index = Index()
    for views in slices(64, rng=random.Random(1)):
        index.add(views)
    some: set[str] = set()
    for kind, text in Selectors().take(20 * len(KINDS)):
        selection = index.select(compile_selector(text))
        if 0 < selection.true.bit_count() < 512:
            some.add(kind)
    # All devices are of one driver.
    assert set(KINDS) - some == {"driver=="}


def test_all_rounds_are_measured_and_agree() -> None:
    outcome = selectors.measure(nodes=4, selectors=len(KINDS), changes=2, report=silent)
    assert {name: len(times) for name, times in outcome.rounds.items()} == dict.fromkeys(
        ("cold", "warm", "changed", "plain"), len(KINDS)
    )
    assert len(outcome.updates) == len(outcome.again) == 2
    assert outcome.ratio("warm") > 0


def test_an_index_that_disagrees_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "select", lambda _self, _selector: Selection(1, 0))
    with pytest.raises(BenchError, match="disagree"):
        selectors.measure(nodes=2, selectors=len(KINDS), changes=0, report=silent)


def test_too_few_selectors_are_refused() -> None:
    with pytest.raises(BenchError, match="at least 14"):
        selectors.measure(nodes=1, selectors=3, changes=0, report=silent)
