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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from driver.cel import DeviceView
from tooling.bench.table import table
from tooling.cluster.progress import to_terminal
from tooling.replay.cel_devices import devices
from tooling.replay.cel_macros import NAMED
from tooling.replay.cel_types import BOOL, Overload, Probe, overloads
from tooling.replay.check import percent
from tooling.replay.fresh import chosen_seed, close
from tooling.replay.generate_cel import Grammar
from tooling.replay.progress import Progress
from tooling.replay.reference import RELEASES, Reference, build
from tooling.replay.selectors import outcome

CASES = 4000
LEAST_USES = 3

_DEVICES = 40
_ROUNDS = 5

_MENDED = ("unsupported conversion to ref.Val", "not wrapper(bool)")
"""What it says where 1.36 fails and 1.37 does not: a Kubernetes type in an optional, a wrapped bool."""
_LENIENT = (".orValue(", ".or(")
"""Up to 1.36 these give what is no optional as it is, of whatever type: not of the one that was checked."""
_FLAWS = ("invalid qualifier type: *types.Optional",)
"""What the reference says where all releases fail: `m[has(a.?b.c)]`."""

_MACRO = re.compile(rf"\b({'|'.join(NAMED)})\(")


@dataclass(slots=True)
class Run:
    """What came out of a run.

    Attributes:
        cases: Selectors that both sides answered.
        wrong: The disagreements, as pairs of lines for a corpus.
        refused: Selectors that ours refuses as not supported, and says so.
        flaws: Selectors on which the reference fails with an error of its own, and ours does not.
        used: How often each function was used, by name.
        agreed: How often with agreement.
        raised: How often where the selector raises.
        rare: Overloads that were used less than `LEAST_USES` times.
        outcomes: How often the reference gave each outcome.
    """

    cases: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    flaws: Counter[str] = field(default_factory=Counter)
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
        refused, flaws = self.refused.total(), self.flaws.total()
        agreed = self.cases - len(self.wrong) - refused - flaws
        outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(self.outcomes.items()))
        rate = percent(agreed, self.cases)
        beside = f"{refused} refused, {flaws} flaws not copied, {len(self.wrong)} wrong"
        return f"{agreed:,} of {self.cases:,} agree ({rate} %), {beside}: {outcomes}"


def compare(
    reference: Reference,
    *,
    release: str,
    seed: int,
    count: int = CASES,
    newer: Reference | None = None,
) -> Run:
    """Make `count` selectors or a few more and compare; `newer` tells what a later release mended."""
    rng = random.Random(seed)  # noqa: S311 - to be made again from its seed is the point
    (environment,) = reference.ask("environment")
    grammar = Grammar(environment, rng)
    comparison = _Comparison(reference, newer, release, devices(rng, _DEVICES), environment)
    comparison.add(_lines(reference, grammar, grammar.probes(count)))
    for _ in range(_ROUNDS):
        rare = comparison.rare(grammar.overloads)
        if not rare:
            break
        # What was called on purpose may have become part of something that does not compile.
        again = (grammar.targeted(one, depth=1, tame=True) for one in rare for _ in range(2 * LEAST_USES))
        comparison.add(_lines(reference, grammar, again))
    comparison.result.rare = sorted(one.id for one in comparison.rare(grammar.overloads))
    return comparison.result


class _Comparison:
    def __init__(
        self,
        reference: Reference,
        newer: Reference | None,
        release: str,
        raw: list[dict[str, Any]],
        environment: dict[str, Any],
    ) -> None:
        self._reference, self._newer, self._release, self._raw = reference, newer, release, raw
        self._views = [DeviceView.build(one, driver=one["driver"]) for one in raw]
        self._functions = {one.id: one.function for one in overloads(environment)}
        self._seen: Counter[str] = Counter()
        self.result = Run()

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        answers = self._reference.ask("cel", "-v", lines=[{"devices": self._raw}, *lines])
        progress = Progress(f"selectors of {self._release}", total=len(lines))
        for line, theirs in zip(lines, answers, strict=True):
            progress.step()
            if theirs["outcome"] != "timeout":
                self._judge(line, theirs)
        progress.end()

    def rare(self, known: Sequence[Overload]) -> list[Overload]:
        return [one for one in known if self._seen[one.id] < LEAST_USES]

    def _judge(self, line: dict[str, Any], theirs: dict[str, Any]) -> None:
        result, expression = self.result, line["expression"]
        ours = outcome(expression, self._views[line["device"]], release=self._release)
        used = theirs.get("overloads") or ()
        self._seen.update(used)
        names = _names(expression, used, self._functions, theirs["outcome"])
        _count(result, names, theirs["outcome"], same=ours == theirs["outcome"])
        if ours == theirs["outcome"]:
            return
        if ours == "not-supported":
            result.refused[expression] += 1
        elif self._is_flaw(line, ours, theirs):
            result.flaws[expression] += 1
        else:
            told = {**line, "device": 0, "outcome": theirs["outcome"], "kubernetes": self._release}
            beside = {"ours": ours, "message": theirs.get("message", "")}
            result.wrong.append(({"devices": [self._raw[line["device"]]]}, told | beside))

    def _is_flaw(self, line: dict[str, Any], ours: str, theirs: dict[str, Any]) -> bool:
        message = theirs.get("message", "")
        if any(flaw in message for flaw in _FLAWS):
            return True
        lenient = ours == "evaluation-error" and any(call in line["expression"] for call in _LENIENT)
        if self._newer is None or not (lenient or any(flaw in message for flaw in _MENDED)):
            return False
        asked = [{"devices": [self._raw[line["device"]]]}, {**line, "device": 0}]
        return bool(self._newer.ask("cel", lines=asked) == [ours])


def _lines(reference: Reference, grammar: Grammar, made: Iterable[Probe]) -> list[dict[str, Any]]:
    probes = list(made)
    free = [probe.text for probe in probes if probe.free and probe.type != BOOL]
    values = dict(zip(free, reference.ask("literals", lines=free), strict=True))
    lines = []
    for probe in probes:
        expression = grammar.selector(probe, values.get(probe.text))
        if len(expression.encode(errors="replace")) <= 10 * 1024:
            lines.append({"device": grammar.rng.randrange(_DEVICES), "expression": expression})
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
    newest = build(RELEASES[-1], report=to_terminal)
    for release in [options.kubernetes] if options.kubernetes else list(RELEASES):
        reference = build(release, report=to_terminal)
        found = compare(reference, release=release, seed=seed, count=options.cases or CASES, newer=newest)
        print(f"\nSelectors of {release}, seed {seed}\n\n{found.table()}\n")
        for title, texts in (("Refused as not supported", found.refused), ("Flaw not copied", found.flaws)):
            for text in texts:
                print(f"{title}: {text[:200]}")
        if found.rare:
            print(f"Used less than {LEAST_USES} times: {', '.join(found.rare)}\n")
        summaries[release], wrong[release] = found.summary(), found.wrong
    return close(wrong, summaries, seed=seed)
