"""Every kind of answer, as a person reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.controller.cli.cases import CASES, NOTE
from tests.controller.cli.update_golden import GOLDEN, text_of
from tests.controller.cli.world import World, dragoman

EXPLAINED = sorted(name for name, make in CASES.items() if make()[1][0] == "explain")
OTHERS = ("team-b", "team-c", "nvidia-b", "nvidia-c")


@pytest.mark.parametrize("name", CASES)
def test_an_answer_reads_as_the_golden_text_says(name: str, tmp_path: Path) -> None:
    assert text_of(name, tmp_path) == (GOLDEN / f"{name}.txt").read_text()


def test_there_is_no_golden_text_without_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("name", EXPLAINED)
def test_with_rights_in_one_namespace_an_answer_names_nothing_of_others(name: str, tmp_path: Path) -> None:
    world, arguments = CASES[name]()
    world.namespace_only = "team-a"
    done = dragoman(world, tmp_path, *arguments, columns=100)
    assert done.status == 0
    own = str([one for one in world.claims if one["metadata"]["namespace"] == "team-a"])
    assert not [word for word in OTHERS if word in done.out and word not in own]
    if (
        world.events
        and any(one["message"] == NOTE for one in world.events)
        and "The controller's" in done.out
    ):
        assert NOTE in done.out


@pytest.mark.parametrize("name", CASES)
def test_json_and_yaml_hold_the_same(name: str, tmp_path: Path) -> None:
    world, arguments = CASES[name]()
    as_json = dragoman(world, tmp_path, *arguments, "-o", "json")
    as_yaml = dragoman(world, tmp_path, *arguments, "-o", "yaml")
    assert as_json.status == as_yaml.status
    assert _fixed(json.loads(as_json.out)) == _fixed(_yaml(as_yaml.out))


def _yaml(text: str) -> object:
    import yaml  # noqa: PLC0415 - for this test alone

    return yaml.safe_load(text)


def _fixed(document: object) -> object:
    """Without what counts seconds."""
    if isinstance(document, dict) and isinstance(document.get("mode"), dict):
        return {**document, "mode": {**document["mode"], "waitsFor": []}}
    return document


def test_the_worlds_of_cases_are_made_anew_each_time() -> None:
    make = CASES["in-use"]
    assert isinstance(make()[0], World)
    assert make()[0] is not make()[0]
