"""What the cluster has switched on, and what follows from it.

Purpose: one frozen value says which release's rules and which features an answer is made by, so that nothing
below asks for versions or gates by itself.

Flow: `Profile.of(release, features)`; without features those of a stock cluster. A profile answers by name:
how amounts are written, whether config is repeated, which of the reference's allocators would run.

Limits: 1.36 and 1.37 are followed exactly, but for the flaws of 1.36 that over-commit. On 1.34 and 1.35 our
own allocator decides (native mode is for 1.36 and later), so there is no answer of theirs to be like: they
get the rules of 1.36, all features on; what their API cannot say is not asked, and what it can say means the
same. Features that came with 1.37 and are off in a stock cluster are refused by name where they are used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from driver.cel.environments import DEFAULT_RELEASE
from driver.errors import InvalidInputError

Channel: TypeAlias = Literal["stable", "incubating", "experimental"]

# What the stable allocator supports; the last means nothing without amounts.
_STABLE = frozenset(
    {
        "admin_access",
        "prioritized_list",
        "partitionable_devices",
        "device_taints",
        "fractional_capacity_range",
    }
)


@dataclass(frozen=True, slots=True)
class Features:
    """The features of the scheduler's allocator; the defaults are those of a stock cluster.

    Attributes:
        admin_access: DRAAdminAccess.
        consumable_capacity: DRAConsumableCapacity: shares and amounts; without it each device is held whole.
        device_binding_and_status: DRADeviceBindingConditions and DRAResourceClaimDeviceStatus.
        device_taints: DRADeviceTaints; without it taints are not looked at.
        fractional_capacity_range: DRAFractionalCapacityRange (1.37): steps are exact to a thousandth.
        list_type_attributes: DRAListTypeAttributes: constraints understand lists.
        partitionable_devices: DRAPartitionableDevices: counters, and nodes by device.
        prioritized_list: DRAPrioritizedList: firstAvailable.
    """

    admin_access: bool = True
    consumable_capacity: bool = True
    device_binding_and_status: bool = True
    device_taints: bool = True
    fractional_capacity_range: bool = True
    list_type_attributes: bool = False
    partitionable_devices: bool = True
    prioritized_list: bool = True

    @classmethod
    def named(cls, names: Iterable[str]) -> Features:
        """Give the features of these names, as Kubernetes' code writes them in camelCase.

        All others are off, but for fractional_capacity_range, which changes nothing where it did not exist.

        Raises:
            InvalidInputError: There is no feature of one of these names.
        """
        on = {re.sub("[A-Z]", lambda one: f"_{one[0].lower()}", name) for name in names}
        known = {one.name for one in fields(cls)}
        if unknown := sorted(on - known):
            raise InvalidInputError(f"there is no feature {unknown[0]}", remedy=f"Use {', '.join(known)}.")
        return cls(**{name: name in on or name == "fractional_capacity_range" for name in known})


@dataclass(frozen=True, slots=True)
class Profile:
    """The rules of one cluster.

    Attributes:
        release: Kubernetes release, such as `1.36`.
        features: What is switched on.
        channel: The copy of the reference's allocator that a scheduler would run: the first that supports all
            that is on. `stable` neither sorts slices nor shows selectors whether a device can be shared.
        keep_form: Amounts that were rounded to a step are written in the form of the step.
        config_once: Config that several requests share is given once, and without names if it is for all.
        static_all: Mode All counts devices by their size, so that one that is full stands in its way.
        count_each_request: Too many devices are noticed request by request, not claim by claim.
        milli_steps: Steps are exact to a thousandth rather than to a whole.
        counters_by_shares: Any held share of a device means that its counters are paid for; before 1.37 only
            a share that holds some capacity.
        counters_by_node: Slices with counters are for the nodes that they name, like other slices.
    """

    release: str
    features: Features
    channel: Channel
    keep_form: bool
    config_once: bool
    static_all: bool
    count_each_request: bool
    milli_steps: bool
    counters_by_shares: bool
    counters_by_node: bool

    @classmethod
    def of(cls, release: str = DEFAULT_RELEASE, features: Features | None = None) -> Profile:
        """Give the profile of a cluster.

        Args:
            release: Kubernetes release.
            features: What is switched on; as in a stock cluster if None.
        """
        return _profile(release, features or Features())


@functools.lru_cache(maxsize=64)
def _profile(release: str, features: Features) -> Profile:
    newer = release >= "1.37"
    return Profile(
        release=release,
        features=features,
        channel=_channel(features),
        keep_form=newer,
        config_once=newer,
        static_all=newer,
        count_each_request=newer,
        milli_steps=newer and features.fractional_capacity_range,
        counters_by_shares=newer,
        counters_by_node=newer,
    )


def _channel(features: Features) -> Channel:
    on = {one.name for one in fields(features) if getattr(features, one.name)}
    if on <= _STABLE:
        return "stable"
    return "experimental" if features.list_type_attributes else "incubating"
