"""What is wrong with an AcceleratorPolicy.

Flow: the spec is decoded as its readers decode it; then its settings are held against each other, against the
cluster's cards, and against other policies.

Rules: an error is what can have no effect that anybody means: a selector that picks no node whatever its
labels, a method that is never tried, two overrides for one card, a card whose memory is all reserved. What is
only without effect, or may get one later, is a warning.

Limits: which nodes a policy picks is not known here, so its settings are not held against the nodes' cards
but where it names a card by UUID.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec, CardOverride, CardSettings, NodeSelector
from driver.cards import IsolationLevel
from driver.errors import ConfigError, shown
from driver.quantities import format_bytes, parse_quantity
from driver.validation.errors import ObjectTooLargeError, ObjectUnreadableError, PolicyConflictError
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Notes
from driver.validation.limits import MAX_POLICY_CARDS
from driver.validation.reading import mapping, nearest

_SETTINGS = {
    "sharing": "sharing",
    "excluded": "excluded",
    "reserved_memory": "reservedMemory",
    "allow_uncapped": "allowUncapped",
    "allow_high_priority": "allowHighPriority",
    "low_priority_percent": "lowPriorityPercent",
}


def check_policy(found: Mapping[str, Any], *, facts: ClusterFacts, notes: Notes) -> None:
    """Notes what is wrong with an AcceleratorPolicy."""
    try:
        raw = mapping(found, "spec", field="")
        spec = decode(AcceleratorPolicySpec, raw, field="spec")
        _check_size(spec.cards)
    except (ConfigError, ObjectUnreadableError, ObjectTooLargeError) as refused:
        notes.refuse(refused)
        return
    for error in (*_selector(spec.node_selector), *_isolation(spec), *_twice(spec.cards)):
        notes.refuse(error)
    _without_effect(spec, field="spec", unless_excluded=_taken_back(spec), notes=notes)
    for place, card in enumerate(spec.cards):
        field = f"spec.cards[{place}]"
        _without_effect(card, field=field, unless_excluded=True, notes=notes)
        _card(card, field=field, facts=facts, notes=notes)
    _reserved(spec, facts=facts, notes=notes)
    name = str(mapping(found, "metadata", field="").get("name") or "")
    _others(name, spec, facts=facts, notes=notes)


def _check_size(cards: Sequence[CardOverride]) -> None:
    if len(cards) > MAX_POLICY_CARDS:
        raise ObjectTooLargeError(
            f"{len(cards)} overrides are more than the {MAX_POLICY_CARDS} that one policy can have.",
            field="spec.cards",
            remedy="Divide the policy by nodes.",
        )


def _selector(selector: NodeSelector) -> Iterable[PolicyConflictError]:
    """What is wrong with a label selector, by the rules of `metav1.LabelSelector`."""
    field = "spec.nodeSelector"
    equal: dict[str, set[str]] = {key: {value} for key, value in selector.match_labels.items()}
    absent: set[str] = set()
    present: set[str] = set()
    for place, one in enumerate(selector.match_expressions):
        where = f"{field}.matchExpressions[{place}]"
        listed = one.operator in ("In", "NotIn")
        if listed != bool(one.values):
            yield PolicyConflictError(
                f"Operator {one.operator} {'needs' if listed else 'takes no'} values.",
                field=f"{where}.values",
            )
        elif one.operator == "In":
            equal[one.key] = equal.get(one.key, set(one.values)) & set(one.values)
        elif one.operator == "Exists":
            present.add(one.key)
        elif one.operator == "DoesNotExist":
            absent.add(one.key)
    for one in selector.match_expressions:
        if one.operator == "NotIn" and one.key in equal:
            equal[one.key] -= set(one.values)
    for key in sorted(
        {key for key, values in equal.items() if not values} | (absent & (present | set(equal)))
    ):
        yield PolicyConflictError(
            f"What is asked of the label {shown(key)} holds for no node, whatever its labels.",
            field=field,
            remedy="Leave out one of the requirements that contradict each other.",
        )


def _isolation(spec: AcceleratorPolicySpec) -> Iterable[PolicyConflictError]:
    levels = spec.isolation
    if levels is None:
        return
    if not levels and spec.sharing is not False:
        yield PolicyConflictError(
            "Without any method no limit could be put in force, and every share would be refused.",
            field="spec.isolation",
            remedy="Name the methods to try, or set sharing: false.",
        )
    for place, level in enumerate(levels):
        if level in levels[:place]:
            yield PolicyConflictError(f"{level} stands here twice.", field=f"spec.isolation[{place}]")
        elif IsolationLevel.NONE in levels[:place]:
            yield PolicyConflictError(
                f"{level} is never tried, since none stands before it and is always there.",
                field=f"spec.isolation[{place}]",
                remedy="Write none last.",
            )


def _twice(cards: Sequence[CardOverride]) -> Iterable[PolicyConflictError]:
    first: dict[str, int] = {}
    for place, card in enumerate(cards):
        before = first.setdefault(card.uuid, place)
        if before != place:
            yield PolicyConflictError(
                f"Card {shown(card.uuid)} has an override in spec.cards[{before}] already.",
                field=f"spec.cards[{place}].uuid",
                remedy="Write one override for each card.",
            )


def _taken_back(spec: AcceleratorPolicySpec) -> bool:
    """Whether `excluded` of the policy holds for all its cards."""
    return not any(card.excluded is False for card in spec.cards)


def _without_effect(settings: CardSettings, *, field: str, unless_excluded: bool, notes: Notes) -> None:
    if settings.excluded and unless_excluded:
        others = [
            alias
            for name, alias in _SETTINGS.items()
            if name != "excluded" and getattr(settings, name) is not None
        ]
        if others:
            notes.warn(f"No effect on cards that are excluded: {', '.join(others)}.", field=field)
    elif settings.sharing is False and settings.allow_uncapped is False:
        notes.warn(
            "No effect with sharing: false, since whole cards are never capped.",
            field=f"{field}.allowUncapped",
        )
    if settings.sharing is False and settings.allow_high_priority and not settings.excluded:
        notes.warn(
            "No effect with sharing: false, since whole cards have nobody to go before.",
            field=f"{field}.allowHighPriority",
        )


def _card(card: CardOverride, *, field: str, facts: ClusterFacts, notes: Notes) -> None:
    known = facts.cards.uuids
    if not known:
        return
    memory = known.get(card.uuid)
    if memory is None and notes.full:
        return
    if memory is None:
        near = nearest(card.uuid, known, cutoff=0.8) if len(known) <= MAX_POLICY_CARDS else ""
        notes.warn(f"No card of this cluster has this UUID. {near}".strip(), field=f"{field}.uuid")
        return
    if card.reserved_memory is not None and parse_quantity(card.reserved_memory).rounded_up >= memory > 0:
        notes.refuse(
            PolicyConflictError(
                f"{card.reserved_memory} is all that the card has to give, which is {format_bytes(memory)}.",
                field=f"{field}.reservedMemory",
                remedy="Reserve less, or set excluded: true.",
            )
        )


def _reserved(spec: AcceleratorPolicySpec, *, facts: ClusterFacts, notes: Notes) -> None:
    """Warns of a reserve that leaves nothing of any card there is."""
    known = facts.cards.uuids.values()
    if spec.reserved_memory is None or not known or not all(known):
        return
    largest = max(known)
    if parse_quantity(spec.reserved_memory).rounded_up >= largest:
        notes.warn(
            f"Nothing is left of any card of this cluster: the largest has {format_bytes(largest)}.",
            field="spec.reservedMemory",
        )


def _others(name: str, spec: AcceleratorPolicySpec, *, facts: ClusterFacts, notes: Notes) -> None:
    """Warns where the name of policies decides which one wins."""
    for other in facts.policies:
        if other.name == name or other.spec.priority != spec.priority:
            continue
        if other.spec.node_selector != spec.node_selector:
            continue
        for field, alias in {**_SETTINGS, "isolation": "isolation"}.items():
            ours, theirs = getattr(spec, field), getattr(other.spec, field)
            if ours is not None and theirs is not None and ours != theirs:
                winner = min(name, other.name)
                notes.warn(
                    f"AcceleratorPolicy {other.name} says something else for the same nodes with the same "
                    f"priority; {winner} wins by its name.",
                    field=f"spec.{alias}",
                )
