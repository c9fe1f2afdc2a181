"""Holds claims against the quotas of their namespace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.quota.store import QuotaStore
from driver.quota.stock import Stock


class Quotas:
    """All quotas, as one replica (or a replay) holds claims against them."""

    def __init__(self, store: QuotaStore, *, stock: Stock, carried: bool, budget_s: float = 4.0) -> None:
        """Prepares.

        Args:
            store: Where quotas are kept.
            stock: The cluster's cards and classes.
            carried: Whether amounts that stand in a ShareConfig count (mode controller).
            budget_s: Time that a reservation may take; less than the webhook's timeout.
        """
        self._store = store
        self._stock = stock
        self._carried = carried
        self._budget_s = budget_s

    async def reserve(
        self,
        *,
        namespace: str,
        uid: str,
        name: str,
        claim: Mapping[str, Any],
        dry_run: bool,
        request: str = "",
    ) -> None:
        """Takes what a claim asks for out of all quotas of its namespace.

        Args:
            namespace: Of the claim.
            uid: Of the claim.
            name: Of the claim.
            claim: The claim.
            dry_run: Whether nothing may be written.
            request: UID of the admission request.

        Raises:
            QuotaExceededError: A quota does not have it.
            QuotaPerClaimError: It is more than a single claim may ask for.
            QuotaCardsUnknownError: It cannot be said how much a whole card is.
            QuotaUnavailableError: A quota could not be asked in time.
        """

    def advise(self, *, namespace: str, specs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """What somebody should know whose pods will make claims of these specs, from what is known here.

        Args:
            namespace: Of the pod or template.
            specs: `spec` of each claim, such as `spec.spec` of a template.

        Returns:
            Sentences; empty where the quotas have room.
        """
        del namespace, specs
        return ()
