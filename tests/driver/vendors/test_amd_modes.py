from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.places import Place, exclude
from driver.vendors.amd_modes import Modes, mode_of, part_of

NAMES = ("SPX", "DPX", "TPX", "QPX", "CPX")
MODES = st.builds(
    lambda names, dies: Modes.of(names, dies=dies),
    st.lists(st.sampled_from([*NAMES, "UNKNOWN", ""]), max_size=7),
    st.integers(0, 12),
)
CARD = "amd-d4a1b2c3e5f60718"


def everything(modes: Modes) -> list[tuple[str, int]]:
    return [(name, part) for name in modes.names for part in range(modes.parts(name))]


def fit(modes: Modes, *taken: tuple[str, int]) -> bool:
    used = Counter[str]()
    for name, part in taken:
        used.update(modes.taken(name, part))
    return all(amount <= modes.totals.get(counter, 0) for counter, amount in used.items())


@given(MODES)
def test_counters_let_together_what_names_let_together(modes: Modes) -> None:
    for one, other in itertools.combinations(everything(modes), 2):
        names = [modes.place(CARD, *part).name for part in (one, other)]
        assert fit(modes, one, other) is (one[0] == other[0]) is not exclude(*names)


@given(MODES)
def test_all_partitions_of_a_mode_fit_and_none_fits_beside_the_card(modes: Modes) -> None:
    for name in modes.names:
        assert fit(modes, *((name, part) for part in range(modes.parts(name))))
    for name, part in everything(modes):
        used = Counter(modes.totals) + Counter(modes.taken(name, part))
        assert any(amount > modes.totals[counter] for counter, amount in used.items())


@given(MODES)
def test_counters_are_fewer_than_the_api_has_room_for(modes: Modes) -> None:
    assert len(modes.totals) <= 32
    assert all(set(modes.taken(*part)) <= set(modes.totals) for part in everything(modes))


@given(MODES)
def test_a_place_tells_its_mode_and_partition_and_no_two_have_one_name(modes: Modes) -> None:
    places = [modes.place(CARD, *part) for part in everything(modes)]
    assert [(mode_of(place), part_of(place)) for place in places] == everything(modes)
    assert all(modes.has(place) for place in places)
    assert len({place.name for place in places}) == len(places)


@given(MODES)
def test_partitions_of_a_mode_are_all_of_the_cards_dies_each_once(modes: Modes) -> None:
    for name in modes.names:
        slots = [slot for part in range(modes.parts(name)) for slot in modes.place(CARD, name, part).slots]
        assert slots == list(range(modes.dies))
        assert modes.parts(name) * modes.cores(name) <= 100


@pytest.mark.parametrize(
    ("dies", "names", "parts"),
    [
        (8, ("DPX", "QPX", "CPX"), [2, 4, 8]),
        (6, ("DPX", "TPX", "CPX"), [2, 3, 6]),
        (4, ("DPX", "QPX", "CPX"), [2, 4, 4]),
        (1, (), []),
        (0, (), []),
    ],
)
def test_the_modes_of_a_card_follow_from_its_dies(
    dies: int, names: tuple[str, ...], parts: list[int]
) -> None:
    modes = Modes.of(NAMES, dies=dies)
    assert modes.names == names
    assert [modes.parts(name) for name in names] == parts


def test_eight_dies_in_all_modes_need_seven_counters() -> None:
    modes = Modes.of(NAMES, dies=8)
    assert modes.totals == dict.fromkeys(["card", "dpx-0", "dpx-1", *(f"qpx-{n}" for n in range(4))], 8)
    assert modes.taken("DPX", 1) == {"card": 1, "dpx-1": 8}
    assert modes.taken("CPX", 5) == {"card": 1, **dict.fromkeys(set(modes.totals) - {"card"}, 1)}


@pytest.mark.parametrize(
    "place",
    [
        Place(card=CARD, kind="xcp", profile=4, start=8, size=1),
        Place(card=CARD, kind="xcp", profile=4, start=0, size=2),
        Place(card=CARD, kind="xcp", profile=1, start=1, size=4),
        Place(card=CARD, kind="xcp", profile=2, start=0, size=2),
        Place(card=CARD, kind="xcp", profile=9, start=0, size=1),
        Place(card=CARD, kind="mig", profile=4, start=0, size=1),
    ],
)
def test_a_place_that_no_mode_has_is_none(place: Place) -> None:
    assert not Modes.of(NAMES, dies=8).has(place)
