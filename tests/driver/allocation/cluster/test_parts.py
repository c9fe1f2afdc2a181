"""The parts that a cluster counts with: bitmaps, amounts digit by digit, mappings that never change."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.allocation import Snapshot
from driver.allocation.cluster.amounts import Amounts, Change
from driver.allocation.cluster.bitmaps import Segments, bitmap, bits, content_of, part, span
from driver.allocation.cluster.persistent import Persistent
from driver.allocation.cluster.warm import warm
from driver.cel import Selector
from driver.selection import Index, Selection
from tests.driver.allocation.builders import card, pool

NUMBERS = st.sets(st.integers(0, 300))
WIDTHS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=12)
NANOS = (
    st.integers(0, 200).map(lambda one: one * 10**9)
    | st.integers(0, 200).map(lambda one: (one << 20) * 10**9)
    | st.integers(0, 1 << 99)
)


@given(some=NUMBERS)
def test_a_bitmap_holds_its_numbers_in_order(some: set[int]) -> None:
    assert list(bits(bitmap(some))) == sorted(some)


@given(some=NUMBERS, start=st.integers(0, 300), length=st.integers(1, 40))
def test_a_part_of_a_bitmap_is_what_a_shift_gives(some: set[int], start: int, length: int) -> None:
    whole = bitmap(some)
    assert part(content_of(whole), start, start + length) == (whole & span(start, start + length)) >> start


@given(widths=WIDTHS, some=NUMBERS, count=st.integers(1, 10))
def test_segments_with_enough_numbers_are_those_that_counting_finds(
    widths: list[tuple[int, int]], some: set[int], count: int
) -> None:
    segments = Segments()
    wanted = set()
    place = 0
    for gap, width in widths:
        start = place + gap
        place = start + width
        segments.add(start, place)
        if len(some & set(range(start, place))) >= count:
            wanted.add(place - 1)
    assert set(bits(segments.tops(bitmap(some), count))) == wanted


@given(widths=WIDTHS, some=NUMBERS, which=st.integers(0, 20))
def test_a_segment_that_was_removed_is_never_found(
    widths: list[tuple[int, int]], some: set[int], which: int
) -> None:
    segments = Segments()
    spans = []
    place = 0
    for gap, width in widths:
        spans.append((place + gap, place + gap + width))
        place += gap + width
        segments.add(*spans[-1])
    gone = spans.pop(which % len(spans))
    before = segments.tops(bitmap(some))
    segments.remove(*gone)
    assert segments.tops(bitmap(some)) == before & ~(1 << (gone[1] - 1))


@given(
    before=st.dictionaries(st.integers(0, 50), NANOS),
    after=st.dictionaries(st.integers(0, 50), st.none() | NANOS),
    asked=st.lists(NANOS, max_size=5),
)
def test_amounts_are_compared_as_numbers_are(
    before: Mapping[int, int], after: Mapping[int, int | None], asked: list[int]
) -> None:
    first = Amounts().changed([Change(number, None, amount) for number, amount in before.items()])
    second = first.changed([Change(number, before.get(number), amount) for number, amount in after.items()])
    merged = {**before, **after}
    for amounts, known in ((first, before), (second, merged)):
        for limit in [0, *asked, *(one for one in known.values() if one is not None)]:
            for wanted in (limit, limit + 1):
                expected = {number for number, one in known.items() if one is not None and one >= wanted}
                assert set(bits(amounts.at_least(wanted))) == expected


@given(
    entries=st.dictionaries(st.integers(0, 80), st.integers()),
    steps=st.lists(st.dictionaries(st.integers(0, 80), st.none() | st.integers()), max_size=5),
)
def test_a_persistent_mapping_changes_as_a_dict_does_and_stays_what_it_was(
    entries: dict[int, int], steps: list[dict[int, int | None]]
) -> None:
    current = dict(entries)
    mapping = Persistent(entries.items())
    for changes in steps:
        before, kept = mapping, dict(current)
        mapping = mapping.changed(changes)
        current = {key: value for key, value in {**current, **changes}.items() if value is not None}
        assert dict(before) == kept
        assert dict(mapping) == current
        assert len(mapping) == len(current)
        assert {key for key in range(81) if key in mapping} == set(current)
        assert mapping.get(-1, "nothing") == "nothing"


def test_a_persistent_mapping_keeps_its_entries_when_it_outgrows_its_chunks() -> None:
    mapping: Persistent[int, int] = Persistent()
    for first in range(0, 6000, 1000):
        mapping = mapping.changed({number: number for number in range(first, first + 1000)})
    assert dict(mapping) == {number: number for number in range(6000)}
    with pytest.raises(KeyError):
        mapping[6000]


def test_the_index_is_asked_in_advance_about_what_many_devices_have_in_common() -> None:
    asked: list[str] = []

    class Spy(Index):
        def select(self, selector: Selector) -> Selection:
            asked.append(selector.expression)
            return super().select(selector)

    attributes = [
        {"uuid": {"string": f"u{number}"}, "vendor": {"string": "a"}, "with-dash": {"int": 1}}
        for number in range(10)
    ]
    slices = [pool(*(card(f"d{place}", attributes=one) for place, one in enumerate(attributes)))]
    (one,) = Snapshot.build(slices=slices, classes=[]).slices
    index = Spy()
    index.add([device.view for device in one.devices])
    warm(index, one.devices)
    assert set(asked) == {
        'device.driver == ""',
        "device.allowMultipleAllocations",
        'device.attributes["dragoman.dev"].vendor == ""',
        'device.capacity["dragoman.dev"].memory.compareTo(quantity("1")) > 0',
        'device.capacity["dragoman.dev"].cores.compareTo(quantity("1")) > 0',
    }


@given(widths=WIDTHS, every=st.lists(NUMBERS, max_size=3), which=st.integers(0, 20))
def test_segments_alike_are_those_of_one_width_with_the_same_places(
    widths: list[tuple[int, int]], every: list[set[int]], which: int
) -> None:
    segments = Segments()
    spans = []
    place = 0
    for gap, width in widths:
        spans.append((place + gap, place + gap + width))
        place += gap + width
        segments.add(*spans[-1])
    # One makes room for two of half its width.
    first, last = spans[0]
    if last - first > 1:
        segments.remove(first, last)
        middle = (first + last) // 2
        spans[:1] = [(first, middle), (middle, last)]
        segments.add(first, middle)
        segments.add(middle, last)

    def places(start: int, stop: int) -> list[set[int]]:
        return [{number - start for number in some if start <= number < stop} for some in every]

    start, stop = spans[which % len(spans)]
    wanted = {
        end - 1
        for begin, end in spans
        if end - begin == stop - start and places(begin, end) == places(start, stop)
    }
    assert set(bits(segments.alike(map(bitmap, every), start, stop))) == wanted


def test_a_segment_that_was_removed_is_like_none() -> None:
    segments = Segments()
    segments.add(0, 2)
    segments.add(2, 4)
    segments.remove(0, 2)
    segments.add(1, 2)
    assert segments.alike((), 2, 4) == 1 << 3
