"""The tables of what containers had of each vendor's cards, and of partitions of cards, on real nodes.

Flow: `tests/cluster/test_vendors.py` compares what it sees with `tests/cluster/recorded/vendors.json`, and
the tests of partitions with `partitions.json` beside it; this makes the tables of these files, so that the
page can be checked without a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driver.vendors.facts import VendorFacts

RECORDED = Path(__file__).resolve().parents[3] / "tests" / "cluster" / "recorded" / "vendors.json"
PARTITIONS = RECORDED.with_name("partitions.json")

_MOST_PATHS = 5
_HEAD = (
    "One node of Kubernetes {kubernetes} with the fixtures of all vendors in its own `/sys`, `/dev` and "
    "`/usr`, the chart as it is installed anywhere, kube-scheduler: of each vendor one pod with a share "
    "(1 GiB, 10 %) of a card, and one with a whole card. This is what the container with the share had; the "
    "one with the whole card had the same of the other card, without limits. Nothing was left when the pods "
    "were gone. The device nodes were `/dev/null` by other names; the preload libraries were stubs that read "
    "the same variables, and were seen mapped with what they had read."
)

_PARTITIONS_HEAD = (
    "And what a container had of a partition that was made for its claim "
    "([isolation.md](../isolation.md#hardware)), on nodes of Kubernetes {kubernetes} with cards of one "
    "vendor. Stand-ins cut them: a mock of NVML, a test that changes files as amdgpu does, a program in the "
    "place of npu-smi."
)


def section(vendors: Sequence[VendorFacts]) -> list[str]:
    """The section with its table, one row for each vendor that was tried."""
    document = json.loads(RECORDED.read_text(encoding="utf-8"))
    recorded: dict[str, Any] = document["vendors"]
    return [
        "## What containers had on a real node",
        "",
        _HEAD.format(kubernetes=document["kubernetes"]),
        "",
        "| vendor | memory held by | compute held by | device nodes | environment | mounts |",
        "|---|---|---|---|---|---|",
        *(_row(facts, recorded[facts.name]) for facts in vendors if facts.name in recorded),
    ]


def _row(facts: VendorFacts, tried: dict[str, Any]) -> str:
    had = tried["share"]
    cells = [_some(had[what]) for what in ("devices", "environment", "mounts")]
    held = tried["heldBy"]
    return f"| {facts.title} | {held['memory']} | {held['cores']} | {' | '.join(cells)} |"


def _some(texts: Sequence[str]) -> str:
    shown = ", ".join(f"`{text}`" for text in texts[:_MOST_PATHS])
    more = len(texts) - _MOST_PATHS
    return f"{shown} and {more} more" if more > 0 else shown


def partitions(vendors: Sequence[VendorFacts]) -> list[str]:
    """The table of partitions, one row for each vendor whose partitions were tried in a cluster."""
    recorded: dict[str, Any] = json.loads(PARTITIONS.read_text(encoding="utf-8"))
    releases = sorted({one["kubernetes"] for one in recorded.values()})
    return [
        _PARTITIONS_HEAD.format(kubernetes=" and ".join(releases)),
        "",
        "| vendor | partition | device nodes | environment | mounts |",
        "|---|---|---|---|---|",
        *(_partition_row(facts, recorded[facts.name]) for facts in vendors if facts.name in recorded),
    ]


def _partition_row(facts: VendorFacts, tried: dict[str, Any]) -> str:
    cells = [_some(tried["had"][what]) for what in ("devices", "environment", "mounts")]
    return f"| {facts.title} | `{tried['partition']}` | {' | '.join(cells)} |"
