"""What the command line has to know of the controller's other parts, as functions.

Limits: parts of the controller know nothing of each other, so `controller.kubectl` hands these over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from driver.allocation import Snapshot
from driver.kube.client import JSON


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a claim's ShareConfig means for where the pod can run; see `controller.explaining.shares`.

    Attributes:
        reason: CamelCase word.
        note: A sentence.
        everywhere: Every node would refuse the pod.
    """

    reason: str
    note: str
    everywhere: bool


@dataclass(frozen=True, kw_only=True)
class Question:
    """Claims with the configuration that is in force for them.

    Attributes:
        snapshot: The cards.
        claims: ResourceClaims of our classes.
        classes: All DeviceClasses.
    """

    snapshot: Snapshot
    claims: Sequence[JSON]
    classes: Sequence[JSON]


class Extended(Protocol):
    """What a pod asks for by extended resources."""

    def __call__(self, pod: JSON, classes: Sequence[JSON], *, carried: bool) -> JSON | None:
        """The claim that would be made of it; None if it asks for none of ours.

        Args:
            pod: The pod.
            classes: All DeviceClasses.
            carried: Whether a resource counts that a class stands for by the webhook's word alone: not where
                kube-scheduler allocates.
        """


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Functions of the other parts.

    Attributes:
        is_ours: Whether a DeviceClass picks only devices of our driver; one that gives only a name counts by
            its name.
        held: What an allocated claim holds of our cards, as the allocator reads it; None if nothing.
        unfit: Why a pod cannot use a Node, "" if it can; what other pods take of it is not looked at.
        extended: The claim that would be made for a pod's extended resources of ours.
        remark: What ShareConfigs mean for the claims; None if nothing is to be said.
        release: The release that our selectors know and that is nearest to a cluster's.
    """

    is_ours: Callable[[JSON], bool]
    held: Callable[[JSON], JSON | None]
    unfit: Callable[[JSON, JSON], str]
    extended: Extended
    remark: Callable[[Question], Said | None]
    release: Callable[[str], str]
