"""New cases: made from a seed, answered by both sides, compared. The reference here is a stand-in."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from driver.allocation import Snapshot
from driver.cel import DeviceView
from tooling.replay import __main__ as command
from tooling.replay import fresh_allocator, fresh_cel, reference
from tooling.replay.allocations import answer, inputs
from tooling.replay.by_cluster import differing_nodes, is_stock
from tooling.replay.cel_types import parse_type
from tooling.replay.errors import ReplayError
from tooling.replay.fresh import close
from tooling.replay.generate_allocator import case
from tooling.replay.generate_cel import TIMES, Grammar
from tooling.replay.lines import Line
from tooling.replay.selectors import outcome

ENVIRONMENT = {
    "overloads": [
        {"function": "_+_", "id": "add_int64", "member": False, "arguments": ["int", "int"], "result": "int"},
        {"function": "size", "id": "list_size", "member": True, "arguments": ["list(<A>)"], "result": "int"},
        {
            "function": "trim",
            "id": "string_trim",
            "member": True,
            "arguments": ["string"],
            "result": "string",
        },
        {
            "function": "optional.none",
            "id": "optional_none",
            "member": False,
            "arguments": None,
            "result": "optional_type(<V>)",
        },
        {
            "function": "_[_]",
            "id": "index_map",
            "member": False,
            "arguments": ["map(<A>, <B>)", "<A>"],
            "result": "<B>",
        },
        {
            "function": "@sortByAssociatedKeys",
            "id": "list_int_sortByAssociatedKeys",
            "member": True,
            "arguments": ["list(<T>)", "list(int)"],
            "result": "list(<T>)",
        },
        {
            "function": "path",
            "id": "authorizer_path",
            "member": True,
            "arguments": ["kubernetes.authorization.Authorizer", "string"],
            "result": "bool",
        },
    ],
    "macros": ["all:2:true"],
}


class StandIn:
    """Answers selectors as ours does, but for one in ten, if it is told to lie."""

    def __init__(self, *, lies: bool = False) -> None:
        self._lies = lies

    def ask(self, command: str, *_: str, lines: Any = ()) -> list[Any]:
        if command == "environment":
            return [ENVIRONMENT]
        if command == "literals":
            return [None for _ in lines]
        if command == "allocator":
            return [self._allocated(place, one) for place, one in enumerate(lines)]
        first, *cases = lines
        views = [DeviceView.build(one, driver=one["driver"]) for one in first["devices"]]
        return [self._selected(place, one, views) for place, one in enumerate(cases)]

    def _selected(self, place: int, line: dict[str, Any], views: list[DeviceView]) -> dict[str, Any]:
        ours = outcome(line["expression"], views[line["device"]], release="1.37")
        lie = self._lies and place % 10 == 0 and ours == "true"
        return {"outcome": "false" if lie else ours, "overloads": ["add_int64"]}

    def _allocated(self, place: int, line: dict[str, Any]) -> dict[str, Any]:
        ours = answer(inputs(Line(1, line)), release="1.37")
        if self._lies and place % 10 == 0:
            ours["nodes"][0] = {"node": ours["nodes"][0]["node"], "allocations": None, "errorKind": "other"}
        return ours


def grammar(seed: int = 1) -> Grammar:
    return Grammar(ENVIRONMENT, random.Random(seed))


def test_types_are_read_with_what_is_inside_them() -> None:
    assert parse_type("map(string, list(<A>))").parameters[1].parameters[0].is_parameter


def test_the_same_seed_makes_the_same_selectors() -> None:
    assert [one.text for one in grammar().probes(300)] == [one.text for one in grammar().probes(300)]
    assert [one.text for one in grammar(2).probes(300)] != [one.text for one in grammar().probes(300)]


def test_each_overload_that_can_be_reached_is_called_on_purpose() -> None:
    texts = [one.text for one in grammar().probes(0)]
    for sign in (" + ", ".size()", ".trim()", "optional.none()", "[", ".sortBy("):
        assert sum(sign in text for text in texts) >= TIMES
    assert not any(".path(" in text for text in texts)


def test_the_same_seed_makes_the_same_problems() -> None:
    assert fresh_allocator.problems(4, 5) == fresh_allocator.problems(4, 5)
    assert fresh_allocator.problems(4, 5) != fresh_allocator.problems(5, 5)


def test_problems_have_one_place_for_each_slice_and_unique_names_within_it() -> None:
    for problem in fresh_allocator.problems(1, 120):
        for one in problem["slices"]:
            spec = one["spec"]
            assert (
                sum(
                    field in spec
                    for field in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
                )
                == 1
            )
            names = [device["name"] for device in spec.get("devices", ())]
            assert len(set(names)) == len(names)
            assert not (spec.get("devices") and spec.get("sharedCounters"))


def test_problems_can_be_read_and_hold_what_decides_allocations() -> None:
    rng = random.Random(3)
    tags = set()
    for place in range(150):
        problem = case(rng, f"c{place}")
        tags |= set(problem["tags"])
        snapshot = Snapshot.build(slices=problem["slices"], classes=problem["classes"])
        assert not [one.problem for one in snapshot.slices if one.problem]
    assert tags >= {
        "All",
        "adminAccess",
        "binding",
        "claims",
        "distinctAttribute",
        "firstAvailable",
        "incomplete",
    }
    assert tags >= {
        "invalid",
        "matchAttribute",
        "partitions",
        "per-device",
        "shares",
        "stale",
        "taints",
        "capacity",
    }


@pytest.mark.parametrize("lies", [False, True])
def test_selectors_that_disagree_are_found_and_others_are_not(lies: bool) -> None:
    found = fresh_cel.compare(StandIn(lies=lies), release="1.37", seed=1, count=200)  # type: ignore[arg-type]
    assert bool(found.wrong) is lies
    assert found.used["_+_"] > 0
    assert found.rare == sorted(set(found.rare) - {"add_int64"})


def test_a_disagreement_is_two_lines_of_a_corpus() -> None:
    found = fresh_cel.compare(StandIn(lies=True), release="1.37", seed=1, count=200)  # type: ignore[arg-type]
    devices, line = found.wrong[0]
    assert len(devices["devices"]) == 1
    assert (line["device"], line["outcome"], line["ours"]) == (0, "false", "true")


@pytest.mark.parametrize("lies", [False, True])
def test_allocations_that_disagree_are_found_and_others_are_not(lies: bool) -> None:
    runs = fresh_allocator.compare_both({"1.37": StandIn(lies=lies)}, seed=1, count=40)  # type: ignore[dict-item]
    assert bool(runs["1.37"].wrong) is lies
    assert runs["1.37"].outcomes >= 40


def test_what_the_reference_answers_by_chance_is_left_out() -> None:
    class Dice(StandIn):
        def _allocated(self, place: int, line: dict[str, Any]) -> dict[str, Any]:
            return {**super()._allocated(place, line), "random": True}

    runs = fresh_allocator.compare_both({"1.37": Dice(lies=True)}, seed=1, count=10)  # type: ignore[dict-item]
    assert (runs["1.37"].outcomes, runs["1.37"].chance) == (0, 10)


def test_counters_of_pools_on_other_nodes_are_taken_away_and_no_others() -> None:
    def slice_of(pool: str, node: str, **spec: Any) -> dict[str, Any]:
        return {"spec": {"driver": "d", "pool": {"name": pool}, "nodeName": node, **spec}}

    here, there = slice_of("p", "a", sharedCounters=[1]), slice_of("q", "b", sharedCounters=[1])
    devices = slice_of("q", "b", devices=[1])
    problem = {"slices": [here, there, devices], "tryNodes": ["a", "b"]}
    pruned = fresh_allocator.without_foreign_counters(problem, "a")
    assert pruned is not None
    assert pruned["slices"] == [here, devices]
    assert fresh_allocator.without_foreign_counters({"slices": [here]}, "a") is None


def test_a_disagreement_ends_with_1_and_is_printed_for_the_regression_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert close({"1.36": [[{"devices": []}, {"device": 0}]]}, {"1.36": "rates"}, seed=7) == 1
    assert '{"devices": []}\n{"device": 0}\n' in capsys.readouterr().out
    assert close({"1.36": []}, {"1.36": "rates"}, seed=7) == 0


def test_without_go_it_says_what_to_install_and_ends_with_3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["cel", "--fresh", "1"]) == 3
    assert "Install Go 1.26" in capsys.readouterr().err


def test_a_seed_is_printed_even_if_it_was_chosen_by_chance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    command.main(["allocator", "--fresh"])
    assert "seed " in capsys.readouterr().out


def test_a_program_that_is_there_is_used_and_its_lines_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path))
    monkeypatch.setattr(reference, "_key", lambda: "abc")
    program = tmp_path / "bin" / "reference-1.36-abc" / "reference"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\ncat\n")
    program.chmod(0o755)
    built = reference.build("1.36", report=lambda _: None)
    assert built.ask("cel", lines=[{"a": 1}, "b"]) == [{"a": 1}, "b"]


def test_a_program_that_fails_says_so(tmp_path: Path) -> None:
    program = tmp_path / "reference"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 2\n")
    program.chmod(0o755)
    with pytest.raises(ReplayError, match="broken"):
        reference.Reference(program).ask("cel")


def test_another_source_is_another_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main")
    monkeypatch.setattr(reference, "SOURCES", tmp_path)
    before = reference._key()
    (tmp_path / "main.go").write_text("package main // changed")
    assert reference._key() != before


def test_options_name_the_number_of_cases(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fresh_cel, "build", lambda *_, **__: StandIn())
    options = SimpleNamespace(what="cel", fresh=5, cases=50, kubernetes="1.37")
    assert fresh_cel.run(options) == 0  # type: ignore[arg-type]
    assert "1.37, seed 5:" in capsys.readouterr().out


def test_an_error_of_the_reference_alone_is_no_disagreement_if_the_newer_release_agrees() -> None:
    class Failing(StandIn):
        def _selected(self, place: int, line: dict[str, Any], views: list[DeviceView]) -> dict[str, Any]:
            told = super()._selected(place, line, views)
            if told["outcome"] == "true":
                told |= {"outcome": "evaluation-error", "message": "unsupported conversion to ref.Val: x"}
            return told

    class Newer(StandIn):
        def ask(self, command: str, *flags: str, lines: Any = ()) -> list[Any]:
            return [one["outcome"] for one in super().ask(command, *flags, lines=lines)]

    mended = fresh_cel.compare(Failing(), release="1.37", seed=1, count=100, newer=Newer())  # type: ignore[arg-type]
    assert not mended.wrong
    assert mended.flaws
    alone = fresh_cel.compare(Failing(), release="1.37", seed=1, count=100)  # type: ignore[arg-type]
    assert alone.wrong


def test_a_cluster_that_answers_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_allocator, "differing_nodes", lambda *_, **__: ["node-1"])
    runs = fresh_allocator.compare_both({"1.37": StandIn()}, seed=1, count=5)  # type: ignore[dict-item]
    assert runs["1.37"].wrong[0]["clusterDiffersOn"] == ["node-1"]


def test_the_cluster_is_held_to_what_is_answered_node_by_node() -> None:
    problem = next(one for one in fresh_allocator.problems(1, 50) if is_stock(one))
    ours = answer(inputs(Line(1, problem)), release="1.36")
    assert differing_nodes(problem, ours, release="1.36") == []
    for one in ours["nodes"]:
        one["allocations"] = None if one["allocations"] else [{}]
    assert differing_nodes(problem, ours, release="1.36") == problem["tryNodes"]
