from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.errors import IsolationError
from driver.isolation.service_shares import NAME, MpsShare, mps_share, namespace_name, server_name
from driver.shares import Share

CARD = "GPU-8c8ebe11-7a3d-4b17-a6a9-1f0e4b8f4c0e"


def share(**changes: object) -> Share:
    given: dict[str, object] = {
        "claim_uid": "0f0e",
        "request": "gpu",
        "device": "nvidia-0",
        "share_id": "a",
        "memory_mib": 4096,
        "cores_percent": 30,
    }
    return Share(**{**given, **changes})  # type: ignore[arg-type]


def test_a_share_has_its_memory_and_its_cap() -> None:
    wanted = mps_share(share(), card_uuid=CARD, holds_cores=True)
    assert (wanted.memory_mib, wanted.cores_percent, wanted.card) == (4096, 30, CARD)
    assert wanted.memory_limit == "4096M"


def test_a_cap_that_another_method_holds_is_not_set_and_memory_is_all_the_same() -> None:
    wanted = mps_share(share(), card_uuid=CARD, holds_cores=False)
    assert (wanted.memory_mib, wanted.cores_percent) == (4096, 0)


def test_a_whole_card_with_a_cap_has_no_limit_on_memory() -> None:
    wanted = mps_share(share(whole=True), card_uuid=CARD, holds_cores=True)
    assert (wanted.memory_mib, wanted.memory_limit, wanted.cores_percent) == (0, "", 30)


def test_what_would_have_no_limit_at_all_is_refused_as_it_would_be_the_whole_card() -> None:
    with pytest.raises(IsolationError, match="whole card"):
        mps_share(share(whole=True, cores_percent=0), card_uuid=CARD, holds_cores=True)


@pytest.mark.parametrize("uuid", ["", "0", "all", "MIG-32e533b7-dc11-5153", f"{CARD},{CARD}", "GPU-1\n"])
def test_only_one_whole_card_by_its_uuid_is_ever_named_to_mps(uuid: str) -> None:
    with pytest.raises(IsolationError, match="UUID of a whole NVIDIA card"):
        mps_share(share(), card_uuid=uuid, holds_cores=True)


@pytest.mark.parametrize(
    ("changes"),
    [
        {"name": "Upper"},
        {"name": "a" * 65},
        {"server": ""},
        {"name": "a-b"},
        {"memory_mib": -1},
        {"cores_percent": 100},
    ],
)
def test_what_mps_does_not_take_is_refused(changes: dict[str, object]) -> None:
    given: dict[str, object] = {
        "claim_uid": "u",
        "name": "n",
        "server": "s",
        "card": CARD,
        "memory_mib": 1,
        "cores_percent": 1,
    }
    with pytest.raises(IsolationError):
        MpsShare(**{**given, **changes})  # type: ignore[arg-type]


words = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=63)
keys = st.tuples(words, words, words, words)


@given(keys, keys)
def test_two_shares_never_have_one_namespace(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    names = [
        namespace_name(share(claim_uid=uid, request=request, device=device, share_id=share_id))
        for uid, request, device, share_id in (first, second)
    ]
    assert all(NAME.fullmatch(name) for name in names)
    assert (names[0] == names[1]) == (first == second)


@given(words, words)
def test_two_cards_never_have_one_server(first: str, second: str) -> None:
    names = [server_name(f"GPU-{uuid}") for uuid in (first, second)]
    assert all(NAME.fullmatch(name) for name in names)
    assert (names[0] == names[1]) == (first == second)


@given(st.integers(1, 1 << 20), st.integers(1, 99))
def test_what_was_set_is_recognised_however_it_is_printed(memory: int, cores: int) -> None:
    wanted = mps_share(share(memory_mib=memory, cores_percent=cores), card_uuid=CARD, holds_cores=True)
    for printed in {f"{memory}M", f"{memory * 1024}K", f"{memory >> 10}G" if memory >> 10 else f"{memory}M"}:
        assert wanted.held_by(memory=printed, cores=f"{cores}.0")
        assert wanted.held_by(memory=f" {printed} ", cores=f"{cores}%")


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 20))
def test_another_limit_on_memory_is_never_taken_for_it(wanted: int, printed: int) -> None:
    one = mps_share(share(memory_mib=wanted, cores_percent=0), card_uuid=CARD, holds_cores=True)
    assert one.held_by(memory=f"{printed}M", cores="-") == (wanted == printed)


@pytest.mark.parametrize(
    ("wanted", "printed", "same"),
    [
        (4096, "4G", True),
        (5000, "4G", True),  # as the older protocol prints it
        (4096, "5G", False),
        (4096, "3G", False),
        (4096, "80G", False),
        (1000, "1G", False),
        (1000, "0G", False),
    ],
)
def test_whole_gigabytes_are_a_limit_only_if_it_has_so_many_of_them(
    wanted: int, printed: str, same: bool
) -> None:
    one = mps_share(share(memory_mib=wanted), card_uuid=CARD, holds_cores=True)
    assert one.held_by(memory=printed, cores="30") is same


@pytest.mark.parametrize(
    "printed", ["-", "", "0M", "none", "max", "4096", "-4096M", "4G,8G", "9" * 5000 + "M"]
)
def test_no_limit_and_nonsense_are_never_taken_for_a_limit(printed: str) -> None:
    wanted = mps_share(share(memory_mib=4095), card_uuid=CARD, holds_cores=True)
    assert not wanted.held_by(memory=printed, cores="30")


@pytest.mark.parametrize("printed", ["-", "", "100", "31", "0", "nan"])
def test_no_cap_is_never_taken_for_a_cap(printed: str) -> None:
    wanted = mps_share(share(), card_uuid=CARD, holds_cores=True)
    assert not wanted.held_by(memory="4096M", cores=printed)
