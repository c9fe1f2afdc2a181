"""What the filters answer, from nothing but a case's inputs."""

from __future__ import annotations

import gzip
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from driver.errors import InvalidInputError
from tooling.replay import __main__ as command
from tooling.replay import allocations, selectors
from tooling.replay.errors import ReplayError
from tooling.replay.lines import Line, read

CORPORA = Path(__file__).parents[2] / "corpora"
DEVICES = [{"driver": "d", "attributes": {"a": {"int": 3}}}, {"driver": "e"}]


def corpus(name: str) -> Iterator[Line]:
    with gzip.open(CORPORA / f"{name}.jsonl.gz") as stream:
        yield from read(stream)


def answers(lines: list[dict[str, Any]], release: str = "1.37") -> list[str]:
    filtered = selectors.Selectors(release)
    found = [filtered.answer(Line(number, value)) for number, value in enumerate(lines, 1)]
    return [one for one in found if one is not None]


def replay(monkeypatch: pytest.MonkeyPatch, content: bytes, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    return command.main(arguments)


def asked(expression: str, device: int = 0) -> dict[str, Any]:
    return {"device": device, "expression": expression}


def test_each_outcome_has_its_word() -> None:
    text = 'device.attributes["d"].a'
    lines = [asked(f"{text} == 3"), asked(f"{text} == 4"), asked(f"{text} =="), asked(f"{text} == 3", 1)]
    assert answers([{"devices": DEVICES}, *lines]) == ["true", "false", "compile-error", "evaluation-error"]


def test_a_later_line_of_devices_replaces_the_first() -> None:
    question = asked('device.driver == "e"')
    assert answers([{"devices": DEVICES}, question, {"devices": DEVICES[1:]}, question]) == ["false", "true"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"device": 2, "expression": "true"}, "line 2: 'device' has to be an index below 2"),
        ({"device": "0", "expression": "true"}, "line 2: 'device' has to be an index"),
        ({"device": 0}, "line 2: a case needs an 'expression'"),
        ({"devices": 1}, "line 2: 'devices' has to be a list"),
        ({"devices": [{}]}, r"line 2: devices\[0\] cannot be read"),
    ],
)
def test_a_line_that_is_no_selector_case_is_refused_with_its_number(line: dict[str, Any], said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        answers([{"devices": DEVICES}, line])


def test_an_error_of_ours_is_an_answer_and_no_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(selectors, "compile_selector", broken)
    assert answers([{"devices": DEVICES}, asked("true")]) == ["internal-error"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_changed_expectations_change_no_answer() -> None:
    for line in itertools.islice(corpus("allocator/handwritten"), 0, None, 6):
        other = {
            **line.value,
            "expected": {"nodes": []},
            "why": "",
            "quirk": True,
            "tags": ["x"],
            "expected137": 1,
        }
        plain = allocations.answer(allocations.inputs(line), release="1.36")
        assert allocations.answer(allocations.inputs(Line(1, other)), release="1.36") == plain


def test_changed_outcomes_change_no_answer() -> None:
    lines = [line.value for line in itertools.islice(corpus("cel/handwritten"), 0, 120)]
    changed = [{**line, "outcome": "nonsense", "category": "x"} for line in lines]
    assert answers(changed) == answers(lines)


def test_allocations_come_in_the_order_of_the_nodes_to_try_with_shares_counted_over_all_claims() -> None:
    line = next(line for line in corpus("allocator/random") if line.value["id"] == "r00000")
    found = allocations.answer(allocations.inputs(line), release="1.36")
    assert [one["node"] for one in found["nodes"]] == line.value["tryNodes"]
    results = found["nodes"][0]["allocations"][0]["devices"]["results"]
    assert [one["shareID"] for one in results] == [f"share-{place}" for place in range(len(results))]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(InvalidInputError("broken"), "invalid-input"), (ZeroDivisionError(), "internal-error")],
)
def test_a_case_that_fails_gets_an_answer_for_each_node(
    failure: Exception, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise failure

    monkeypatch.setattr(allocations.Snapshot, "build", broken)
    found = allocations.answer(
        allocations.inputs(Line(1, {"id": "c", "tryNodes": ["a", "b"]})), release="1.36"
    )
    assert [one["errorKind"] for one in found["nodes"]] == [kind, kind]
    assert "case c" in capsys.readouterr().err


def test_objects_that_are_none_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    for objects in (
        {"slices": [1]},
        {"classes": [{}]},
        {"claims": ["x"]},
        {"nodes": [None]},
        {"allocated": {"devices": [1]}},
    ):
        found = allocations.answer(
            allocations.inputs(Line(1, {"id": "c", "tryNodes": ["a"], **objects})), release="1.36"
        )
        assert [one["node"] for one in found["nodes"]] == ["a"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "line 3: a case needs an 'id'"),
        ({"id": "c", "slices": {}}, "line 3: case c: 'slices' has to be a list"),
        ({"id": "c", "features": []}, "line 3: case c: 'features' has to be an object"),
    ],
)
def test_a_line_that_is_no_allocation_case_is_refused_with_its_number(
    value: dict[str, Any], said: str
) -> None:
    with pytest.raises(ReplayError, match=said):
        allocations.inputs(Line(3, value))


def test_a_share_without_the_feature_holds_the_whole_device() -> None:
    share = {"driver": "d", "pool": "p", "device": "x", "shareID": "s", "consumedCapacity": {"memory": "1"}}

    def results(*, shares: bool) -> list[dict[str, Any]]:
        return [
            one["status"]["allocation"]["devices"]["results"][0]
            for one in allocations.held({"shares": [share]}, shares=shares)
        ]

    assert "shareID" in results(shares=True)[0]
    assert set(results(shares=False)[0]) == {"request", "driver", "pool", "device"}


def test_the_filter_writes_one_json_string_for_each_selector(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = "\n".join(json.dumps(one) for one in [{"devices": DEVICES}, asked("true"), asked("1")]).encode()
    assert replay(monkeypatch, gzip.compress(content), "cel") == 0
    assert capsys.readouterr().out == '"true"\n"compile-error"\n'


def test_checking_ends_with_1_where_the_agreement_is_too_low(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"devices": DEVICES}, {**asked("true"), "outcome": "false"}]
    content = "\n".join(json.dumps(one) for one in lines).encode()
    assert replay(monkeypatch, content, "cel", "--check") == 1
    assert "recorded false, ours true" in capsys.readouterr().out


def test_a_broken_line_ends_with_2_after_the_answers_before_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.dumps({"devices": DEVICES}).encode() + b'\n{"device": 0, "expression": "true"}\n{oops\n'
    assert replay(monkeypatch, content, "cel") == 2
    said = capsys.readouterr()
    assert said.out == '"true"\n'
    assert "line 3: not JSON" in said.err


def test_backquoted_names_exist_from_1_37_on() -> None:
    lines = [{"devices": DEVICES}, asked('device.`driver` == "d"')]
    assert (answers(lines, "1.37"), answers(lines, "1.36")) == (["true"], ["compile-error"])
