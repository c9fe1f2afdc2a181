"""What rules out a card or a node: every word with its meaning.

Purpose: the one list for docs, and for whoever asks whether waiting can help.

Flow: the allocator gives the words (`DeviceRefusal.reason`); those of whole nodes are given by the survey. A
test holds this list against both.

Limits: why a claim is refused as a whole is an error class with a reason of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a word stands for.

    Attributes:
        text: A sentence.
        passing: Whether it can go away while the claim stays as it is.
        released: Whether it goes away when others release what they hold.
    """

    text: str
    passing: bool = False
    released: bool = False


CARD_REASONS: Mapping[str, Meaning] = {
    "CapacityInUse": Meaning(
        "Others hold so much of a capacity that too little is free.", passing=True, released=True
    ),
    "CapacityRequestTooLarge": Meaning("More is asked than one request may have of this card."),
    "CapacityTooSmall": Meaning("More is asked than the card has."),
    "CapacityUnknown": Meaning("A capacity is asked for that the card does not have under this name."),
    "ConstraintUnmet": Meaning(
        "The card does not go with the claim's other cards, as a constraint wants it."
    ),
    "CountersExhausted": Meaning(
        "The counters that the card shares with others of its pool are used up.", passing=True, released=True
    ),
    "FeatureDisabled": Meaning("The card needs a feature that is off in the cluster."),
    "InUse": Meaning("Somebody holds the card as a whole.", passing=True, released=True),
    "NoSlice": Meaning("No ResourceSlice is for the node.", passing=True),
    "NotSupported": Meaning("The card is published with a field that is not supported yet."),
    "OtherNode": Meaning("The card is for another node."),
    "PoolIncomplete": Meaning(
        "Slices of the card's pool are missing; its driver is publishing.", passing=True
    ),
    "PoolInvalid": Meaning("The slices of the card's pool contradict each other."),
    "PoolObsolete": Meaning("Newer slices of the pool are there, but none for this node.", passing=True),
    "SelectorFalse": Meaning("A selector of the class or of the request is false for the card."),
    "TakenByPod": Meaning("Another request of the same pod has the card.", passing=True),
    "Tainted": Meaning("The card has a taint that the request does not tolerate.", passing=True),
}


def is_passing(reason: str) -> bool:
    """Whether a reason can go away while the claim stays as it is."""
    found = CARD_REASONS.get(reason)
    return found is not None and found.passing


def is_released(reason: str) -> bool:
    """Whether a reason goes away when others release what they hold."""
    found = CARD_REASONS.get(reason)
    return found is not None and found.released
