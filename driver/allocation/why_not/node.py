"""One node, card by card.

Purpose: for whoever wants to see each card: the first reason that rules it out, with what was asked and seen.

Flow: `why_not_on` looks at a node as `why_not` does, and keeps each card's own words.

Limits: all cards of the node's pools are listed; those that would serve the request to blame have no reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.allocation.claims import prepare
from driver.allocation.cluster import Cluster
from driver.allocation.decision import DeviceRefusal
from driver.allocation.models import JSON, Device, DeviceID
from driver.allocation.profile import Features, Profile
from driver.allocation.snapshot import Snapshot
from driver.allocation.why_not.judge import Seat, Short
from driver.allocation.why_not.obstacles import Obstacle
from driver.allocation.why_not.oracle import oracle_of
from driver.allocation.why_not.reasons import is_passing
from driver.allocation.why_not.survey import Outcome, Survey
from driver.cel.environments import DEFAULT_RELEASE
from driver.quantities import Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class CardAnswer:
    """What rules out one card.

    Attributes:
        driver: Its driver.
        pool: Its pool.
        device: Its name.
        request: The request to blame, "" if it is not about one.
        reason: Stable CamelCase word; "" if nothing rules it out.
        text: What was asked and found.
        passing: Whether it can go away while the claim stays as it is.
    """

    driver: str
    pool: str
    device: str
    request: str = ""
    reason: str = ""
    text: str = ""
    passing: bool = False

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "driver": self.driver,
            "pool": self.pool,
            "device": self.device,
            "request": self.request,
            "reason": self.reason,
            "text": self.text,
            "passing": self.passing,
        }


def why_not_on(
    state: Snapshot | Cluster,
    *,
    node: str,
    claims: Sequence[JSON],
    release: str = DEFAULT_RELEASE,
    features: Features | None = None,
) -> tuple[CardAnswer, ...]:
    """Say of each card of a node what rules it out; the arguments are those of `why_not`.

    Where the claims fit, or are refused before any card is looked at, no card has a reason.
    """
    snapshot = state.snapshot if isinstance(state, Cluster) else state
    profile = Profile.of(release, None if isinstance(state, Cluster) else features)
    prepared = prepare(claims, classes=snapshot.classes, profile=profile)
    oracle = oracle_of(state, claims, [node], everywhere=False, profile=profile)
    survey = Survey(snapshot, prepared.claims, profile, oracle.decide)
    seat = survey.seat(node)
    told: Mapping[DeviceID, CardAnswer] = {}
    if all(one.first_problem is None for one in prepared.claims):
        outcome = survey.outcome(seat)
        if outcome is not None and not outcome.fits:
            told = _told(seat, outcome)
    answers = []
    for pool in seat.pools:
        problem = "PoolIncomplete" if pool.incomplete else "PoolInvalid" if pool.invalid else ""
        for device in pool.devices:
            if problem:
                text = pool.invalid or "slices of its pool are missing"
                answers.append(_answer(device.id, "", problem, text))
            else:
                answers.append(told.get(device.id) or _answer(device.id, "", "", ""))
    return tuple(answers)


def _told(seat: Seat, outcome: Outcome) -> Mapping[DeviceID, CardAnswer]:
    if outcome.blamed is not None:
        label = outcome.blamed[1].label
        return {
            device.id: _of_verdict(device, label, one)
            for device, one in zip(seat.devices, outcome.verdicts, strict=True)
            if one is not None
        }
    if outcome.refusal is None:
        return {}
    request = outcome.refusal.request
    return {_id(one): _answer(_id(one), request, one.reason, one.message) for one in outcome.refusal.devices}


def _of_verdict(device: Device, label: str, verdict: Obstacle | Short) -> CardAnswer:
    if isinstance(verdict, Short):
        found, form = verdict.obstacle, device.capacity[verdict.obstacle.capacity].value.form
        size = device.capacity[found.capacity].value
        text = f"{found.text}, free {Quantity(verdict.free, form).canonical()} of {size.canonical()}"
        return _answer(device.id, label, found.reason, text)
    if verdict.size is not None:
        has = "a request may have" if verdict.reason == "CapacityRequestTooLarge" else "the card has"
        return _answer(device.id, label, verdict.reason, f"{verdict.text}, {has} {verdict.size.canonical()}")
    seen = ", ".join(f"{one.name} is {one.value}" for one in verdict.seen)
    text = verdict.text if verdict.seen or "…" not in verdict.text else verdict.message
    return _answer(device.id, label, verdict.reason, f"{text} ({seen})" if seen else text)


def _answer(one: DeviceID, label: str, reason: str, text: str) -> CardAnswer:
    return CardAnswer(
        driver=one.driver,
        pool=one.pool,
        device=one.device,
        request=label,
        reason=reason,
        text=text,
        passing=is_passing(reason),
    )


def _id(one: DeviceRefusal) -> DeviceID:
    return DeviceID(one.driver, one.pool, one.device)
