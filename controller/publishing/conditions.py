"""The conditions that the controller writes on an AcceleratorNode.

`Published`: what became of the node's cards, and if nothing, why. `HandedOver`: who allocates them, and while
that changes, what is waited for; not there while the node has no slices.

Limits: written by server-side apply under a field manager of its own, so that the agent's fields beside
them stay the agent's; only when one changes, so no message counts seconds. Every reader of AcceleratorNodes
sees them: they name no pods and no claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from controller.handover import Rest
from controller.publishing.views import Condition
from driver.kube.client import JSON
from driver.kube.resources import ACCELERATOR_NODES
from driver.slices import DroppedField, ExistingSlice

FIELD_MANAGER = "dragoman-controller"

_MAX_MESSAGE = 1024


class Withheld(NamedTuple):
    """Cards that are kept from kube-scheduler because claims hold them without a shareID.

    Attributes:
        cards: How many there are.
        unshared: How many of them kube-scheduler itself gave out so.
    """

    cards: int = 0
    unshared: int = 0


NOTHING_WITHHELD = Withheld()


def waiting(withheld: Withheld) -> tuple[str, ...]:
    """What the condition `Published` says about such cards."""
    if not withheld.cards:
        return ()
    text = (
        f"{_cards(withheld.cards, 'waits', 'wait')} until the claims are gone that hold them without a "
        "shareID: kube-scheduler would count wrongly."
    )
    return (text,)


def published(*, cards: int, offered: int, slices: int, problems: Sequence[str]) -> Condition:
    """The condition of a node whose slices are as wanted."""
    if offered == 0:
        text = "No card is offered." if cards else "The node has no cards."
        return _condition(False, "NothingOffered", " ".join((text, *problems)))
    text = f"{offered} of {cards} cards are published in {slices} {'slice' if slices == 1 else 'slices'}."
    return _condition(True, "Published", " ".join((text, *problems)))


def with_dropped_fields(dropped: Sequence[DroppedField]) -> Condition:
    """The condition of a node whose slices lost fields that nobody's limits depend on."""
    names = ", ".join(str(field) for field in dropped[:3])
    return _condition(True, "FieldsDropped", f"Published without {names}.")


def not_published(reason: str, message: str) -> Condition:
    """The condition of a node without (new) slices."""
    return _condition(False, reason, message)


def handed_over(
    existing: Sequence[ExistingSlice], *, fenced: bool, rest: Rest | None, withheld: Withheld
) -> Condition | None:
    """Who allocates the cards of a node.

    Args:
        existing: The node's slices.
        fenced: Whether our own allocator is to do so, and not kube-scheduler.
        rest: What is waited for before our allocator does.
        withheld: Cards that are kept from kube-scheduler for the time being.
    """
    if not existing and not withheld.cards:
        return None
    before = "kube-scheduler" if fenced else "The controller alone"
    # Fenced slices name no node.
    if any(bool(one.node_name) == fenced for one in existing):
        text = f"The slices have not been replaced yet (see Published). {before} may allocate from them."
        return _condition(False, "SlicesNotReplaced", text)
    if rest is not None:
        return _condition(False, "KubeSchedulerMayBind", _resting(rest))
    if withheld.unshared:
        text = (
            f"kube-scheduler gave out {_cards(withheld.unshared)} without a shareID, as if they could not be "
            "shared: it is older than 1.36, or its feature gate DRAConsumableCapacity is off. Agents refuse "
            "such claims. Set mode controller until kube-scheduler is upgraded, and make the pods anew."
        )
        return _condition(False, "SharesNotKnown", text)
    if withheld.cards:
        text = (
            f"kube-scheduler allocates. {_cards(withheld.cards)} will follow when the claims are gone that "
            "hold them without a shareID."
        )
        return _condition(False, "ClaimsWithoutShareID", text)
    who = "The controller allocates." if fenced else "kube-scheduler allocates."
    return _condition(True, "ToController" if fenced else "ToKubeScheduler", who)


def _resting(rest: Rest) -> str:
    until = rest.until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if not rest.pods:
        return (
            "kube-scheduler lost the cards from sight a moment ago and may still write what it has decided "
            f"on. The controller allocates from {until} on."
        )
    pods = "1 pod" if rest.pods == 1 else f"{rest.pods} pods"
    return (
        f"kube-scheduler has chosen the node for {pods} and may still give out cards. The controller "
        f"allocates when that has come to an end, from {until} on at the latest."
    )


def same(one: Condition | None, other: Condition | None) -> bool:
    """Whether a stored condition says the same already."""
    if one is None or other is None:
        return one is other
    return (one.status, one.reason, one.message) == (other.status, other.reason, other.message)


def document(
    node: str,
    wanted: Mapping[str, Condition | None],
    *,
    before: Mapping[str, Condition | None],
    now: datetime,
) -> JSON:
    """What is applied to the AcceleratorNode's status: conditions by type; what is None goes."""
    return {
        "apiVersion": ACCELERATOR_NODES.api_version,
        "kind": ACCELERATOR_NODES.kind,
        "metadata": {"name": node},
        "status": {
            "conditions": [
                {
                    "type": kind,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                    "lastTransitionTime": _since(condition, before.get(kind), now=now),
                }
                for kind, condition in wanted.items()
                if condition is not None
            ]
        },
    }


def _since(condition: Condition, before: Condition | None, *, now: datetime) -> str:
    if before is not None and before.status == condition.status and before.since:
        return before.since
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cards(count: int, one: str = "", more: str = "") -> str:
    return f"{count} {'card' if count == 1 else 'cards'} {one if count == 1 else more}".rstrip()


def _condition(holds: bool, reason: str, message: str) -> Condition:  # noqa: FBT001 - a condition's status
    if len(message) > _MAX_MESSAGE:
        message = f"{message[: _MAX_MESSAGE - 1]}…"
    return Condition(status=str(holds), reason=reason, message=message)
