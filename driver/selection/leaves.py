"""Parts of a selector that have to be evaluated, for as few devices as possible.

Purpose: whatever a part computes, it gives the same for all devices that are alike in what it reads.

Flow: a part that reads nothing is evaluated once (`Constant`), one that reads one column once for each
distinct value (`PerValue`), one that reads several once for each combination that occurs
(`PerCombination`), and one that may read anything on each device that is still undecided (`PerDevice`).

Limits: a column with more distinct values than undecided devices, and columns with too many combinations,
are evaluated device by device too. Answers are kept until the devices change; the outcomes for values are
kept longer, so that after a change only values never seen before are evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

from driver.cel import DeviceView
from driver.selection.bitmaps import bits_of, first_of, merged, numbers_of, without
from driver.selection.column import Column, Path, Value
from driver.selection.limits import MAX_COMBINATIONS, MAX_OUTCOMES, MAX_SPLITS
from driver.selection.operators import Run, Sets
from driver.selection.outcomes import LOOKUP_RANK, noted, sort_out
from driver.selection.part import WITHOUT_ANYTHING, Outcome, Part


class Constant:
    """A part that reads nothing of the device."""

    __slots__ = ("part",)
    rank = LOOKUP_RANK

    def __init__(self, part: Part) -> None:
        self.part = part

    def answer(self, run: Run, within: int | None) -> Sets:  # noqa: ARG002 - all devices cost as much as few
        """See `Operator`."""
        outcome = self.part.outcome(WITHOUT_ANYTHING, run.meter)
        return noted(run, sort_out([run.readable], [outcome], merged))


class PerValue:
    """A part that reads one column."""

    __slots__ = ("_absent", "_generation", "_outcomes", "_path", "_sets", "part")
    rank = 2

    def __init__(self, part: Part, path: Path) -> None:
        self.part = part
        self._path = path
        self._outcomes: dict[Value, Outcome] = {}
        self._absent: list[Outcome] = []
        self._generation = -1
        self._sets = (0, 0, 0)

    def answer(self, run: Run, within: int | None) -> Sets:
        """See `Operator`."""
        if self._generation != run.devices.generation:
            column = run.devices.column(self._path)
            if within is not None and column.distinct > MAX_OUTCOMES and within.bit_count() < column.distinct:
                return each(self.part, run, within)
            outcomes = self._tried(run, column)
            self._sets = sort_out(outcomes.keys(), outcomes.values(), column.union)
            self._outcomes = outcomes if len(outcomes) <= MAX_OUTCOMES else {}
            absent = without(run.readable, column.present)
            if absent:
                if not self._absent:
                    self._absent.append(self.part.outcome(WITHOUT_ANYTHING, run.meter))
                others = sort_out([absent], self._absent, merged)
                mine = self._sets
                self._sets = (mine[0] | others[0], mine[1] | others[1], mine[2] | others[2])
            self._generation = run.devices.generation
        return noted(run, self._sets)

    def _tried(self, run: Run, column: Column) -> dict[Value, Outcome]:
        known, view = self._outcomes, run.devices.view
        outcomes: dict[Value, Outcome] = {}
        untried: list[Value] = []
        samples: list[DeviceView] = []
        for kind, group in column.groups.items():
            for key, number in group.samples():
                value = (kind, key)
                if value in known:
                    outcomes[value] = known[value]
                else:
                    untried.append(value)
                    samples.append(view(number))
        outcomes.update(zip(untried, self.part.outcomes(samples, run.meter), strict=True))
        return outcomes


class PerCombination:
    """A part that reads several columns."""

    __slots__ = ("_generation", "_paths", "_sets", "part")
    rank = 3

    def __init__(self, part: Part, paths: Sequence[Path]) -> None:
        self.part = part
        self._paths = paths
        self._generation = -1
        self._sets = (0, 0, 0)

    def answer(self, run: Run, within: int | None) -> Sets:
        """See `Operator`."""
        if self._generation != run.devices.generation:
            blocks = self._combinations(run)
            if blocks is None:
                return each(self.part, run, within)
            samples = (run.devices.view(first_of(block)) for block in blocks)
            self._sets = sort_out(blocks, self.part.outcomes(samples, run.meter), merged)
            self._generation = run.devices.generation
        return noted(run, self._sets)

    def _combinations(self, run: Run) -> list[int] | None:
        blocks = [run.readable] if run.readable else []
        columns = sorted((run.devices.column(path) for path in self._paths), key=lambda one: one.distinct)
        for column in columns:
            if len(blocks) * column.distinct > MAX_SPLITS:
                return None
            values = [group.bits(key) for group in column.groups.values() for key in group.postings]
            parted: list[int] = []
            for block in blocks:
                rest = block
                for bits in values:
                    if both := rest & bits:
                        parted.append(both)
                        rest ^= both
                        if not rest:
                            break
                if rest:
                    parted.append(rest)
            if len(parted) > MAX_COMBINATIONS:
                return None
            blocks = parted
        return blocks


class PerDevice:
    """A part that may read anything."""

    __slots__ = ("part",)
    rank = 4

    def __init__(self, part: Part) -> None:
        self.part = part

    def answer(self, run: Run, within: int | None) -> Sets:
        """See `Operator`."""
        return each(self.part, run, within)


def each(part: Part, run: Run, within: int | None) -> Sets:
    """Evaluate a part on each device that the answer is needed for."""
    numbers = list(numbers_of(run.readable if within is None else within))
    outcomes = part.outcomes(map(run.devices.view, numbers), run.meter)
    return noted(run, sort_out(numbers, outcomes, bits_of))
