"""In which ways a pod lets its cards be shared: the annotation for the mode.

Flow: the annotation's text and the modes that the family's table knows -> `ways_of`, in the pod's order.

Rules that people see: several modes mean any of them, and what is written first is tried first; what divides
them does not matter, as HAMi looks for its words anywhere in the text. `hami-core` is a share by amounts,
whatever holds its limits on the node that is chosen, so it includes `mps`. `mps` is a share on a card whose
cap on compute MPS holds. `mig` is a partition. Without a mode, cards that are cut by templates are cut into
partitions where the cluster has some, and shared where it has none; an amount of other cards is a partition
where the cluster has nothing else (`driver.conversion.choosing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from driver.conversion.errors import LegacyChoiceError
from driver.conversion.names import Family


class Way(StrEnum):
    """A way of sharing, by the word of the annotation."""

    SHARE = "hami-core"
    MPS = "mps"
    PARTITION = "mig"


def ways_of(family: Family, annotations: Mapping[str, str]) -> tuple[Way, ...]:
    """The ways that the pod accepts, each once.

    Raises:
        LegacyChoiceError: None of its modes is known.
    """
    key = family.entry.annotation("mode")
    said = annotations.get(key, "")
    if not said.strip():
        return (Way.PARTITION, Way.SHARE) if family.entry.templates else (Way.SHARE,)
    found = [Way(one) for one in sorted(family.entry.modes, key=said.find) if one in said]
    if not found:
        known = " or ".join(family.entry.modes)
        raise LegacyChoiceError(
            f"{said[:40]!r} is no mode that is known here.",
            field=f"metadata.annotations[{key}]",
            remedy=f"Write {known}, or leave it out.",
        )
    return tuple(one for one in found if one is not Way.MPS or Way.SHARE not in found)


def is_soft(family: Family, annotations: Mapping[str, str]) -> bool:
    """Whether the pod asks by name that a library hold its limits, so that any amount can be had."""
    return Way.SHARE in annotations.get(family.entry.annotation("mode"), "")
