"""Rates of agreement, and whether they are enough.

Flow: `SelectorCheck` and `AllocationCheck` take a line and our answer, return the disagreements as sentences,
and close with a table.

Limits: lines with `quirk` and outcomes where ours avoids a flaw of 1.36 are counted beside, not for or
against.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tooling.bench.table import table
from tooling.replay.judge import compare, flaw_not_copied
from tooling.replay.lines import Line

LEAST_SELECTORS = 0.999
LEAST_EXACT = 0.99


class SelectorCheck:
    """Agreement over selectors, by the corpus' category where it has one."""

    def __init__(self) -> None:
        self._total: Counter[str] = Counter()
        self._agreed: Counter[str] = Counter()

    def add(self, line: Line, ours: str) -> list[str]:
        """Judge one answer.

        Raises:
            ReplayError: The line has no recorded outcome.
        """
        recorded = line.value.get("outcome")
        if not isinstance(recorded, str):
            raise line.wrong("nothing to check against: the case has no 'outcome'")
        group = str(line.value.get("category") or "all")
        self._total[group] += 1
        if ours == recorded:
            self._agreed[group] += 1
            return []
        expression = json.dumps(line.value["expression"], ensure_ascii=False)
        place = f"line {line.number}, device {line.value['device']}"
        return [f"{place}: recorded {recorded}, ours {ours}: {expression}"]

    def close(self) -> int:
        """Print the rates; 1 if they are not enough."""
        print(f"\n{self.table()}")
        return 0 if self.enough else 1

    @property
    def enough(self) -> bool:
        """Whether the agreement is what is demanded."""
        return self._agreed.total() >= LEAST_SELECTORS * self._total.total()

    def table(self) -> str:
        """The rates."""
        rows = [_rate(group, self._agreed[group], total) for group, total in sorted(self._total.items())]
        if len(rows) > 1:
            rows.append(_rate("all", self._agreed.total(), self._total.total()))
        return table(("selectors", "cases", "agree", "%"), rows)


def _rate(name: str, agreed: int, total: int) -> tuple[str, str, str, str]:
    return name, f"{total:,}", f"{agreed:,}", percent(agreed, total)


def percent(part: int, whole: int) -> str:
    """A rate, rounded down, so that 100.00 is said of all only."""
    return f"{part * 10_000 // whole / 100:.2f}" if whole else "-"


class AllocationCheck:
    """Agreement over outcomes (a case on a node), hand-written and random ones apart."""

    def __init__(self, release: str) -> None:
        self._release = release
        self._counts: dict[str, Counter[str]] = {}

    def add(self, line: Line, ours: Mapping[str, Any]) -> list[str]:
        """Judge the answer to one case.

        Raises:
            ReplayError: The line has no recorded answer.
        """
        recorded: Any = line.value.get("expected")
        newer: Any = line.value.get("expected137") or recorded
        if not isinstance(recorded, Mapping) or len(recorded.get("nodes") or ()) != len(ours["nodes"]):
            raise line.wrong("nothing to check against: the case has no 'expected' for each node")
        after = self._release >= "1.37"
        counts = self._counts.setdefault("hand-written" if "why" in line.value else "random", Counter())
        wrong = []
        for place, mine in enumerate(ours["nodes"]):
            theirs = (newer if after else recorded)["nodes"][place]
            verdict = compare(mine, theirs)
            if line.value.get("quirk"):
                counts["quirk"] += 1
                continue
            if not verdict.exact and not after and flaw_not_copied(mine, theirs, newer["nodes"][place]):
                counts["not copied"] += 1
                continue
            counts["outcomes"] += 1
            for name in ("feasible", "exact", "alike", "over"):
                counts[name] += getattr(verdict, name)
            if not verdict.exact:
                wrong.append(_told(line, mine, theirs))
        return wrong

    def close(self) -> int:
        """Print the rates; 1 if they are not enough."""
        print(f"\n{self.table()}")
        return 0 if self.enough else 1

    @property
    def enough(self) -> bool:
        """Whether the agreement is what is demanded."""
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total += counts
        by_hand = self._counts.get("hand-written", Counter())
        return (
            total["exact"] >= LEAST_EXACT * total["outcomes"]
            and not total["over"]
            and by_hand["feasible"] == by_hand["outcomes"]
        )

    def table(self) -> str:
        """The rates."""
        head = (f"allocations {self._release}", "outcomes", "feasible %", "exact %", "alike %", "over")
        rows = []
        for group, counts in sorted(self._counts.items()):
            rates = [percent(counts[name], counts["outcomes"]) for name in ("feasible", "exact", "alike")]
            rows.append((group, f"{counts['outcomes']:,}", *rates, str(counts["over"])))
        beside = sum(counts["quirk"] + counts["not copied"] for counts in self._counts.values())
        quirks = sum(counts["quirk"] for counts in self._counts.values())
        said = (
            f"\n\nBeside these, not counted: {quirks} on lines marked quirk, "
            f"{beside - quirks} flaws of 1.36 not copied."
        )
        return table(head, rows) + (said if beside else "")


def _told(line: Line, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    return (
        f"line {line.number}, {line.value.get('id')} on {ours['node']}:\n"
        f"  reference {_brief(theirs)}\n  ours      {_brief(ours)}"
    )


def _brief(answer: Mapping[str, Any]) -> str:
    if answer.get("allocations") is None:
        kind = answer.get("errorKind")
        return f"error {kind}" if kind else "no solution"
    return json.dumps(answer["allocations"], sort_keys=True)[:2000]
