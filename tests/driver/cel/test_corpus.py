"""The recorded answers of Kubernetes' own CEL package: ours agree, or are refused as not supported yet."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from driver.cel import (
    DeviceView,
    InvalidSelectorError,
    SelectorNotSupportedError,
    SelectorRaisedError,
    compile_selector,
)

CORPUS = Path(__file__).parents[2] / "corpora" / "cel"
UNSUPPORTED = "not supported yet"


def load(name: str) -> tuple[list[DeviceView], list[dict[str, Any]]]:
    with gzip.open(CORPUS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        first, *cases = (json.loads(line) for line in lines)
    return [DeviceView.build(one, driver=one["driver"]) for one in first["devices"]], cases


def outcome(expression: str, device: DeviceView) -> str:
    try:
        return str(compile_selector(expression, release="1.37").evaluate(device)).lower()
    except InvalidSelectorError:
        return "compile-error"
    except SelectorRaisedError:
        return "evaluation-error"
    except SelectorNotSupportedError:
        return UNSUPPORTED


@pytest.mark.parametrize(("name", "floor"), [("handwritten", 0.64), ("random", 0.54)])
def test_every_recorded_answer_is_ours_or_refused_as_not_supported_yet(name: str, floor: float) -> None:
    devices, cases = load(name)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for case in cases:
        ours = outcome(case["expression"], devices[case["device"]])
        if ours in {case["outcome"], UNSUPPORTED}:
            counts[UNSUPPORTED if ours == UNSUPPORTED else "agree"] += 1
        else:
            wrong.append(f"{case['expression']}: recorded {case['outcome']}, ours {ours}")
    rate = f"{counts['agree']} of {len(cases)} agree, {counts[UNSUPPORTED]} {UNSUPPORTED}"
    print(f"{name}: {rate}")  # noqa: T201 - the rate is what the run is for
    assert not wrong
    assert counts["agree"] >= floor * len(cases)
