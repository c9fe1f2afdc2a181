"""Which device a request would rather have.

Purpose: the seam through which a placement policy says in what order the devices of a node are tried,
without a say in what fits.

Flow: the allocator asks `Preference.order` once for each sub-request whose turn comes, with the devices of
the node that may be taken at all; `ordered` holds the answer to what was asked.

Limits: an order only. Whatever a preference answers, each device is given at most once to a request and
every device of the node is tried before a request counts as impossible, so that a policy changes where a
claim goes and never whether it can be met. Mode All takes all devices and is not asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from driver.allocation.models import Device
from driver.allocation.requests import Option
from driver.allocation.snapshot import InUse


class Preference(Protocol):
    """An order in which devices are tried."""

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        """Give the devices in the order in which they should be tried.

        Args:
            devices: Those of the node that may be taken, in kube-scheduler's order; neither selectors nor
                amounts have been looked at.
            option: The request, or the sub-request of it, that wants a device.
            in_use: What is held by claims that are allocated; not what this pod is being given.
        """


def ordered(
    devices: Sequence[Device], option: Option, *, preference: Preference | None, in_use: InUse
) -> Sequence[Device]:
    """Ask a preference, and hold it to the devices there are.

    Args:
        devices: Those that may be taken, in kube-scheduler's order.
        option: What wants a device.
        preference: Whom to ask; kube-scheduler's order if None.
        in_use: What is held.

    Returns:
        The same devices: what the preference left out comes last, what it made up or repeated is dropped.
    """
    if preference is None:
        return devices
    known = dict.fromkeys(devices)
    first = [one for one in dict.fromkeys(preference.order(devices, option, in_use)) if one in known]
    if len(first) == len(known):
        return first
    chosen = set(first)
    return first + [one for one in devices if one not in chosen]
