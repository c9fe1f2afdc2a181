"""Why a pod's claims are not allocated, beside what the allocator itself finds.

Limits: one class for each stable reason.
"""

from __future__ import annotations

from driver.errors import AllocationError


class NoNodeError(AllocationError):
    """No node that the pod may use has its cards offered."""

    reason = "NoNode"
    retriable = True


class ExtendedResourceError(AllocationError):
    """A pod asks for cards by an extended resource, for which only kube-scheduler makes a claim."""

    reason = "ExtendedResourceNotServed"


class PodTooLongError(AllocationError):
    """A pod has more claims, or says more about where it may run, than is looked at."""

    reason = "PodTooLong"


class MixedDriversError(AllocationError):
    """A claim asks for devices of this driver and of others at once."""

    reason = "MixedDrivers"


class AmountsUnknownError(AllocationError):
    """It is not known yet whether the API server keeps the amounts that claims ask for."""

    reason = "AmountsUnknown"
    retriable = True


class ClaimChangedError(AllocationError):
    """The claim is another one by now, is going away, or somebody else allocated it."""

    reason = "ClaimChanged"
    retriable = True


class AllocationLostError(AllocationError):
    """The API server stored the allocation without what says how much was given; it was taken back."""

    reason = "AllocationLost"


class AllocationHeldUpError(AllocationError):
    """A claim may not be changed by the leader, so that what an earlier leader sent may still be stored."""

    reason = "AllocationHeldUp"
    retriable = True


class CardsGivenBackError(AllocationError):
    """A pod had its cards for long and kube-scheduler did not place it, so others have their turn first."""

    reason = "CardsGivenBack"
    retriable = True
