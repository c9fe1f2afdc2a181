"""What docs/in-force.md says is what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from driver.isolation.hardware import PartitionGoneError, PartitionsUnknownError
from driver.isolation.service import LIMITS_LOST
from kubelet_plugin.in_force.book import NO_PROCESS
from kubelet_plugin.in_force.looks import HELD_BACK, NOT_ANSWERING
from kubelet_plugin.in_force.usage import SERIES
from kubelet_plugin.metrics import PREFIX
from kubelet_plugin.mps.watch import LIMITS_RESTORED

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "in-force.md").read_text()
SECTION = PAGE.partition("## Reasons")[2].partition("###")[0]


def _reasons() -> set[str]:
    """The reasons that the preload library's and the other methods' modules can give."""
    found = {NO_PROCESS, NOT_ANSWERING.reason, HELD_BACK.reason, LIMITS_LOST, LIMITS_RESTORED}
    found |= {PartitionGoneError.reason, PartitionsUnknownError.reason}
    for name in ("preload_seen", "preload_one_card", "kernel", "service", "hardware"):
        tree = ast.parse((ROOT / "driver" / "isolation" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InForce":
                found |= {
                    str(one.value.value)
                    for one in node.keywords
                    if one.arg == "reason" and isinstance(one.value, ast.Constant)
                }
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_not_loaded":
                found.add(node.args[0].value)  # type: ignore[attr-defined]
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").startswith("NOT_"):
                found.add(node.value.value)  # type: ignore[attr-defined]
    return found


def test_every_reason_is_in_the_table_and_no_other() -> None:
    assert set(re.findall(r"^\| `([A-Za-z]+)` \|", SECTION, re.MULTILINE)) == _reasons()


def test_every_series_of_what_is_used_is_in_the_table() -> None:
    told = re.findall(rf"^\| `{PREFIX}(share_[a-z_]+)` \|", PAGE, re.MULTILINE)
    assert sorted(told) == sorted(SERIES)
