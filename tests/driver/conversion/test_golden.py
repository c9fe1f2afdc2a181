from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from driver.vendors.catalogue import VENDORS
from tests.driver.conversion.golden_files import answered, files, name_of, read, text_of

CASES = {name_of(path): read(path) for path in files()}


def limits_of(case: dict[str, Any]) -> list[dict[str, str]]:
    spec = case["before"]["spec"]
    return [
        one.get("resources", {}).get("limits", {})
        for one in (*spec.get("initContainers", ()), *spec["containers"])
    ]


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_a_pod_of_before_becomes_what_its_golden_file_says(path: Path) -> None:
    case = read(path)
    assert answered(case) == case


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_a_golden_file_is_as_the_update_command_writes_it(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == text_of(read(path))


def test_every_name_of_every_vendor_has_a_golden_file_in_which_it_is_converted() -> None:
    converted = {
        name for case in CASES.values() if case.get("templates") for one in limits_of(case) for name in one
    }
    names = {name for facts in VENDORS for entry in facts.legacy for name in entry.names}
    assert names - converted == set()


def test_every_annotation_that_chooses_cards_is_in_a_golden_file() -> None:
    said = {key for case in CASES.values() for key in case["before"]["metadata"].get("annotations", ())}
    keys = {key for facts in VENDORS for entry in facts.legacy for _, key in entry.annotations}
    assert keys - said == set()


@pytest.mark.parametrize(
    ("count", "template"),
    [(entry.count, template) for facts in VENDORS for entry in facts.legacy for template in entry.templates],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
def test_every_template_has_a_golden_file_in_which_its_size_is_asked(count: str, template: Any) -> None:
    asked = [
        request["exactly"]["capacity"]["requests"]
        for case in CASES.values()
        if any(count in one for one in limits_of(case))
        for document in case.get("templates", ())
        for request in document["spec"]["spec"]["devices"]["requests"]
        if "capacity" in request.get("exactly", {})
    ]
    mib = template.memory_mib
    memory = f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"
    assert {"cores": str(template.cores_percent), "memory": memory} in asked
