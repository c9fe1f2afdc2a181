"""Refusals have the names that kube-scheduler's allocator gives them."""

from __future__ import annotations

import pytest

from driver.allocation import Refusal, error_kind, node_only
from driver.allocation import errors as all_errors
from driver.errors import AllocationError

# The kinds of the reference that are of one node only, or no error at all.
UNHARMED = {"NoDevice", "NoCombination"}


def refusal(reason: str) -> Refusal:
    return Refusal(reason, "why")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("NoDevice", None),
        ("NoCombination", None),
        ("SelectorFailed", "cel-runtime"),
        ("SelectorInvalid", "cel-compile"),
        ("AllPoolInvalid", "all-invalid-pool"),
        ("PoolIncomplete", "all-incomplete-pool"),
        ("ConstraintUnknown", "unknown-constraint"),
        ("CapacityNotRepresentable", "capacity-not-representable"),
        ("SearchLimit", "search-limit"),
        ("OverLimit", "over-limit"),
    ],
)
def test_a_refusal_is_named_as_the_reference_names_it_or_in_small_letters(
    reason: str, kind: str | None
) -> None:
    assert error_kind(refusal(reason)) == kind


def test_every_error_of_the_package_has_a_name_of_its_own() -> None:
    found = [one for one in vars(all_errors).values() if isinstance(one, type)]
    reasons = [one.reason for one in found if issubclass(one, AllocationError) and one is not AllocationError]
    names = [error_kind(refusal(reason)) for reason in reasons if reason not in UNHARMED]
    assert None not in names
    assert len(set(names)) == len(names)


def test_only_an_invalid_pool_is_an_error_of_one_node() -> None:
    assert node_only(refusal("PoolInvalid"))
    assert not node_only(refusal("AllPoolInvalid"))
    assert not node_only(refusal("NoDevice"))
