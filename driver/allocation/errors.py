"""Why an allocation is refused as a whole.

Purpose: one class for each stable reason; each ends up in a `Refusal`.

Flow: raised anywhere below `allocate`, caught by it; nothing of this leaves the package as an exception.

Limits: why a single device was passed over is data (`DeviceRefusal`), not an exception.
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


class CapacityRequestError(AllocationError):
    """An amount that is asked for is no amount, negative, or too large to count with."""

    reason = "InvalidCapacityRequest"


class PoolIncompleteError(AllocationError):
    """Mode All has to see all slices of all pools of the node, and some are missing."""

    reason = "PoolIncomplete"
    retriable = True


class PoolInvalidError(AllocationError):
    """The driver published slices that contradict each other."""

    reason = "PoolInvalid"


class AllConstraintError(AllocationError):
    """Mode All asks for devices that a constraint keeps apart."""

    reason = "AllConstraintUnmet"


class SelectorFailedError(AllocationError):
    """A selector does not compile or raises on a device that had to be looked at."""

    reason = "SelectorFailed"


class SelectorUnknownError(AllocationError):
    """A selector uses CEL that is not supported yet."""

    reason = "SelectorNotSupported"


class NotSupportedError(AllocationError):
    """The claim, class or slice uses a field that is not supported yet."""

    reason = "NotSupported"


class SearchLimitError(AllocationError):
    """The search was given up after too many steps."""

    reason = "SearchLimit"
