from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tooling.generate.chart_values import leaves, values_page, values_schema, values_yaml
from tooling.generate.values import ChartValues

_DRAFT_7 = {
    "$schema", "additionalProperties", "description", "enum", "items", "maximum", "minimum", "pattern",
    "properties", "type",
}  # fmt: skip


def _keywords(schema: dict[str, Any]) -> set[str]:
    found = set(schema)
    for child in schema.get("properties", {}).values():
        found |= _keywords(child)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            found |= _keywords(schema[name])
    return found


def test_the_values_file_holds_the_defaults_of_the_model() -> None:
    written = yaml.safe_load(values_yaml())
    assert written == ChartValues().model_dump(by_alias=True)
    assert ChartValues.model_validate(written) == ChartValues()


def test_the_schema_uses_words_that_every_helm_3_knows() -> None:
    assert _keywords(values_schema()) <= _DRAFT_7


def test_the_schema_refuses_misspelt_names_at_every_level() -> None:
    def closed(schema: dict[str, Any]) -> bool:
        properties = schema.get("properties", {})
        mine = schema.get("additionalProperties") is False if properties else True
        return mine and all(closed(child) for child in properties.values())

    assert closed(values_schema())


def test_charts_that_hold_ours_may_hand_it_global_values() -> None:
    assert values_schema()["properties"]["global"]["type"] == "object"


def test_the_page_has_a_row_for_every_value() -> None:
    page = values_page()
    assert [path for path, _, _ in leaves() if f"| `{path}` |" not in page] == []


@pytest.mark.parametrize(
    "given",
    [
        {"host": {"kubeletRoot": "var/lib/kubelet"}},
        {"host": {"kubletRoot": "/var/lib/kubelet"}},
        {"preload": {"library": "libvgpu.so"}},
        {"controller": {"replicas": 0}},
        {"agent": {"logLevel": "loud"}},
    ],
)
def test_values_that_cannot_mean_anything_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChartValues.model_validate(given)
