from __future__ import annotations

from typing import Any

import pytest

from tooling.replay.check import AllocationCheck, SelectorCheck, percent
from tooling.replay.errors import ReplayError
from tooling.replay.judge import compare, flaw_not_copied, plain
from tooling.replay.lines import Line

NONE: dict[str, Any] = {"node": "n", "allocations": None}


def error(kind: str) -> dict[str, Any]:
    return {**NONE, "errorKind": kind}


def given(device: str, **more: Any) -> dict[str, Any]:
    result = {"request": "r", "driver": "d", "pool": "p", "device": device, **more}
    return {"node": "n", "allocations": [{"devices": {"results": [result]}}]}


def case(*, why: str = "rule", **more: Any) -> Line:
    return Line(1, {"id": "c", "why": why, **more})


def answered(check: AllocationCheck, line: Line, ours: dict[str, Any]) -> list[str]:
    return check.add(line, {"id": "c", "nodes": [ours]})


def test_absent_null_and_empty_are_the_same() -> None:
    assert plain({"a": {"b": []}, "c": None, "d": ""}) == plain({}) == {}


def test_amounts_are_equal_by_number_and_told_apart_by_text() -> None:
    verdict = compare(
        given("a", consumedCapacity={"memory": "4096Mi"}), given("a", consumedCapacity={"memory": "4Gi"})
    )
    assert (verdict.exact, verdict.alike) == (True, False)


def test_another_amount_is_not_exact() -> None:
    verdict = compare(
        given("a", consumedCapacity={"memory": "4Gi"}), given("a", consumedCapacity={"memory": "5Gi"})
    )
    assert (verdict.feasible, verdict.exact) == (True, False)


def test_errors_agree_only_with_the_same_kind() -> None:
    assert compare(error("cel-runtime"), error("cel-runtime")).exact
    assert not compare(error("cel-runtime"), error("cel-compile")).feasible
    assert not compare(error("cel-runtime"), NONE).feasible


@pytest.mark.parametrize("theirs", [NONE, error("cel-runtime")])
def test_allocating_what_cannot_be_is_told_apart(theirs: dict[str, Any]) -> None:
    assert compare(given("a"), theirs).over
    assert not compare(theirs, given("a")).over


def test_an_empty_list_of_claims_is_a_solution() -> None:
    empty = {"node": "n", "allocations": []}
    assert compare(empty, empty).exact
    assert not compare(empty, NONE).feasible


def test_what_only_the_newer_release_avoids_is_a_flaw() -> None:
    assert flaw_not_copied(NONE, given("a"), NONE)
    assert not flaw_not_copied(given("b"), given("a"), NONE)
    assert not flaw_not_copied(NONE, given("a"), given("a"))
    assert not flaw_not_copied(NONE, given("a"), None)


def test_agreement_everywhere_is_enough() -> None:
    check = AllocationCheck("1.36")
    assert answered(check, case(expected={"nodes": [given("a")]}), given("a")) == []
    assert check.enough


def test_a_handwritten_case_with_another_feasibility_is_not_enough() -> None:
    check = AllocationCheck("1.36")
    for _ in range(999):
        answered(check, case(expected={"nodes": [NONE]}), NONE)
    (told,) = answered(check, case(expected={"nodes": [given("a")]}), NONE)
    assert "no solution" in told
    assert not check.enough


def test_one_allocation_too_many_is_not_enough() -> None:
    check = AllocationCheck("1.36")
    for _ in range(9999):
        answered(check, Line(1, {"id": "c", "tags": [], "expected": {"nodes": [NONE]}}), NONE)
    answered(check, Line(1, {"id": "c", "tags": [], "expected": {"nodes": [NONE]}}), given("a"))
    assert not check.enough


def test_lines_with_a_quirk_count_neither_way() -> None:
    check = AllocationCheck("1.36")
    answered(check, case(expected={"nodes": [NONE]}), NONE)
    assert answered(check, case(quirk=True, expected={"nodes": [given("a")]}), NONE) == []
    assert check.enough
    assert "1 on lines marked quirk" in check.table()


def test_the_newer_release_is_held_to_its_own_answer() -> None:
    line = case(expected={"nodes": [given("a")]}, expected137={"nodes": [given("b")]})
    assert answered(AllocationCheck("1.37"), line, given("b")) == []
    assert answered(AllocationCheck("1.37"), line, given("a")) != []


def test_a_case_without_recorded_answer_cannot_be_checked() -> None:
    with pytest.raises(ReplayError, match="line 1: nothing to check against"):
        answered(AllocationCheck("1.36"), case(), NONE)
    with pytest.raises(ReplayError, match="line 1: nothing to check against"):
        SelectorCheck().add(Line(1, {"device": 0, "expression": "true"}), "true")


@pytest.mark.parametrize(("wrong", "enough"), [(1, True), (2, False)])
def test_one_in_a_thousand_selectors_may_disagree(wrong: int, enough: bool) -> None:
    check = SelectorCheck()
    line = Line(1, {"device": 0, "expression": "true", "outcome": "true"})
    for place in range(1000):
        check.add(line, "false" if place < wrong else "true")
    assert check.enough is enough


def test_a_hundred_percent_is_said_of_all_only() -> None:
    assert percent(99_999, 100_000) == "99.99"
    assert percent(7, 7) == "100.00"
    assert percent(0, 0) == "-"
