"""What validation has to know of the cluster.

Limits: whoever fills it keeps it up to date; nothing is read from anywhere here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from driver.api.policy import NamedPolicy
from driver.cel.environments import RELEASES
from driver.validation.cards import KnownCards
from driver.validation.limits import MAX_SECONDS


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """The cluster that an object is for.

    Attributes:
        release: Kubernetes release of the API server, such as `1.36`; "" while it is not known, which is
            taken for the newest: what a newer server would take is not refused.
        is_ours: Whether a DeviceClass of this name picks only devices of our driver; standard names count
            even where no such class exists.
        class_is_ours: The same of a DeviceClass document.
        classes: DeviceClass documents by name; a live mapping will do.
        cards: The cluster's cards.
        amounts_kept: Whether the API server keeps `capacity` in requests; None if that is not known.
        native: Whether kube-scheduler allocates; otherwise our allocator does.
        cards_may_come: Whether larger cards than there are may come, as where nodes are made on demand: what
            no card of today can give is a warning then and no error.
        policies: The AcceleratorPolicies that can be read.
        seconds: Processor time after which no further selector of an object is looked at.
    """

    release: str
    is_ours: Callable[[str], bool]
    class_is_ours: Callable[[Mapping[str, Any]], bool]
    classes: Mapping[str, Mapping[str, Any]]
    cards: KnownCards = field(default_factory=KnownCards)
    amounts_kept: bool | None = None
    native: bool = True
    cards_may_come: bool = False
    policies: Sequence[NamedPolicy] = ()
    seconds: float = MAX_SECONDS

    @property
    def language(self) -> str:
        """The release whose CEL holds: the nearest that we know."""
        return min(RELEASES, key=lambda one: _distance(RELEASES[one], self.version))

    @property
    def version(self) -> tuple[int, int]:
        """The release as numbers."""
        major, _, minor = self.release.partition(".")
        if not (major.isdecimal() and minor.isdecimal()):
            return max(RELEASES.values())
        return int(major), int(minor)


def _distance(one: tuple[int, int], other: tuple[int, int]) -> int:
    return abs((one[0] - other[0]) * 1000 + one[1] - other[1])
