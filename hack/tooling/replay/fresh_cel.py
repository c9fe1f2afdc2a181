"""New random selectors, answered by both sides.

Flow: probes from the grammar, their values from the reference, selectors from both, answers from both, a
table by function.

Limits: what the reference does not answer in time is left out. A disagreement is printed as the two lines
that go into tests/corpora/regressions/cel.jsonl.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from driver.cel import DeviceView
from tooling.bench.table import table
from tooling.cluster.progress import to_terminal
from tooling.replay.cel_devices import devices
from tooling.replay.cel_macros import NAMED
from tooling.replay.cel_types import BOOL, overloads
from tooling.replay.check import percent
from tooling.replay.fresh import chosen_seed, close
from tooling.replay.generate_cel import Grammar
from tooling.replay.progress import Progress
from tooling.replay.reference import RELEASES, Reference, build
from tooling.replay.selectors import outcome

CASES = 4000
LEAST_USES = 3

_DEVICES = 40
_MACRO = re.compile(rf"\b({'|'.join(NAMED)})\(")


@dataclass(slots=True)
class Run:
    """What came out of a run.

    Attributes:
        cases: Selectors that both sides answered.
        wrong: The disagreements, as pairs of lines for a corpus.
        refused: Selectors that ours refuses as not supported, and says so.
        used: How often each function was used, by name.
        agreed: How often with agreement.
        raised: How often where the selector raises.
        rare: Overloads that were used less than `LEAST_USES` times.
        outcomes: How often the reference gave each outcome.
    """

    cases: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    agreed: Counter[str] = field(default_factory=Counter)
    raised: Counter[str] = field(default_factory=Counter)
    rare: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        """Use and agreement by function."""
        rows = [
            (
                name,
                f"{used:,}",
                f"{self.raised[name]:,}",
                f"{self.agreed[name]:,}",
                percent(self.agreed[name], used),
            )
            for name, used in sorted(self.used.items())
        ]
        return table(("function", "used", "raised", "agree", "%"), rows)

    def summary(self) -> str:
        """One line."""
        refused = self.refused.total()
        agreed = self.cases - len(self.wrong) - refused
        outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(self.outcomes.items()))
        rate = percent(agreed, self.cases)
        return f"{agreed:,} of {self.cases:,} agree ({rate} %), {refused} refused: {outcomes}"


def compare(reference: Reference, *, release: str, seed: int, count: int = CASES) -> Run:
    """Make `count` selectors or a few more and compare."""
    rng = random.Random(seed)  # noqa: S311 - to be made again from its seed is the point
    (environment,) = reference.ask("environment")
    raw = devices(rng, _DEVICES)
    lines = _lines(reference, Grammar(environment, rng), rng, count)
    answers = reference.ask("cel", "-v", lines=[{"devices": raw}, *lines])
    views = [DeviceView.build(one, driver=one["driver"]) for one in raw]
    functions = {one.id: one.function for one in overloads(environment)}
    result, seen = Run(), Counter[str]()
    progress = Progress(f"selectors of {release}", total=len(lines))
    for line, theirs in zip(lines, answers, strict=True):
        progress.step()
        if theirs["outcome"] == "timeout":
            continue
        ours = outcome(line["expression"], views[line["device"]], release=release)
        same = ours == theirs["outcome"]
        used = theirs.get("overloads") or ()
        seen.update(used)
        _count(
            result,
            _names(line["expression"], used, functions, theirs["outcome"]),
            theirs["outcome"],
            same=same,
        )
        if ours == "not-supported":
            result.refused[line["expression"]] += 1
        elif not same:
            told = {**line, "device": 0, "outcome": theirs["outcome"], "kubernetes": release}
            beside = {"ours": ours, "message": theirs.get("message", "")}
            result.wrong.append(({"devices": [raw[line["device"]]]}, told | beside))
    progress.end()
    reachable = {one.id for one in Grammar(environment, rng).overloads}
    result.rare = sorted(one for one in reachable if seen[one] < LEAST_USES)
    return result


def _lines(reference: Reference, grammar: Grammar, rng: random.Random, count: int) -> list[dict[str, Any]]:
    probes = list(grammar.probes(count))
    free = [probe for probe in probes if probe.free and probe.type != BOOL]
    values = dict(
        zip(
            (probe.text for probe in free),
            reference.ask("literals", lines=[probe.text for probe in free]),
            strict=True,
        )
    )
    lines = []
    for probe in probes:
        expression = grammar.selector(probe, values.get(probe.text))
        if len(expression.encode(errors="replace")) <= 10 * 1024:
            lines.append({"device": rng.randrange(_DEVICES), "expression": expression})
    return lines


def _names(expression: str, used: Sequence[str], functions: dict[str, str], outcome_: str) -> set[str]:
    if outcome_ == "compile-error":
        return {"(does not compile)"}
    names = {functions[one] for one in used if one in functions and not functions[one].startswith("@")}
    return names | {f"{name}()" for name in _MACRO.findall(expression)}


def _count(result: Run, names: set[str], outcome_: str, *, same: bool) -> None:
    result.cases += 1
    result.outcomes[outcome_] += 1
    result.used.update(names)
    if same:
        result.agreed.update(names)
    if outcome_ == "evaluation-error":
        result.raised.update(names)


def run(options: argparse.Namespace) -> int:
    """The command `cel --fresh`; returns the exit status."""
    seed = chosen_seed(options)
    summaries, wrong = {}, {}
    for release in [options.kubernetes] if options.kubernetes else list(RELEASES):
        reference = build(release, report=to_terminal)
        found = compare(reference, release=release, seed=seed, count=options.cases or CASES)
        print(f"\nSelectors of {release}, seed {seed}\n\n{found.table()}\n")
        for text in found.refused:
            print(f"Refused as not supported: {text[:200]}")
        if found.rare:
            print(f"Used less than {LEAST_USES} times: {', '.join(found.rare)}\n")
        summaries[release], wrong[release] = found.summary(), found.wrong
    return close(wrong, summaries, seed=seed)
