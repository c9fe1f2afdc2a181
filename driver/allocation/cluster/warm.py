"""Ask before anybody waits for an answer.

Purpose: the index makes what it needs for an attribute when a selector first reads it, which for 40,000
devices takes longer than answering a hundred claims.

Flow: `warm` asks about the driver, and about each attribute and capacity that many devices have and that is
not different on each.

Limits: what is found out is thrown away; a name that CEL cannot write without quoting is left out.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable

from driver.allocation.models import Device
from driver.cel import compile_selector
from driver.errors import SelectorError
from driver.selection import Index

MOST = 32

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def warm(index: Index, sample: Iterable[Device]) -> None:
    """Make the index ready for what selectors are likely to read.

    Args:
        index: The index.
        sample: Some of its devices, one of each node for instance.
    """
    seen: defaultdict[tuple[str, str, str], list[Hashable]] = defaultdict(list)
    for device in sample:
        for name, pair in device.attributes.items():
            seen["attributes", *_split(name, device.id.driver)].append(repr(pair))
        for name, capacity in device.capacity.items():
            seen["capacity", *_split(name, device.id.driver)].append(capacity.value)
    asked = ['device.driver == ""', "device.allowMultipleAllocations"]
    common = sorted(seen, key=lambda key: len(seen[key]), reverse=True)[:MOST]
    for kind, domain, name in common:
        values = seen[kind, domain, name]
        if not _IDENTIFIER.fullmatch(name) or len(set(values)) * 2 > len(values) > 1:
            continue
        read = f'device.{kind}["{domain}"].{name}'
        compared = f'{read}.compareTo(quantity("1")) > 0'
        asked.append(compared if kind == "capacity" else f'{read} == ""')
    for expression in asked:
        with contextlib.suppress(SelectorError):
            index.select(compile_selector(expression))


def _split(name: str, driver: str) -> tuple[str, str]:
    domain, slash, identifier = name.partition("/")
    return (domain, identifier) if slash else (driver, name)
