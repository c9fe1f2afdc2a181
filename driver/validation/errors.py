"""Why validation refuses something: one class for each stable reason.

Limits: what decoding a document refuses is a `ConfigError`, what compiling a selector refuses a
`SelectorError`, and what is no quantity a `QuantityError`; those are not repeated here.
"""

from __future__ import annotations

from driver.errors import ConfigError, InvalidInputError


class ObjectUnreadableError(InvalidInputError):
    """A part of the object is not of the shape that the API documents."""

    reason = "InvalidObject"


class ObjectTooLargeError(InvalidInputError):
    """The object, or a part of it, is larger than the API allows."""

    reason = "ObjectTooLarge"


class AmountError(InvalidInputError):
    """An amount is a quantity, but nothing that a share can be."""

    reason = "InvalidAmount"


class CapacityNameError(InvalidInputError):
    """An amount is asked for of something that no card has."""

    reason = "UnknownCapacity"


class AmountTooLargeError(AmountError):
    """More is asked for than any card that the request picks can give."""

    reason = "AmountTooLarge"


class AmountsNotAskedError(InvalidInputError):
    """Amounts stand where kube-scheduler does not read them, so that a whole card would be given."""

    reason = "AmountsNotAsked"


class RequestNameError(InvalidInputError):
    """Something is said of a request that does not exist."""

    reason = "UnknownRequest"


class ConfigConflictError(ConfigError):
    """Two entries of configuration, or an entry and the request, say different things of one request."""

    reason = "ConflictingConfig"


class SharesOfOneCardError(InvalidInputError):
    """Several devices are asked for, and nothing keeps them from being shares of one card."""

    reason = "SharesOfOneCard"


class CountTooLargeError(InvalidInputError):
    """A claim asks for more devices than one claim can be given."""

    reason = "CountTooLarge"


class UncappedShareError(InvalidInputError):
    """A share disables its cap on compute, and a policy refuses that on all cards that it can get."""

    reason = "UncappedShare"


class PolicyConflictError(ConfigError):
    """Settings of a policy contradict each other."""

    reason = "ContradictingPolicy"
