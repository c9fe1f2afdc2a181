"""The method `preload` of a node: each vendor's cards by the library that is made for them.

Flow: a card's vendor -> its method; where there is none, HAMi-core's answer, which says so. What they make
lies in one tree, so that undoing needs no vendor, and works for a card that is gone by now. What all
containers on a card share goes when no request has a region for a share of that card any more.

Limits: claims are prepared and undone side by side, so a folder that goes is moved aside first, and comes
back if a share of its card was prepared in that moment.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from contextlib import suppress
from uuid import uuid4

from driver.cards import Card
from driver.cdi import ContainerEdits
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.preload import ASIDE, Preload, PreloadSettings
from driver.isolation.preload_one_card import SHARED, OneCardPreload, make_shared_folder
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

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:
        """Removes the region of the share's request, and what nobody shares any more."""
        super().undo(share, context=context, host=host)
        self._empty_shared(host)

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        """Removes all regions of a claim, and what nobody shares any more."""
        super().undo_claim(claim_uid, host=host)
        self._empty_shared(host)

    def _empty_shared(self, host: Host) -> None:
        shared = posixpath.join(self._settings.region_dir, SHARED)
        for name in host.list_dir(shared):
            folder = aside = f"{shared}/{name}"
            if not name.startswith(ASIDE):
                if self._has_share(name, host=host):
                    continue
                aside = f"{shared}/{ASIDE}{uuid4()}"
                try:
                    host.rename(folder, to=aside)
                except FileNotFoundError:
                    # The card's last share but one is undone at the same time.
                    continue
                if self._has_share(name, host=host):
                    if not host.exists(folder):
                        with suppress(OSError):
                            host.rename(aside, to=folder)
                    make_shared_folder(folder, host=host)
            # A container made folders that only its own user may look into: they stay aside.
            with suppress(PermissionError):
                host.remove_tree(aside)

    def _has_share(self, card: str, *, host: Host) -> bool:
        root = self._settings.region_dir
        return any(
            marker.startswith(f"{card}.")
            for claim in host.list_dir(root)
            if not claim.startswith(".")
            for request in host.list_dir(f"{root}/{claim}")
            for marker in host.list_dir(f"{root}/{claim}/{request}")
        )
