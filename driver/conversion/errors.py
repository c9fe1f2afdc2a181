"""What conversion refuses, each with the path of the field and what to write instead."""

from __future__ import annotations

from typing import ClassVar

from driver.errors import InvalidInputError


class ConversionError(InvalidInputError):
    """A pod that asks for extended resources of before cannot be converted as it is."""

    reason: ClassVar[str] = "CannotConvert"


class LegacyAmountError(ConversionError):
    """An amount is no whole number in the unit of its name, or more than a card can have."""

    reason: ClassVar[str] = "LegacyAmountInvalid"


class LegacyChoiceError(ConversionError):
    """An annotation chooses cards, or how they are shared, in a way that cannot be kept to."""

    reason: ClassVar[str] = "LegacyChoiceInvalid"


class CardSizesUnknownError(ConversionError):
    """Memory in percent cannot become an amount: the cluster has no such card, or too many sizes of it."""

    reason: ClassVar[str] = "CardSizesUnknown"


class ConvertedPodError(ConversionError):
    """What a converted pod says of itself is not what conversion writes."""

    reason: ClassVar[str] = "ConvertedPodInvalid"
