"""The functions of selectors, one entry for each overload.

Purpose: everything that is known about a function stands in one place: signature, implementation, cost,
and the Kubernetes releases that have it.

Flow: importing this package imports the modules below, whose `@overload` lines fill the registry;
`driver.cel.environments` picks what a release has.

Limits: overloads of one function are tried in the order in which they stand in the registry.
"""

from driver.cel.library import (
    addresses,
    authorizers,
    conversions,
    formats,
    lists,
    operators,
    optionals,
    quantities,
    regexes,
    semvers,
    sets,
    string_format,
    strings,
    times,
    urls,
)
from driver.cel.library.entry import REGISTRY, Entry

__all__ = [
    "REGISTRY",
    "Entry",
    "addresses",
    "authorizers",
    "conversions",
    "formats",
    "lists",
    "operators",
    "optionals",
    "quantities",
    "regexes",
    "semvers",
    "sets",
    "string_format",
    "strings",
    "times",
    "urls",
]
