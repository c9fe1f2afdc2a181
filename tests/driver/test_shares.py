from __future__ import annotations

import pytest

from driver.errors import InvalidInputError
from driver.shares import Share


def share(**fields: object) -> Share:
    return Share(**{"claim_uid": "u", "request": "r", "device": "d", "memory_mib": 4096, **fields})  # type: ignore[arg-type]


def test_a_share_never_has_zero_memory() -> None:
    with pytest.raises(InvalidInputError, match="at least 1 MiB"):
        share(memory_mib=0)


@pytest.mark.parametrize("cores", [-1, 101])
def test_compute_outside_a_card_is_refused(cores: int) -> None:
    with pytest.raises(InvalidInputError, match="percent from 0 to 100"):
        share(cores_percent=cores)


@pytest.mark.parametrize(("cores", "limited"), [(0, False), (1, True), (99, True), (100, False)])
def test_no_cores_and_all_cores_both_mean_no_cap(cores: int, limited: bool) -> None:
    assert share(cores_percent=cores).limits_cores is limited


def test_a_whole_card_needs_no_memory_limit() -> None:
    assert not share(whole=True).limits_memory


def test_a_whole_card_of_which_a_policy_reserves_memory_is_limited() -> None:
    assert share(whole=True, memory_reserved=True).limits_memory


def test_an_admin_share_has_no_limits_and_needs_no_amounts() -> None:
    admin = share(admin=True, memory_mib=0)
    assert not admin.limits_memory
    assert not admin.limits_cores


def test_the_base_request_has_no_subrequest() -> None:
    assert share(request="card/small").base_request == "card"
