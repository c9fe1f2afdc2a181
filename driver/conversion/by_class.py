"""Extended resources that stand for DeviceClasses: requests for whole devices.

Purpose: where our allocator decides, kube-scheduler makes no claim of `deviceclass.resource.kubernetes.io/x`,
or of a class's `extendedResourceName`, so the pod's own claim asks for the same.

Flow: counts by container -> which requests there are, and which container uses which.

Source of the rules: kube-scheduler's plugin DynamicResources (1.36.3, KEP-5004). App containers and sidecars
have a request for each resource. An init container uses those of the containers that start after it, one
after the other, until they are as many devices as it asks for; what is left over is a request of its own,
and of several init containers' own requests for one resource only the largest is made, which all of them use.
A request that is used gives all of its devices.

Limits: pure. No constraints: a device that is asked for whole is not given twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.conversion.containers import Container


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A request for whole devices.

    Attributes:
        container: The container that it is made for.
        resource: The extended resource.
        count: How many devices.
    """

    container: Container
    resource: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What becomes of one resource.

    Attributes:
        made: The requests, in the order in which they are made.
        uses: The requests of each container by its name, as places in `made`; only of those that ask.
    """

    made: tuple[Whole, ...]
    uses: Mapping[str, tuple[int, ...]]


def shared(containers: Sequence[Container], counts: Mapping[str, int], *, resource: str) -> Shared:
    """Which requests there are for a resource.

    Args:
        containers: All that ask for anything, init containers first, in the order in which they start.
        counts: How many devices each asks for, by its name; not 0.
        resource: The resource.
    """
    asking = [one for one in containers if one.name in counts]
    lasting = [one for one in asking if not one.in_turn]
    made = [Whole(container=one, resource=resource, count=counts[one.name]) for one in lasting]
    uses: dict[str, tuple[int, ...]] = {one.name: (place,) for place, one in enumerate(lasting)}
    own: Whole | None = None
    needing: list[str] = []
    for start, one in enumerate(asking):
        if not one.in_turn:
            continue
        left, used = counts[one.name], []
        for later in asking[start:]:
            if left <= 0 or later.in_turn:
                continue
            used.append(uses[later.name][0])
            left -= counts[later.name]
        uses[one.name] = tuple(used)
        if left > 0:
            needing.append(one.name)
            if own is None or left > own.count:
                own = Whole(container=one, resource=resource, count=left)
    if own is not None:
        for name in needing:
            uses[name] = (*uses[name], len(made))
        made.append(own)
    return Shared(made=tuple(made), uses=uses)
