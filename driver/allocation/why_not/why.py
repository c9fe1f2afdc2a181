"""Why claims get nothing: the question as a whole.

Purpose: from a survey of all nodes to a few grounds with ranges, and to what would help.

Flow: `why_not` reads the claims (what is wrong with them is the answer already), surveys the nodes, merges
equal obstacles and looks for changes.

Limits: pure. About a second for 40,000 cards that all differ, a fifth of that for ordinary clusters. At most
`MAX_GROUNDS` grounds are kept; what stands in a ground is cut to the length of a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from driver.allocation.attempt import foregone
from driver.allocation.claims import prepare
from driver.allocation.cluster import Cluster
from driver.allocation.errors import NoDeviceError
from driver.allocation.models import JSON
from driver.allocation.placement.place import node_names
from driver.allocation.profile import Features, Profile
from driver.allocation.requests import Claim, Option
from driver.allocation.snapshot import Snapshot
from driver.allocation.why_not.answer import Change, Ground, Span, Values, WhyNot
from driver.allocation.why_not.changes import Changes
from driver.allocation.why_not.falsehood import shortened
from driver.allocation.why_not.hints import Hints, Tally
from driver.allocation.why_not.obstacles import Obstacle, plain
from driver.allocation.why_not.oracle import oracle_of
from driver.allocation.why_not.reasons import is_passing
from driver.allocation.why_not.survey import Survey
from driver.cel.environments import DEFAULT_RELEASE
from driver.errors import AllocationError
from driver.quantities import Quantity

MAX_GROUNDS = 64
_MAX_VALUES = 5
_MAX_COUNTED = 64
_MAX_TEXT = 200
_FEW = NoDeviceError.reason


def why_not(
    state: Snapshot | Cluster,
    *,
    claims: Sequence[JSON],
    nodes: Iterable[str] | None = None,
    release: str = DEFAULT_RELEASE,
    features: Features | None = None,
) -> WhyNot:
    """Say why a pod's claims get nothing, and what would help.

    Args:
        state: The state of the cluster. With a `Cluster` more is tried, and no node is left out.
        claims: The pod's ResourceClaims (v1) that are not allocated yet, in the pod's order.
        nodes: Names of the nodes that the pod may use; all that are known if not given.
        release: Kubernetes release whose rules apply.
        features: What is switched on in the cluster; as in a stock cluster if not given, and for a `Cluster`,
            which answers for stock clusters only.
    """
    snapshot = state.snapshot if isinstance(state, Cluster) else state
    names = sorted(set(node_names(snapshot) if nodes is None else nodes))
    profile = Profile.of(release, None if isinstance(state, Cluster) else features)
    prepared = prepare(claims, classes=snapshot.classes, profile=profile)
    error = foregone(prepared) or next(
        (one.first_problem for one in prepared.claims if one.first_problem is not None), None
    )
    if error is not None:
        return WhyNot(
            reason=error.reason,
            message=error.message,
            field=error.field,
            remedy=error.remedy,
            retriable=error.retriable,
            nodes=len(names),
        )
    parsed = prepared.claims
    if not names:
        return WhyNot(
            reason="NoDevice",
            message="there is no node to allocate from",
            remedy="Wait for nodes, or for their drivers to publish ResourceSlices.",
            retriable=True,
        )
    oracle = oracle_of(state, claims, names, everywhere=nodes is None, profile=profile)
    fitting = oracle.feasible()
    if fitting:
        return _fits(fitting, len(names), skipped=0)
    survey = Survey(snapshot, parsed, profile, oracle.decide)
    for name in names:
        survey.visit(name)
    if survey.fitting:
        return _fits(survey.fitting, len(names), skipped=survey.skipped)

    def look(changed: Sequence[JSON], node: str) -> tuple[Sequence[Claim], Survey]:
        read = prepare(changed, classes=snapshot.classes, profile=profile).claims
        one = Survey(snapshot, read, profile, lambda name: oracle.on(name, changed))
        one.visit(node)
        return read, one

    changes = Changes(oracle, claims, parsed, survey, look).found()
    return _refused(survey, parsed, len(names), changes=changes)


def _fits(fitting: Sequence[str], nodes: int, *, skipped: int) -> WhyNot:
    left_out = f" ({skipped:,} more were not searched)" if skipped else ""
    can = f"{len(fitting):,} of {_nodes(nodes)} can take the claims"
    return WhyNot(
        reason="",
        message=f"{can}{left_out}, for example {fitting[0]}",
        nodes=nodes,
        fits=len(fitting),
        example=fitting[0],
        skipped=skipped,
    )


def _refused(survey: Survey, claims: Sequence[Claim], nodes: int, *, changes: tuple[Change, ...]) -> WhyNot:
    grounds = _grounds(survey, claims)
    whole = sorted(survey.refused.items(), key=lambda one: -one[1].nodes)
    reasons = {key[0] for key, _ in whole}
    if sum(tally.nodes for _, tally in whole) < nodes - survey.skipped:
        reasons.add("NoDevice")
    reason = reasons.pop() if len(reasons) == 1 else AllocationError.reason
    message = f"0 of {_nodes(nodes)} can take the claims"
    if survey.skipped:
        message += f" ({survey.skipped:,} were not searched, as these claims are hard to allocate)"
    where = remedy = ""
    if whole:
        (first, text, path, advice), tally = whole[0]
        if tally.nodes == nodes or first not in {"NoDevice", "NoCombination"}:
            message += f": {text}" if text else ""
            where, remedy = path, advice
    return WhyNot(
        reason=reason,
        message=message,
        field=where,
        remedy=remedy,
        retriable=any(one.passing for one in grounds) or bool(survey.skipped),
        nodes=nodes,
        skipped=survey.skipped,
        grounds=grounds,
        changes=changes,
    )


@dataclass(slots=True)
class _Merged:
    """Obstacles that read the same."""

    reason: str
    text: str
    request: str
    tally: Tally
    values: dict[str, Counter[str]] = field(default_factory=dict)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)
    sizes: list[Quantity] = field(default_factory=list)
    free: list[Quantity] = field(default_factory=list)

    def add(self, obstacle: Obstacle, cards: int, free: Sequence[int]) -> None:
        for seen in obstacle.seen:
            counted = self.values.setdefault(seen.name, Counter())
            if seen.value in counted or len(counted) < _MAX_COUNTED:
                counted[seen.value] += cards
            if seen.number is None:
                self.texts.add(seen.name)
            else:
                self.numbers.setdefault(seen.name, []).append(seen.number)
        if obstacle.size is not None:
            self.sizes.append(obstacle.size)
            form = obstacle.size.form
            self.free += [Quantity(one, form) for one in free]

    def ground(self) -> Ground:
        return Ground(
            reason=self.reason,
            text=_text(self.text, self.tally),
            request=self.request,
            cards=self.tally.cards,
            nodes=self.tally.nodes,
            node=self.tally.node,
            device=self.tally.device,
            message=self.tally.message,
            values=tuple(self._values(name, counted) for name, counted in self.values.items()),
            free=_span(self.free),
            size=_span(self.sizes),
            passing=is_passing(self.reason),
        )

    def _values(self, name: str, counted: Counter[str]) -> Values:
        common = sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:_MAX_VALUES]
        numbers = self.numbers.get(name)
        span = None
        if numbers and name not in self.texts:
            span = Span(Quantity.whole(min(numbers) // 10**9), Quantity.whole(max(numbers) // 10**9))
        return Values(
            name=name,
            values=tuple(value for value, _ in common),
            others=len(counted) - len(common),
            span=span,
        )


def _grounds(survey: Survey, claims: Sequence[Claim]) -> tuple[Ground, ...]:
    merged: dict[tuple[int, Option | None, str, str], _Merged] = {}
    for key, tally in survey.tallies.items():
        claim, option, reason, text = key
        label = "" if option is None else option.label
        if label and len(claims) > 1:
            label = f"{claims[claim].name} {label}"
        merged[key] = _Merged(reason, text, label, tally)
    for (claim, option, one), cards in survey.obstacles.items():
        free = survey.free.get((claim, option, one), ())
        merged[claim, option, one.reason, one.text].add(one, cards, free)
    grounds = [one.ground() for one in merged.values()]
    grounds += [
        _few(option, hints, label=f"{claims[claim].name} {option.label}" if len(claims) > 1 else option.label)
        for (claim, option), hints in survey.hints.items()
        if option.count > 1 and hints.fitting is not None and hints.fitting[1]
    ]
    grounds += [
        Ground(
            reason=reason,
            text=_text(text, tally),
            cards=tally.cards,
            nodes=tally.nodes,
            node=tally.node,
            device=tally.device,
            message=tally.message,
            passing=is_passing(reason),
        )
        for (reason, text), tally in survey.notes.items()
    ]
    # How many are missing comes first: it is what the reasons against single cards are about.
    grounds.sort(key=lambda one: (one.reason != _FEW, -one.cards, -one.nodes, one.reason, one.text))
    return tuple(grounds[:MAX_GROUNDS])


def _text(text: str, tally: Tally) -> str:
    """Give what cards have in common; where it is the allocator's sentence, one with all its words."""
    if text != plain(tally.message):
        return text
    whole = shortened(tally.message, _MAX_TEXT)
    return f"for example, {whole}" if tally.varies else whole


def _few(option: Option, hints: Hints, *, label: str) -> Ground:
    least, most = hints.fitting or (0, 0)
    have = str(most) if least == most else f"{least} to {most}"
    return Ground(
        reason=_FEW,
        text=f"{option.count} cards are wanted of one node, and {have} would do",
        request=label,
        nodes=hints.few.nodes,
        node=hints.few.node,
    )


def _span(amounts: Sequence[Quantity]) -> Span | None:
    return Span(min(amounts), max(amounts)) if amounts else None


def _nodes(count: int) -> str:
    return f"{count:,} node" if count == 1 else f"{count:,} nodes"
