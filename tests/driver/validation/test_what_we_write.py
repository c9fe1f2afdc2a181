"""What our own examples, classes and conversions say is never refused, on any release."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.explaining.classes import is_ours
from driver.cel.environments import RELEASES
from driver.validation.validate import KINDS, validate
from tests.driver.validation.cluster import facts
from tooling.generate.device_classes import VENDORS, device_classes

ROOT = Path(__file__).parents[3]
CLASSES = {one["metadata"]["name"]: one for one in device_classes(VENDORS)}


def written() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((ROOT / "manifests" / "examples").glob("*.yaml")):
        for document in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader):
            if document and document["kind"] in KINDS:
                yield f"{path.stem}: {document['kind']}", document
    for path in sorted((ROOT / "tests" / "driver" / "conversion" / "golden").glob("*/*.yaml")):
        found = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
        for template in found.get("templates") or ():
            yield f"{path.parent.name}/{path.stem}", template
    for name, document in CLASSES.items():
        yield name, document


@cache
def everything() -> tuple[tuple[str, dict[str, Any]], ...]:
    return tuple(written())


@pytest.mark.parametrize("release", RELEASES)
def test_nothing_that_we_write_ourselves_is_refused(release: str) -> None:
    newer = RELEASES[release] >= (1, 36)
    known = facts(
        release=release,
        amounts_kept=newer,
        native=newer,
        classes=CLASSES,
        is_ours=lambda name: name in CLASSES,
        class_is_ours=is_ours,
    )
    assert len(everything()) > 100
    refused = {
        name: [str(one) for one in found.errors]
        for name, document in everything()
        if (found := validate(document["kind"], document, facts=known)).errors
    }
    assert refused == {}
