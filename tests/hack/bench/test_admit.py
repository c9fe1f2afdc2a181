"""Requests, tables, and one short run against the real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tooling.bench import __main__ as command
from tooling.bench import admit
from tooling.bench.admit_world import CASES, QUOTA_NAMESPACE


def test_no_two_requests_of_a_case_are_alike() -> None:
    for case in CASES:
        first, second = (json.loads(case.body(number)) for number in (1, 2))
        assert first["request"]["uid"] != second["request"]["uid"]


def test_only_the_last_case_has_a_quota() -> None:
    namespaces = [json.loads(case.body(1))["request"]["namespace"] for case in CASES]
    assert namespaces == ["apps", "apps", "apps", QUOTA_NAMESPACE]


def test_the_table_has_both_and_their_ratio() -> None:
    slow = admit.Measured(milliseconds=(2.0, 4.0), alone=100.0, at_once=200.0, inside=(0.5, 0.7))
    fast = admit.Measured(milliseconds=(1.0, 2.0), alone=200.0, at_once=800.0)
    found = {(case.name, who): [one] for case in CASES for who, one in (("ours", slow), ("nothing", fast))}
    lines = admit.figures_table(found).splitlines()
    assert len(lines) == 2 + 3 * len(CASES)
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
    assert cells == ["pod that is none of ours: ratio", "2.00", "2.00", "0.50", "0.25", "", ""]


def test_a_short_run_answers_every_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    flags = ["--requests", "3", "--rounds", "2", "--nodes", "2", "--json", str(out)]
    assert command.main(["admit", *flags]) == 0
    assert "inside the webhook" in capsys.readouterr().out
    document = json.loads(out.read_text())
    assert len(document) == 2 * len(CASES)
    for name, rounds in document.items():
        assert [len(one["milliseconds"]) for one in rounds] == [3, 3]
        assert all(bool(one["inside"]) == name.endswith(": ours") for one in rounds)
