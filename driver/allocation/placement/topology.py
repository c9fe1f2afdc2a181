"""Devices close together.

Purpose: sets of devices that have a value of an attribute in common: the same PCIe root, the same NUMA node,
a link group (an attribute may list several groups).

Flow: `groups` gives the values that devices of a node have in common; `Grouped` orders devices so that a
group is tried as a whole before the next one, the one that fits most tightly first; `bound` writes the wish
into a claim as a constraint, so that the allocator's own search looks at nothing else; `closeness` says how
close an answer is.

Limits: for one claim and an attribute with a single value the search is the allocator's, so that a compact
set is found whenever there is one (within its limit of steps). Over several claims, and for list-valued
attributes, each group is tried in turn with its devices in front: a set is missed only where constraints or
unequal amounts force the search out of a group that has another combination inside. At most `MAX_GROUPS`
groups of an attribute are tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from driver.allocation.models import JSON, Device, DeviceID
from driver.allocation.placement.usage import Charges, leftover, load
from driver.allocation.preference import Preference
from driver.allocation.requests import Claim, Option
from driver.allocation.snapshot import InUse

Group: TypeAlias = tuple[str, Any]
MAX_GROUPS = 32


def groups_of(device: Device, attribute: str) -> frozenset[Group]:
    """Give the groups of an attribute that a device belongs to."""
    found = device.attribute(attribute)
    if found is None:
        return frozenset()
    kind, value = found
    if not isinstance(value, list):
        return frozenset({(kind, value)})
    return frozenset((kind.removesuffix("s"), one) for one in value if isinstance(one, str | bool | int))


@dataclass(frozen=True, slots=True)
class Grouped:
    """Devices group by group.

    Attributes:
        attribute: What makes a group.
        then: The order inside a group, as published if None.
        first: The group to begin with; the one that fits most tightly if None.
    """

    attribute: str
    then: Preference | None = None
    first: Group | None = None

    def order(self, devices: Sequence[Device], option: Option, in_use: InUse) -> Sequence[Device]:
        """Put groups that have devices enough first, the smallest of them in front."""
        listed = devices if self.then is None else self.then.order(devices, option, in_use)
        charges = Charges(option)

        def key(group: Group) -> tuple[bool, bool, int, float]:
            members = [one for one in listed if group in groups_of(one, self.attribute)]
            able = sum(leftover(one, charges, in_use) is not None for one in members)
            # Of groups that are equally large, the fuller one: untouched groups stay whole for larger claims.
            held = -sum(load(one, in_use) for one in members)
            return group != self.first, able < option.count, able, held

        ranked = sorted(groups(listed, self.attribute), key=key)
        result: dict[Device, None] = {}
        for group in ranked:
            result.update(dict.fromkeys(one for one in listed if group in groups_of(one, self.attribute)))
        return [*result, *(one for one in listed if one not in result)]


def groups(devices: Iterable[Device], attribute: str) -> list[Group]:
    """Give the groups of devices, in the order in which they occur."""
    found: dict[Group, None] = {}
    for device in devices:
        mine = groups_of(device, attribute)
        found.update(dict.fromkeys(sorted(mine, key=repr) if len(mine) > 1 else mine))
    return list(found)


def closeness(
    answers: Sequence[Sequence[DeviceID]], devices: Mapping[DeviceID, Device], attributes: Sequence[str]
) -> int:
    """Say how close devices are, from 0, the best.

    Args:
        answers: The devices of each claim, as far as there was a choice.
        devices: The devices of the node.
        attributes: What makes devices close, the closest first.

    Returns:
        Twice the place of the first attribute that each claim's devices have in common, one more if not all
        claims' devices have; twice the number of attributes if there is none.
    """
    for place, attribute in enumerate(attributes):
        if shared({one for answer in answers for one in answer}, devices, attribute):
            return 2 * place
        if all(shared(answer, devices, attribute) for answer in answers):
            return 2 * place + 1
    return 2 * len(attributes)


def shared(answer: Iterable[DeviceID], devices: Mapping[DeviceID, Device], attribute: str) -> bool:
    """Say whether devices have a group of an attribute in common; a single one has, whatever it is."""
    ids = set(answer)
    if len(ids) <= 1:
        return True
    return bool(frozenset.intersection(*(groups_of(devices[one], attribute) for one in ids)))


def bound(raw: JSON, claim: Claim, attribute: str) -> JSON:
    """Give a claim with the constraint that the devices it may choose share an attribute's value."""
    names = [
        request.name
        for request in claim.requests
        if not any(option.all_devices for option in request.options)
    ]
    if not names:
        return raw
    spec = raw["spec"]
    devices = spec["devices"]
    constraint = {"matchAttribute": attribute, "requests": names}
    constraints = [*(devices.get("constraints") or ()), constraint]
    return {**raw, "spec": {**spec, "devices": {**devices, "constraints": constraints}}}
