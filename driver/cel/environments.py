"""What selectors may use, by Kubernetes release.

Purpose: a selector that an older cluster would refuse is refused here too.

Flow: `environment(release)` gives the functions of that release; the fields of `device` are the same in
all.

Limits: 1.34 to 1.37.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from driver.cel.library import REGISTRY, Entry
from driver.cel.types import BOOL, DYN, QUANTITY, STRING, Type, map_of
from driver.errors import InvalidInputError

RELEASES: Mapping[str, tuple[int, int]] = {"1.34": (1, 34), "1.35": (1, 35), "1.36": (1, 36), "1.37": (1, 37)}
DEFAULT_RELEASE = "1.36"

DEVICE_FIELDS: Mapping[str, Type] = {
    "driver": STRING,
    "attributes": map_of(STRING, map_of(STRING, DYN)),
    "capacity": map_of(STRING, map_of(STRING, QUANTITY)),
    "allowMultipleAllocations": BOOL,
}


@dataclass(frozen=True, slots=True)
class Environment:
    """The functions of one release.

    Attributes:
        release: Such as `1.36`.
        functions: Overloads by name and whether they are methods.
    """

    release: str
    functions: Mapping[tuple[str, bool], tuple[Entry, ...]]

    def overloads(self, name: str, *, method: bool) -> tuple[Entry, ...]:
        """Give the overloads of a function, none if it does not exist."""
        return self.functions.get((name, method), ())


@functools.lru_cache(maxsize=len(RELEASES))
def environment(release: str) -> Environment:
    """Give the environment of a release.

    Raises:
        InvalidInputError: A release that we know nothing about.
    """
    version = RELEASES.get(release)
    if version is None:
        raise InvalidInputError(
            f"Kubernetes {release[:16]!r} is not known", remedy=f"Use one of {', '.join(RELEASES)}."
        )
    functions: dict[tuple[str, bool], tuple[Entry, ...]] = {}
    for entry in REGISTRY:
        if entry.exists_in(version):
            key = (entry.name, entry.method)
            functions[key] = (*functions.get(key, ()), entry)
    return Environment(release, functions)
