"""In which ways a pod lets its cards be shared: the annotation for the mode.

Flow: the annotation's text and the modes that the family's table knows -> `ways_of`, in the pod's order.

Rules that people see: several modes, divided by commas, mean any of them, and what is written first is tried
first. `hami-core` is a share by amounts, whatever holds its limits on the node that is chosen, so it includes
`mps`. `mps` is a share on a card whose cap on compute MPS holds. `mig` is a partition. Modes that nobody
knows do not count beside one that is known.

Limits: 64 modes; a text with more is read as far as that.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from driver.conversion.errors import LegacyChoiceError
from driver.conversion.names import Family

_MOST = 64


class Way(StrEnum):
    """A way of sharing, by the word of the annotation."""

    SHARE = "hami-core"
    MPS = "mps"
    PARTITION = "mig"


def ways_of(family: Family, annotations: Mapping[str, str]) -> tuple[Way, ...]:
    """The ways that the pod accepts, each once; a share where it says nothing.

    Raises:
        LegacyChoiceError: None of its modes is known.
    """
    key = family.entry.annotation("mode")
    said = [one.strip() for one in annotations.get(key, "").split(",", maxsplit=_MOST)]
    modes = list(dict.fromkeys(one for one in said if one))
    if not modes:
        return (Way.SHARE,)
    found = [Way(one) for one in modes if one in family.entry.modes]
    if not found:
        known = " or ".join(family.entry.modes)
        raise LegacyChoiceError(
            f"{','.join(modes)[:40]!r} is no mode that is known here.",
            field=f"metadata.annotations[{key}]",
            remedy=f"Write {known}, or leave it out.",
        )
    return tuple(one for one in found if one is not Way.MPS or Way.SHARE not in found)


def is_soft(family: Family, annotations: Mapping[str, str]) -> bool:
    """Whether the pod asks by name that a library hold its limits, so that any amount can be had."""
    said = annotations.get(family.entry.annotation("mode"), "").split(",", maxsplit=_MOST)
    return Way.SHARE in [one.strip() for one in said]
