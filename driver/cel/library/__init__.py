"""The functions of selectors, one entry for each overload.

Purpose: everything that is known about a function stands in one place: signature, implementation, cost,
and the first Kubernetes release that has it.

Flow: importing this package imports the modules below, whose `@overload` lines fill the registry;
`driver.cel.environments` picks what a release has.

Limits: what Kubernetes has and we do not yet is listed in `library.later`, to be refused by name.
"""

from driver.cel.library import operators, optionals, quantities, semvers, strings
from driver.cel.library.entry import REGISTRY, Entry
from driver.cel.library.later import NOT_YET

__all__ = ["NOT_YET", "REGISTRY", "Entry", "operators", "optionals", "quantities", "semvers", "strings"]
