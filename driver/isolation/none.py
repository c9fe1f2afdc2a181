"""The method that holds nothing.

Purpose: a policy that names `none`, or a share that fails open, is a decision of a person; this module is
what such a decision leads to, so that nobody needs a special case for it.
"""

from __future__ import annotations

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.shares import Share


class NoIsolation:
    """Always available, never in force."""

    level = IsolationLevel.NONE

    def available(self, *, card: Card, host: Host) -> Availability:  # noqa: ARG002 - the verb's signature
        """Doing nothing is possible everywhere."""
        return Availability(memory=True, cores=True)

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:  # noqa: ARG002
        """No edits."""
        return ContainerEdits()

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:  # noqa: ARG002
        """Nothing holds the limits, and this says so."""
        return InForce(holds=False, message="No method holds the limits of this share.")

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:
        """Nothing was made."""

    def claims(self, *, host: Host) -> frozenset[str]:  # noqa: ARG002
        """Nothing was made for anybody."""
        return frozenset()

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        """Nothing was made."""
