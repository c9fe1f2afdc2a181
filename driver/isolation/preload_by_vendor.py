"""The method `preload` of a node: each vendor's cards by the library that is made for them.

Flow: a card's vendor -> its method; where there is none, HAMi-core's answer, which says so. What they make
lies in one tree, so that undoing needs no vendor, and works for a card that is gone by now.
"""

from __future__ import annotations

from collections.abc import Mapping

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.preload import Preload, PreloadSettings
from driver.isolation.preload_one_card import SHARED, OneCardPreload
from driver.shares import Share


class PreloadByVendor(Preload):
    """HAMi-core and its kin as one isolation method.

    Args:
        settings: Of HAMi-core.
        kin: The other vendors' methods, by vendor; they keep their files where HAMi-core does.
    """

    def __init__(self, settings: PreloadSettings, *, kin: Mapping[str, OneCardPreload]) -> None:
        super().__init__(settings)
        self._kin = kin

    def available(self, *, card: Card, host: Host) -> Availability:
        """Whether the card's library is there."""
        kin = self._kin.get(card.vendor)
        return super().available(card=card, host=host) if kin is None else kin.available(card=card, host=host)

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        """What the card's library needs.

        Raises:
            IsolationError: The limit cannot be put in force.
        """
        kin = self._kin.get(context.card.vendor)
        if kin is None:
            return super().edits(share, context=context, host=host)
        return kin.edits(share, context=context, host=host)

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        """Whether the card's library holds the limits."""
        kin = self._kin.get(context.card.vendor)
        if kin is None:
            return super().in_force(share, context=context, host=host, pid=pid)
        return kin.in_force(share, context=context, host=host, pid=pid)

    def claims(self, *, host: Host) -> frozenset[str]:
        """UIDs of the claims that have a region."""
        return super().claims(host=host) - {SHARED}
