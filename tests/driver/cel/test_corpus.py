"""The recorded answers of Kubernetes' own CEL package are ours."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from driver.cel import (
    DeviceView,
    InvalidSelectorError,
    SelectorRaisedError,
    compile_selector,
)

CORPUS = Path(__file__).parents[2] / "corpora" / "cel"


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


@pytest.mark.parametrize("name", ["handwritten", "random"])
def test_every_recorded_answer_is_ours(name: str) -> None:
    devices, cases = load(name)
    wrong: list[str] = []
    for case in cases:
        ours = outcome(case["expression"], devices[case["device"]])
        if ours != case["outcome"]:
            wrong.append(f"{case['expression']}: recorded {case['outcome']}, ours {ours}")
    assert not wrong
