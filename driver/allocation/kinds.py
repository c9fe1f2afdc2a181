"""What kube-scheduler's allocator would call a refusal.

Purpose: compare refusals with the reference's, which knows an error or simply no solution.

Flow: `error_kind` and `node_only` of a `Refusal`.

Limits: what only we refuse (fields that are not known, sizes beyond the API's, a search that was given up)
has no name there and gets ours, in small letters.
"""

from __future__ import annotations

import re

from driver.allocation.decision import Refusal

_KINDS: dict[str, str | None] = {
    "NoDevice": None,
    "NoCombination": None,
    "SelectorFailed": "cel-runtime",
    "SelectorInvalid": "cel-compile",
    "DeviceClassNotFound": "class-not-found",
    "TooManyDevices": "too-many-devices",
    "PoolIncomplete": "all-incomplete-pool",
    "AllPoolInvalid": "all-invalid-pool",
    "PoolInvalid": "invalid-pool",
    "AllConstraintUnmet": "all-constraint",
    "CapacityDisabled": "capacity-disabled",
    "PrioritizedListDisabled": "prioritized-list-disabled",
    "AdminAccessDisabled": "admin-access-disabled",
    "ConstraintUnknown": "unknown-constraint",
    "CapacityNegative": "capacity-negative",
    "CapacityNotRepresentable": "capacity-not-representable",
}


def error_kind(refusal: Refusal) -> str | None:
    """Name the error that the reference would return; None where it finds no solution."""
    reason = refusal.reason
    if reason in _KINDS:
        return _KINDS[reason]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", reason).lower()


def node_only(refusal: Refusal) -> bool:
    """Say whether the reference would go on with other nodes in spite of the error."""
    return error_kind(refusal) == "invalid-pool"
