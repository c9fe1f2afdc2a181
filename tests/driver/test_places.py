from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cards import Card, Partition
from driver.errors import InvalidInputError
from driver.places import KINDS, Place, card_of, exclude, place_of

CARD = "nvidia-5c1f2a3b-0000-4000-8000-000000000000"
PLACES = st.builds(
    Place,
    card=st.sampled_from([CARD, "pci-0000-3b-00-0", f"{CARD}-mig"]),
    kind=st.sampled_from(KINDS),
    profile=st.integers(0, 999),
    start=st.integers(0, 31),
    size=st.integers(1, 32),
)


@given(PLACES)
def test_a_name_tells_its_place(place: Place) -> None:
    assert place_of(place.name) == place
    assert card_of(place.name) == place.card
    assert len(place.name) <= 63


@given(PLACES, PLACES)
def test_places_overlap_where_they_share_a_slot(one: Place, other: Place) -> None:
    shared = one.card == other.card and bool({*one.slots} & {*other.slots})
    assert one.overlaps(other) == other.overlaps(one) == shared


def test_a_card_is_no_place_and_excludes_its_parts_alone() -> None:
    part = Place(card=CARD, kind="mig", profile=19, start=4, size=1).name
    assert place_of(CARD) is None
    assert exclude(CARD, part)
    assert exclude(part, CARD)
    assert not exclude("nvidia-other", part)
    assert not exclude("nvidia-other", CARD)


def test_a_name_without_slots_is_no_place() -> None:
    assert place_of(f"{CARD}-mig-19-4-0") is None


def test_a_partition_whose_name_tells_no_place_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="where the partition is"):
        Card(
            name=CARD, vendor="nvidia", model="x", memory_bytes=1 << 30,
            partition=Partition(card_uuid="GPU-0", profile="1g.5gb"),
        )  # fmt: skip


@pytest.mark.parametrize("cores", [0, 101])
def test_compute_of_a_partition_is_a_percentage(cores: int) -> None:
    with pytest.raises(InvalidInputError, match="percent"):
        Card(name=CARD, vendor="nvidia", model="x", memory_bytes=1 << 30, cores=cores)
