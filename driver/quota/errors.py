"""Why a quota refuses a claim."""

from __future__ import annotations

from typing import ClassVar

from driver.errors import DragomanError, InvalidInputError


class QuotaExceededError(DragomanError):
    """What the claim asks for is more than the quota has left."""

    reason: ClassVar[str] = "QuotaExceeded"
    retriable: ClassVar[bool] = True


class QuotaPerClaimError(InvalidInputError):
    """The claim alone asks for more than the quota allows a single one."""

    reason: ClassVar[str] = "QuotaPerClaim"


class QuotaCardsUnknownError(DragomanError):
    """The claim asks for a whole card, and no card is known that could tell how much that is."""

    reason: ClassVar[str] = "QuotaCardsUnknown"


class QuotaUnavailableError(DragomanError):
    """The quota could not be read or written in time, so the claim is refused for now."""

    reason: ClassVar[str] = "QuotaUnavailable"
    retriable: ClassVar[bool] = True
