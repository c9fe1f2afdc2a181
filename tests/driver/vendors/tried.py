"""How far each feature of a vendor was tried, as the conformance test shows it: the matrix in docs.

Flow: the test finds out what works of a vendor on its fixture -> `compare` holds that to
`recorded/tried.json`, of which `hack/generate` writes the matrix in docs. With DRAGOMAN_RECORD=1 the vendor's
row is written instead.

Limits: nothing here says `silicon`: a test that runs without cards cannot.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

FILE = Path(__file__).with_name("recorded") / "tried.json"


class Feature(StrEnum):
    """What a vendor's file, and what holds shares of its cards, can do."""

    DISCOVERY = "cards found"
    IDENTITY = "stable identity"
    MODEL = "model"
    MEMORY = "memory"
    PLACE = "NUMA node, PCIe root"
    EDITS = "container edits"
    HEALTH = "health"
    MEMORY_LIMIT = "memory limit held"
    CORES_LIMIT = "cap on compute held"
    PARTITIONS = "partitions"


class Tried(StrEnum):
    """How far a feature was tried."""

    MOCK = "mock library"
    FIXTURE = "fixture"
    ABSENT = "none"


def compare(vendor: str, shown: Mapping[Feature, Tried]) -> None:
    """Holds what a run has shown of a vendor to what is recorded, or records it."""
    found = {feature.value: shown[feature].value for feature in Feature}
    if os.environ.get("DRAGOMAN_RECORD"):
        _record(vendor, found)
    recorded = json.loads(FILE.read_text()).get(vendor)
    assert found == recorded, (
        f"What was shown of {vendor} differs from what is recorded: see whether that is meant, then run this "
        "test with DRAGOMAN_RECORD=1 and hack/generate."
    )


def _record(vendor: str, found: Mapping[str, str]) -> None:
    before = json.loads(FILE.read_text()) if FILE.exists() else {}
    document = dict(sorted({**before, vendor: dict(found)}.items()))
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(document, indent=1) + "\n")
