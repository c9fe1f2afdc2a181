"""Why an allocation is refused as a whole.

Purpose: one class for each stable reason; each ends up in a `Refusal`.

Flow: raised anywhere below `allocate`, caught by it; nothing of this leaves the package as an exception.

Limits: why a single device was passed over is data (`DeviceRefusal`), not an exception. What the reference
calls each of them is in `driver.allocation.kinds`.
"""

from __future__ import annotations

from driver.errors import AllocationError


class NoDeviceError(AllocationError):
    """A request has no device at all, or too few, on this node."""

    reason = "NoDevice"
    retriable = True


class NoCombinationError(AllocationError):
    """Each request has devices, but there is no way to give all of them at once."""

    reason = "NoCombination"
    retriable = True


class ClassNotFoundError(AllocationError):
    """A request names a DeviceClass that does not exist."""

    reason = "DeviceClassNotFound"
    retriable = True


class TooManyDevicesError(AllocationError):
    """A claim would get more devices than an allocation can hold."""

    reason = "TooManyDevices"


class ClaimUnreadableError(AllocationError):
    """The claim is not what the API server would store."""

    reason = "InvalidClaim"


class OverLimitError(AllocationError):
    """A claim or class is larger than the API allows."""

    reason = "OverLimit"


class CapacityRequestError(AllocationError):
    """An amount that is asked for is no amount."""

    reason = "InvalidCapacityRequest"


class CapacityNegativeError(CapacityRequestError):
    """An amount that is asked for is negative."""

    reason = "CapacityNegative"


class CapacityNotRepresentableError(CapacityRequestError):
    """An amount that is asked for is too large, or too fine, to count with."""

    reason = "CapacityNotRepresentable"


class CapacityDisabledError(AllocationError):
    """A claim asks for amounts, but DRAConsumableCapacity is off in the cluster."""

    reason = "CapacityDisabled"


class PrioritizedListDisabledError(AllocationError):
    """A claim uses firstAvailable, but DRAPrioritizedList is off in the cluster."""

    reason = "PrioritizedListDisabled"


class AdminAccessDisabledError(AllocationError):
    """A claim asks for admin access, but DRAAdminAccess is off in the cluster."""

    reason = "AdminAccessDisabled"


class ConstraintUnknownError(AllocationError):
    """A constraint is of a kind that the cluster's scheduler does not know."""

    reason = "ConstraintUnknown"


class PoolIncompleteError(AllocationError):
    """Mode All has to see all slices of all pools of the node, and some are missing."""

    reason = "PoolIncomplete"
    retriable = True


class PoolInvalidError(AllocationError):
    """Nothing fits, and a driver published slices for the node that contradict each other."""

    reason = "PoolInvalid"


class AllPoolInvalidError(PoolInvalidError):
    """Mode All has to count all devices of the node, and a driver's slices contradict each other."""

    reason = "AllPoolInvalid"


class AllConstraintError(AllocationError):
    """Mode All asks for devices that a constraint keeps apart."""

    reason = "AllConstraintUnmet"


class SelectorFailedError(AllocationError):
    """A selector raises on a device that had to be looked at."""

    reason = "SelectorFailed"


class SelectorInvalidError(SelectorFailedError):
    """A selector does not compile."""

    reason = "SelectorInvalid"


class SelectorUnknownError(AllocationError):
    """A selector uses CEL that is not supported yet."""

    reason = "SelectorNotSupported"


class NotSupportedError(AllocationError):
    """The claim, class or slice uses a field that is not supported yet."""

    reason = "NotSupported"


class SearchLimitError(AllocationError):
    """The search was given up after too many steps."""

    reason = "SearchLimit"
