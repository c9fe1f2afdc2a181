"""Numbers of devices, and sets of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from driver.selection.bitmaps import Bitmap, bits_of, first_of, merged, numbers_of, without
from driver.selection.numbers import Numbers, Slots

_sets = st.sets(st.integers(0, 400))


@given(st.lists(st.one_of(st.integers(0, 9), st.just(-1)), max_size=60), st.randoms(use_true_random=False))
def test_no_two_additions_share_a_number_and_free_ones_are_used_again(
    steps: list[int], chance: object
) -> None:
    numbers = Numbers()
    taken: list[Slots] = []
    for step in steps:
        if step >= 0:
            taken.append(numbers.take(step))
        elif taken:
            numbers.give_back(taken.pop(chance.randrange(len(taken))))  # type: ignore[attr-defined]
        used = [number for slots in taken for number in slots.numbers]
        assert len(used) == len(set(used))
        assert numbers.end >= max(used, default=-1) + 1
    for slots in taken:
        numbers.give_back(slots)
    assert numbers.end == 0


def test_the_lowest_place_that_is_wide_enough_is_used_again() -> None:
    numbers = Numbers()
    narrow, _, wide, _ = (numbers.take(count) for count in (2, 1, 4, 1))
    numbers.give_back(wide)
    numbers.give_back(narrow)
    assert numbers.take(3) == Slots(wide.first, 3)
    assert numbers.take(2) == narrow
    assert numbers.take(1) == Slots(wide.first + 3, 1)


def test_free_neighbours_become_one_place() -> None:
    numbers = Numbers()
    first, second, third, _ = (numbers.take(2) for _ in range(4))
    numbers.give_back(first)
    numbers.give_back(third)
    numbers.give_back(second)
    assert numbers.take(6) == Slots(0, 6)


def test_slots_are_a_range_and_a_bitmap() -> None:
    assert list(Slots(3, 2).numbers) == [3, 4]
    assert Slots(3, 2).bits == 0b11000


@given(_sets)
def test_a_set_of_numbers_survives_the_bitmap(numbers: set[int]) -> None:
    bits = bits_of(numbers)
    assert bits == sum(1 << number for number in numbers)
    assert list(numbers_of(bits)) == sorted(numbers)
    if numbers:
        assert first_of(bits) == min(numbers)


@given(_sets, _sets)
def test_bitmaps_do_what_sets_do(first: set[int], second: set[int]) -> None:
    assert without(bits_of(first), bits_of(second)) == bits_of(first - second)
    assert merged([bits_of(first), bits_of(second)]) == bits_of(first | second)


@given(_sets, st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=40))
def test_a_bitmap_follows_its_changes(start: set[int], changes: list[tuple[int, bool]]) -> None:
    bitmap, model = Bitmap(start), set(start)
    for number, read in changes:
        if number in model:
            model.remove(number)
            bitmap.remove(number)
        else:
            model.add(number)
            bitmap.add(number)
        assert bitmap.count == len(model)
        if read:
            assert bitmap.bits == bits_of(model)
            assert not model or bitmap.sample in model
    assert bitmap.bits == bits_of(model)


def test_a_bitmap_that_was_read_does_not_change() -> None:
    bitmap = Bitmap([1, 2])
    before = bitmap.bits
    bitmap.add(5)
    assert (before, bitmap.bits) == (0b110, 0b100110)
