"""Whose fault an XID is: docs/health.md says so to people, and pods are ended by it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from driver.vendors.nvidia_xids import APPLICATION, CERTAIN, TOLD_BY_STATE, fault_of

PAGE = (Path(__file__).parents[3] / "docs" / "health.md").read_text()


def _numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall("[0-9]+", text)}


@pytest.mark.parametrize("xid", sorted({48, 62, 64, 79, 95, 119, 120, 140, 143}))
def test_after_these_nvidia_says_that_nothing_goes_on_without_a_reset_or_another_card(xid: int) -> None:
    found = fault_of(xid, name="card")
    assert found is not None
    assert (found.certain, found.of_application, found.xid) == (True, False, xid)
    assert str(xid) in found.message


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 68, 109])
def test_these_are_an_applications_own_and_never_certain(xid: int) -> None:
    found = fault_of(xid, name="card")
    assert found is not None
    assert (found.certain, found.of_application) == (False, True)


@pytest.mark.parametrize("xid", [63, 92, 94, 154])
def test_of_these_the_cards_state_is_asked(xid: int) -> None:
    assert fault_of(xid, name="card") is None


@pytest.mark.parametrize("xid", [0, 1, 74, 8, 44, 999])
def test_any_other_is_a_suspicion_against_the_card(xid: int) -> None:
    found = fault_of(xid, name="card")
    assert found is not None
    assert (found.certain, found.of_application) == (False, False)


def test_docs_say_the_same_numbers() -> None:
    (certain,) = re.findall(r"^\| (`Xid[0-9]+`.*?) \| NVIDIA's driver reported this XID", PAGE, re.MULTILINE)
    assert _numbers(certain) == CERTAIN
    (own,) = re.findall(r"^XIDs ([0-9, and]+) are an application's own fault", PAGE, re.MULTILINE)
    assert _numbers(own) == APPLICATION
    (state,) = re.findall(r"XIDs ([0-9, and]+)\s+are told by the card's state", PAGE.replace("\n", " "))
    assert _numbers(state) == TOLD_BY_STATE
