"""What was decided about a pod, for whoever tells it."""

from __future__ import annotations

from dataclasses import dataclass

from driver.allocation import Decision
from driver.errors import DragomanError
from driver.kube.client import JSON


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was decided about a pod.

    Attributes:
        pod: `namespace/name`.
        claims: The claims that were asked about, with their amounts.
        decision: The decision; None if it did not come to one.
        error: Why not.
    """

    pod: str
    claims: tuple[JSON, ...] = ()
    decision: Decision | None = None
    error: DragomanError | None = None
