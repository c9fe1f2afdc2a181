"""What prepare needs to know of the node's cards and of the methods that hold shares of them.

Purpose: the seam to discovery, policies, vendors and isolation, which the agent wires together elsewhere.

Limits: all but `cards` may block, and is called from threads only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from driver.api.share_config import ShareConfig
from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.isolation.choose import Chosen
from driver.shares import Share


class CardSource(Protocol):
    """The node's cards and what can be done with them."""

    def cards(self) -> Mapping[str, Card]:
        """The cards under the policy in force, by device name; from memory, at once."""

    def vendor_edits(self, card: Card) -> ContainerEdits:
        """What a container needs to reach the card at all.

        Raises:
            DeviceGoneError: The card cannot be reached (any more).
        """

    def choose(self, share: Share, *, card: Card, config: ShareConfig) -> Chosen:
        """Which methods hold the share.

        Raises:
            IsolationError: A limit cannot be put in force.
        """

    def isolation_edits(
        self,
        share: Share,
        *,
        card: Card,
        chosen: Chosen,
        index: int,
        core_policy: str,
        priority: str = "",
    ) -> ContainerEdits:
        """What a container needs so that the share's limits hold; makes what the edits refer to.

        Raises:
            IsolationError: A limit cannot be put in force.
        """

    def stands(self, card: Card, edits: ContainerEdits) -> bool:
        """Whether `isolation_edits` of before still lead to the partition that the card is; changes nothing.

        Raises:
            DragomanError: Nobody can say.
        """

    def undo(self, share: Share, *, chosen: Chosen) -> None:
        """Removes what `isolation_edits` made; no error if nothing is left."""

    def held_claims(self) -> frozenset[str]:
        """UIDs of the claims for which `isolation_edits` made something that is still there."""

    def undo_claim(self, uid: str) -> None:
        """Removes what `isolation_edits` made for a claim whose shares nobody knows."""
