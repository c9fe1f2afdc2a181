"""One informer of claims for all parts of the controller."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from controller.claim_parts import ClaimParts, projection

CLAIM = {"metadata": {"namespace": "ns", "name": "c"}}


def broken(_document: Any) -> Any:
    raise KeyError("nobody thought of that")


def test_only_the_parts_that_there_are_are_made() -> None:
    project = projection(explained=lambda _one: "explained", charged=None)
    assert project(CLAIM) == ClaimParts(explained="explained")  # type: ignore[arg-type]


def test_a_claim_that_no_part_needs_is_not_kept() -> None:
    assert projection(explained=lambda _one: None, unnumbered=lambda _one: None)(CLAIM) is None


def test_a_claim_that_one_part_cannot_read_is_kept_for_the_others_and_named() -> None:
    project = projection(allocatable=broken, charged=lambda _one: "charged")
    with capture_logs() as logs:
        assert project(CLAIM) == ClaimParts(charged="charged")  # type: ignore[arg-type]
    assert [(one["part"], one["claim"]) for one in logs] == [("allocatable", "ns/c")]
