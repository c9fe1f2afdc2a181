"""What only a placement policy refuses."""

from __future__ import annotations

from driver.errors import AllocationError


class TopologyUnmetError(AllocationError):
    """The policy requires the devices of a claim to be close together, and nowhere free ones are."""

    reason = "TopologyUnmet"
    retriable = True
