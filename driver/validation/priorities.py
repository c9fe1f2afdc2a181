"""Whether what a claim says about priority can have any effect.

Purpose: priority acts where the preload library holds limits, between shares of a card, and high priority
only where an administrator allows it. Who states it where it cannot act is told when the claim is made, and
not when a neighbour takes the card's time.

Rules: all of this is warned of and nothing refused: a share without its priority works like all others.

Limits: what a class says is not looked at: its shares may be any. Which node's policy will count is not known
here, so as long as one policy allows high priority somewhere nothing is said of that; nor are amounts that a
class or an administrator adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from driver.api.policy import NamedPolicy
from driver.api.share_config import CorePolicy, Priority
from driver.cards import CORES_PER_CARD, DRIVER_NAME, IsolationLevel
from driver.quantities import Quantity
from driver.validation.configs import Said
from driver.validation.findings import Notes
from driver.validation.itself import Asked

HELD_BY_PRELOAD = " || ".join(
    f'device.attributes["{DRIVER_NAME}"].{name} == "{IsolationLevel.PRELOAD}"'
    for name in ("coresIsolation", "memoryIsolation")
)
"""Holds for cards on which priority can act at all."""

NOT_ALLOWED = "Priority high counts as low: no AcceleratorPolicy sets allowHighPriority."

NOT_HELD = (
    "No effect: on none of the cards that request {request} picks limits are held by the method preload, "
    "which alone knows priorities."
)


def check_priorities(
    asked: Asked,
    amounts: Mapping[str, Mapping[str, Quantity]],
    *,
    policies: Iterable[NamedPolicy],
    notes: Notes,
) -> None:
    """Warns of priorities without an effect.

    Args:
        asked: The claim.
        amounts: What each request asks for, by label.
        policies: The AcceleratorPolicies.
        notes: Where to note it.
    """
    stated = [one for one in asked.configs if one.config.priority is not None]
    if not stated:
        return
    allowed = any(map(_allows, policies))
    for one in stated:
        if one.config.priority is Priority.HIGH and not allowed:
            notes.warn(NOT_ALLOWED, field=f"{one.field}.priority")
    for option in asked.options:
        said = said_of(option.label, stated)
        if said is not None:
            why = _without_effect(said, amounts[option.label])
            if why and not option.admin:
                notes.warn(f"No effect on request {option.label}: {why}", field=f"{said.field}.priority")


def said_of(label: str, configs: Iterable[Said]) -> Said | None:
    """The entry that states the priority of a request, `name` or `name/sub`."""
    return next((one for one in configs if one.config.priority is not None and one.means(label)), None)


def _allows(policy: NamedPolicy) -> bool:
    return any(one.allow_high_priority for one in (policy.spec, *policy.spec.cards))


def _without_effect(said: Said, amounts: Mapping[str, Quantity]) -> str:
    memory, cores = amounts.get("memory"), amounts.get("cores")
    if memory is None and (cores is None or cores.rounded_up in (0, CORES_PER_CARD)):
        return "it asks for whole cards, which nobody shares."
    if said.config.priority is Priority.HIGH:
        return ""
    if cores is None or not 0 < cores.rounded_up < CORES_PER_CARD:
        return "a share waits only where it has a cap on compute, so ask for cores."
    if said.config.core_policy is CorePolicy.DISABLE:
        return "a share waits only where its cap on compute holds, which corePolicy: disable prevents."
    return ""
