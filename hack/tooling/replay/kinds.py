"""From a refusal of ours to the error kind of the corpus."""

from __future__ import annotations

from driver.allocation import Refusal

_KINDS: dict[str, str | None] = {
    "NoDevice": None,
    "NoCombination": None,
    "SelectorFailed": "cel-runtime",
    "DeviceClassNotFound": "class-not-found",
    "TooManyDevices": "too-many-devices",
    "PoolIncomplete": "all-incomplete-pool",
    "PoolInvalid": "invalid-pool",
    "AllConstraintUnmet": "all-constraint",
    "InvalidCapacityRequest": "capacity-negative",
    "SelectorNotSupported": "not-supported",
    "NotSupported": "not-supported",
    "SearchLimit": "search-limit",
}


def error_kind(refusal: Refusal) -> str | None:
    """The kind of an error; None where there simply is no solution."""
    if refusal.reason == "PoolInvalid" and "wants all devices" in refusal.message:
        return "all-invalid-pool"
    if refusal.reason == "SelectorFailed" and "does not compile" in refusal.message:
        return "cel-compile"
    return _KINDS.get(refusal.reason, refusal.reason)
