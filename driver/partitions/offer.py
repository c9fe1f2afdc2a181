"""Which of a node's cards and partitions are offered, under the policy.

Flow: what the vendors found -> which of the partitions that are there were made for claims -> `offered`, card
by card.

* `None`: cards as they are; partitions that are there stay known, so that claims which hold them can be
  undone and restored, and are not offered.
* `Static`: partitions that are there are offered. Those that were made for claims under an earlier policy are
  not: they go with their claims.
* `Dynamic`: every partition that could be made is offered, and the card as a whole, with counters, so that
  they exclude each other. An instance that somebody else made stays where it is, is offered as in `Static`,
  and keeps away the card as a whole and whatever needs the same slots.

Partitions that come and go with their card's mode (`Place.of_mode`) are nobody's: `Static` offers those of
the mode that the card is in, `Dynamic` those of all modes, and the card.

Order: after the card its partitions, the smallest first, since the scheduler takes the first that fits; of
one profile those with the highest slots first, since large profiles can stand at the lowest only.

Limits: pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from driver.api.policy import EffectivePolicy, Partitions
from driver.cards import Card, Partition
from driver.partitions.base import IN_PARTITION_MODE
from driver.places import card_of, exclude, place_of

_OF_OTHER_POLICY = "It was made for a claim under another policy and goes with it."
_NOT_OFFERED = "The policy does not give out partitions."
_OCCUPIED = "Partitions of the card are there that were not made for claims."


def offered(
    cards: Sequence[Card], *, policy: EffectivePolicy, ours: Collection[str] = ()
) -> tuple[Card, ...]:
    """Cards and partitions in the order in which they are to be published.

    Args:
        cards: What the vendors found, shaped by the policy otherwise; partitions anywhere.
        policy: What holds on the node.
        ours: Device names of the partitions that were made for claims.
    """
    parts: defaultdict[str, list[_Part]] = defaultdict(list)
    whole: list[Card] = []
    for card in cards:
        if card.partition is None:
            whole.append(card)
            continue
        marked = replace(card.partition, ours=card.name in ours and not _of_mode(card))
        parts[card_of(card.name)].append(_Part(replace(card, partition=marked), marked))
    found: list[Card] = []
    for card in whole:
        found += _of_card(card, sorted(parts.pop(card.name, []), key=_order), policy=policy)
    # Those whose card does not answer at the moment.
    found += [part.device for lost in parts.values() for part in lost]
    return tuple(found)


class _Part(NamedTuple):
    device: Card
    what: Partition


def _of_card(card: Card, parts: Sequence[_Part], *, policy: EffectivePolicy) -> list[Card]:
    mode = policy.value("partitions", uuid=card.uuid)
    if mode == Partitions.DYNAMIC and card.counters:
        return _dynamic(card, parts)
    reason = _NOT_OFFERED if mode == Partitions.NONE else ""
    return [
        replace(card, counters={}),
        # Also one of ours that is gone: its claim needs it made again.
        *(_static(part, reason=reason) for part in parts if part.what.exists or part.what.ours),
    ]


def _static(part: _Part, *, reason: str) -> Card:
    if part.what.ours:
        reason = reason or _OF_OTHER_POLICY
    return replace(part.device, counters={}, unpublished=part.device.unpublished or reason)


def _dynamic(card: Card, parts: Sequence[_Part]) -> list[Card]:
    foreign = [one.device for one in parts if not (one.device.is_promise or _of_mode(one.device))]
    # One that was made for a claim by half is completed when the claim is prepared.
    promised = [_usable(one) for one in parts if one.device.is_promise or _of_mode(one.device)]
    free = [one for one in promised if not any(exclude(one.name, other.name) for other in foreign)]
    if foreign:
        card = replace(card, unpublished=card.unpublished or _OCCUPIED)
    elif card.unpublished == IN_PARTITION_MODE:
        # It is taken out of the mode when it is given out as a whole.
        card = replace(card, unpublished="")
    kept = {one.name for one in (*foreign, *free)}
    usable = {one.name: one for one in promised}
    there = [usable.get(part.device.name, part.device) for part in parts]
    return [card, *(one for one in there if one.name in kept)]


def _usable(part: _Part) -> Card:
    """The same whether or not a claim has it made at the moment: what is told of the node stays as it is."""
    promise = replace(part.what, exists=False, ours=False)
    unpublished = "" if part.what.ours else part.device.unpublished
    return replace(part.device, unpublished=unpublished, partition=promise)


def _of_mode(device: Card) -> bool:
    place = place_of(device.name)
    return place is not None and place.of_mode


def _order(part: _Part) -> tuple[int, str, int]:
    place = place_of(part.device.name)
    return part.device.memory_bytes, part.what.profile, -place.start if place else 0
