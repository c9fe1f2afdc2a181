"""Makes the page of vendors: classes, how far each feature was tried, what is guessed, names of before.

Flow: everything comes from `FACTS` of each vendor's file, and from two records that tests write: how far each
feature was tried (the conformance test), and what containers had on a real node (the cluster test).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from driver.cards import DRIVER_NAME, ISOLATION_ORDER
from driver.vendors import catalogue
from driver.vendors.facts import VendorFacts
from driver.vendors.legacy import LegacyNames
from tooling.generate import vendor_containers

TRIED = Path(__file__).resolve().parents[3] / "tests" / "driver" / "vendors" / "recorded" / "tried.json"

_MATRIX = (
    "How far each feature was tried, as the tests recorded it. *mock library*: against a library of the "
    "vendor's interface that tests script. *fixture*: against a folder of sysfs files and answers of the "
    "vendor's programs. *none*: there is nothing to try: the feature is missing. **Nothing was tried on a "
    "card.**"
)
_WHOLE = (
    "[isolation.md](../isolation.md) says what each of these holds and needs. Where no limit can be held, "
    "`memoryIsolation` and `coresIsolation` of the card are `none`: a share is then an agreement, and a "
    "policy has to allow that."
)
_LEGACY = (
    "Extended resources that people asked for before, and what they meant. Amounts of memory are rounded up "
    "to the sizes that are listed."
)


def page() -> str:
    """The page, without its head line."""
    vendors = catalogue.VENDORS
    return "\n".join(
        [
            "# Vendors",
            "",
            f"`accelerator.{DRIVER_NAME}` is the class of all of them.",
            "",
            "| vendor | DeviceClass | PCI vendor IDs | cards are named by | shares are held, best first |",
            "|---|---|---|---|---|",
            *(_row(facts) for facts in sorted(vendors, key=lambda one: one.name)),
            "",
            _WHOLE,
            "",
            "## What was tried",
            "",
            _MATRIX,
            "",
            *matrix(vendors),
            "",
            *vendor_containers.section(vendors),
            "",
            *vendor_containers.partitions(vendors),
            "",
            "## Where it was read, and what is guessed",
            "",
            *(line for facts in vendors for line in _origins(facts)),
            "## Names of before",
            "",
            _LEGACY,
            "",
            "| vendor | counts | memory | compute | sizes | where it was read |",
            "|---|---|---|---|---|---|",
            *(_names(facts, entry) for facts in vendors for entry in facts.legacy),
            "",
        ]
    )


def matrix(vendors: Sequence[VendorFacts]) -> list[str]:
    """The table of vendors and features, as it was recorded; one that was not tried yet has no row."""
    recorded: dict[str, dict[str, str]] = json.loads(TRIED.read_text())
    rows = [(facts.title, recorded[facts.name]) for facts in vendors if facts.name in recorded]
    features = list(rows[0][1])
    return [
        f"| vendor | {' | '.join(features)} |",
        f"|{'---|' * (len(features) + 1)}",
        *(f"| {title} | {' | '.join(tried[feature] for feature in features)} |" for title, tried in rows),
    ]


def _row(facts: VendorFacts) -> str:
    ids = ", ".join(f"`{number:04x}`" for number in sorted(facts.pci_vendors)) or "unknown"
    said = (
        dict.fromkeys(facts.isolation, "")
        | dict.fromkeys(facts.offered_by_node, " (where the node offers it)")
        | dict.fromkeys(facts.brought, " (brought by an administrator)")
    )
    held = ", ".join(f"{level}{said[level]}" for level in ISOLATION_ORDER if level in said)
    return f"| {facts.title} | `{facts.device_class}` | {ids} | {facts.identity} | {held} |"


def _origins(facts: VendorFacts) -> Iterator[str]:
    yield f"### {facts.title}"
    yield ""
    yield from (f"- {sentence}" for sentence in facts.sources)
    if facts.guessed:
        yield ""
        yield "Guessed:"
        yield ""
        yield from (f"- {sentence}" for sentence in facts.guessed)
    yield ""


def _names(facts: VendorFacts, entry: LegacyNames) -> str:
    memory = ""
    if entry.memory:
        memory = f"`{entry.memory}` ({entry.memory_unit >> 20} MiB)"
    if entry.memory_percent:
        memory = ", ".join(filter(None, (memory, f"`{entry.memory_percent}` (%)")))
    cores = ""
    if entry.cores:
        unit = "%" if entry.cores_of == 100 else f"of {entry.cores_of}"
        cores = f"`{entry.cores}` ({unit})"
    counts = f"`{entry.count}`"
    if entry.priority:
        counts += f", `{entry.priority}`"
    return f"| {facts.title} | {counts} | {memory} | {cores} | {_sizes(entry)} | {entry.source} |"


def _sizes(entry: LegacyNames) -> str:
    if entry.templates:
        return ", ".join(f"`{one.name}` ({one.memory_mib} MiB)" for one in entry.templates)
    if entry.memory_steps_mib:
        return ", ".join(f"{size} MiB" for size in entry.memory_steps_mib)
    if entry.parts > 1:
        return f"1/{entry.parts} of a card"
    return "whole cards" if entry.whole else ""
