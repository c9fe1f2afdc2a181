"""The condition `Published` on an AcceleratorNode: what became of its cards, and if nothing, why.

Limits: written by server-side apply under a field manager of its own, so that the agent's fields beside
it stay the agent's; only when it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from controller.publishing.views import PUBLISHED, Condition
from driver.kube.client import JSON
from driver.kube.resources import ACCELERATOR_NODES
from driver.slices import DroppedField

FIELD_MANAGER = "dragoman-controller"

_MAX_MESSAGE = 1024


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


def same(one: Condition | None, other: Condition) -> bool:
    """Whether a stored condition says the same already."""
    return one is not None and (one.status, one.reason, one.message) == (
        other.status,
        other.reason,
        other.message,
    )


def document(node: str, condition: Condition, *, before: Condition | None, now: datetime) -> JSON:
    """What is applied to the AcceleratorNode's status."""
    kept = before is not None and before.status == condition.status and before.since
    since = (
        before.since if before is not None and kept else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    return {
        "apiVersion": ACCELERATOR_NODES.api_version,
        "kind": ACCELERATOR_NODES.kind,
        "metadata": {"name": node},
        "status": {
            "conditions": [
                {
                    "type": PUBLISHED,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                    "lastTransitionTime": since,
                }
            ]
        },
    }


def _condition(holds: bool, reason: str, message: str) -> Condition:  # noqa: FBT001 - a condition's status
    if len(message) > _MAX_MESSAGE:
        message = f"{message[: _MAX_MESSAGE - 1]}…"
    return Condition(status=str(holds), reason=reason, message=message)
