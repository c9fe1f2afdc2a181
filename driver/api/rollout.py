"""How a change of AcceleratorPolicies goes from node to node: `maxUnavailable`, and the words of both sides.

Purpose: where a policy has `maxUnavailable`, a change that shapes cards is made by so many nodes at a time.

Flow: the agent compares the policy in force on its node with the one that should be (`differences`). If that
touches a policy with `maxUnavailable` (`limiting`), it keeps the old shape (`held_back`) and says so, with a
number, in its AcceleratorNode (`PolicyChange`). The controller notes whose turn it is in the policies' status
(`PolicyTurn`), at most as many as `allowed` says. A node whose number stands in all of them takes the change
over and says that it is done; its turn ends when its cards are on offer again.

Safety: a number is never used twice by a node, and a turn counts for its number only. So whoever has no turn
cannot be changing, whoever reads late, and the turns of a policy are one list that is written with its
resourceVersion.

Limits: pure. Which agents know of turns is not told: those of before take every change over at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from driver.api.base import Document
from driver.api.policy import EffectivePolicy, NamedPolicy, Setting

SHAPING = ("allowUncapped", "excluded", "isolation", "partitions", "reservedMemory", "sharing")
"""Fields that change what a node offers: its slices are written anew. The others hold at once."""

MAX_TURNS = 256
"""So many nodes change at a time, whatever `maxUnavailable` allows: the list is one object."""

ROLLED_OUT = "RolledOut"
"""Type of the condition of an AcceleratorPolicy that says how far its change has come."""


class ChangeState(StrEnum):
    """How far a node is with a change."""

    WAITING = "Waiting"
    DONE = "Done"


class PolicyChange(Document):
    """A change of policies that waits for the node's turn, or the last one that did."""

    number: int = Field(description="Number of the change; a node uses none twice.")
    state: ChangeState = Field(description="Waiting for the node's turn, or Done.")
    policies: tuple[str, ...] = Field(default=(), description="Policies whose maxUnavailable it waits for.")
    fields: tuple[str, ...] = Field(default=(), description="Fields that change.")


class PolicyTurn(Document):
    """A node that may change now, or has changed and does not offer its cards again yet."""

    node: str
    number: int = Field(description="Number of its change, as its AcceleratorNode has it.")
    since: str = Field(description="Since when.")
    offered: int = Field(default=0, description="So many cards it offered before.")


class AcceleratorPolicyStatus(Document):
    """How far a policy with maxUnavailable has been rolled out; the controller writes it."""

    observed_generation: int = 0
    nodes: int = Field(default=0, description="Nodes with cards that the policy picks.")
    waiting: int = Field(default=0, description="Nodes that wait for their turn.")
    turns: tuple[PolicyTurn, ...] = Field(default=(), description="Nodes that change now.")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A field that changes.

    Attributes:
        field: Its name.
        card: UUID of the card that it changes for, "" for the node as a whole.
        before: What is in force.
        after: What should be.
    """

    field: str
    card: str
    before: Setting
    after: Setting


def allowed(max_unavailable: int | str, *, nodes: int) -> int:
    """How many nodes may change at a time; a percentage is rounded up, as for DaemonSets."""
    if isinstance(max_unavailable, int):
        return max_unavailable
    percent = re.fullmatch(r"(\d{1,3})%", max_unavailable)
    return -(-nodes * int(percent[1]) // 100) if percent else 0


def differences(
    before: EffectivePolicy, after: EffectivePolicy, *, cards: Collection[str]
) -> tuple[Difference, ...]:
    """What changes in the shape of a node's cards.

    Args:
        before: What is in force.
        after: What should be.
        cards: UUIDs of the node's cards; settings for others change nothing.
    """
    found = [
        Difference(field=name, card="", before=before.settings[name], after=after.settings[name])
        for name in SHAPING
        if before.settings[name].value != after.settings[name].value
    ]
    for uuid in sorted({*before.overrides, *after.overrides} & set(cards)):
        for name in SHAPING:
            old, new = (one.setting(name, uuid=uuid) for one in (before, after))
            if old.value != new.value:
                found.append(Difference(field=name, card=uuid, before=old, after=new))
    return tuple(found)


def limiting(changes: Iterable[Difference], policies: Iterable[NamedPolicy]) -> tuple[str, ...]:
    """Policies whose `maxUnavailable` a change has to keep: those that it comes from or that it leaves."""
    touched = {one.source for change in changes for one in (change.before, change.after)}
    return tuple(
        sorted(one.name for one in policies if one.spec.max_unavailable is not None and one.name in touched)
    )


def held_back(current: EffectivePolicy, target: EffectivePolicy) -> EffectivePolicy:
    """What holds until the node's turn: the shape as it is, and everything else as it should be."""
    overrides: dict[str, dict[str, Setting]] = {}
    for source, shaping in ((current, True), (target, False)):
        for uuid, fields in source.overrides.items():
            kept = {name: one for name, one in fields.items() if (name in SHAPING) is shaping}
            if kept:
                overrides.setdefault(uuid, {}).update(kept)
    return EffectivePolicy(
        settings={**target.settings, **{name: current.settings[name] for name in SHAPING}},
        isolation=current.isolation,
        overrides=overrides,
    )


def shape(policy: EffectivePolicy, *, cards: Collection[str]) -> Mapping[tuple[str, str], object]:
    """The values of the fields that shape the cards, to tell one target from another."""
    general = {(name, ""): policy.settings[name].value for name in SHAPING}
    single = {
        (name, uuid): one.value
        for uuid, fields in policy.overrides.items()
        if uuid in cards
        for name, one in fields.items()
        if name in SHAPING
    }
    return {**general, **single}
