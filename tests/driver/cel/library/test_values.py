import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.errors import EvaluationError
from driver.cel.values import Duration, UInt, compare, equal, find_key, holds, make_map, not_equal, same

from .conftest import Outcome

NUMBERS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, (1 << 64) - 1).map(UInt),
    st.floats(),
    st.sampled_from([2.0**53, 2.0**63, -(2.0**63), 2**53 + 1, UInt(2**63)]),
)
SCALARS = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=3), st.binary(max_size=3))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('semver("1.0.0") == dyn(5)', "evaluation-error"),
        ('semver("1.0.0") != dyn(5)', "true"),
        ('dyn(5) == semver("1.0.0")', "false"),
        ('quantity("1") == dyn("1")', "evaluation-error"),
        ('ip("::1") == dyn("::1")', "evaluation-error"),
        ('cidr("::/1") == dyn("::/1")', "evaluation-error"),
        ('url("http://a/") == dyn("http://a/")', "evaluation-error"),
        ("format.uri() == dyn(1)", "evaluation-error"),
        ('duration("1s") == dyn("1s")', "false"),
        ("type(1) == dyn(1)", "false"),
        ('semver("1.0.0") == dyn(null)', "false"),
        ('dyn(null) == semver("1.0.0")', "false"),
        ('optional.of(semver("1.0.0")) == optional.of(dyn(1))', "evaluation-error"),
        ('optional.of(semver("1.0.0")) == optional.of(dyn(null))', "evaluation-error"),
        ('optional.of(dyn(null)) == optional.of(semver("1.0.0"))', "false"),
    ],
)
def test_kubernetes_own_types_cannot_be_compared_with_others_on_their_right(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('[semver("1.0.0")] == dyn([5])', "true"),
        ('{"a": semver("1.0.0")} == dyn({"a": 1})', "true"),
        ('[semver("1.0.0"), semver("2.0.0")] == dyn([5])', "false"),
        ("[1] == dyn(['a'])", "false"),
        ('[semver("1.0.0")] + [semver("2.0.0")] == dyn([5, 6])', "evaluation-error"),
        ('dyn([5, 6]) == [semver("1.0.0")] + [semver("2.0.0")]', "false"),
        ('[semver("1.0.0")] + [] == dyn([5])', "true"),
        ('[dyn(semver("1.0.0"))] + [dyn(1)] == dyn([5, 6])', "false"),
    ],
)
def test_elements_that_cannot_be_compared_pass_for_equal_but_in_joined_lists(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('quantity("1").add(2) == quantity("3")', "true"),
        ('quantity("3") == quantity("1").add(2)', "evaluation-error"),
        ('quantity("3") != quantity("1").add(2)', "true"),
        ('quantity("1").add(2) in [quantity("3")]', "true"),
        ('quantity("3") in [quantity("1").add(2)]', "false"),
    ],
)
def test_a_computed_quantity_cannot_stand_on_the_right(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("9007199254740993 == dyn(9007199254740992.0)", "true"),
        ("9007199254740993 <= dyn(9007199254740992.0)", "true"),
        ("dyn(9223372036854775807) == dyn(9223372036854775808.0)", "true"),
        ("dyn(1) == dyn(1u)", "true"),
        ("dyn(1) == dyn(1.0)", "true"),
        ("dyn(1) == dyn(true)", "false"),
        ("dyn(-1) == dyn(18446744073709551615u)", "false"),
        ('double("NaN") == double("NaN")', "false"),
        ('double("NaN") != double("NaN")', "true"),
        ('double("NaN") < 1.0', "evaluation-error"),
        ('dyn(1) < dyn("a")', "evaluation-error"),
        ("true < dyn(1)", "evaluation-error"),
        ("false < true", "true"),
        ("b'a' < b'b'", "true"),
    ],
)
def test_a_number_meets_a_double_as_a_double(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("{1: 1, 1: 2}[1] == 2", "true"),
        ("{dyn(1): 1, dyn(1u): 2}.size() == 2", "true"),
        ("{dyn(1): 1, dyn(1u): 2}[1.0] == 1", "true"),
        ("{dyn(1): 1, dyn(true): 2}.size() == 2", "true"),
        ("{1: 1}[dyn(1u)] == 1", "true"),
        ("{1.5: 1}[1.5] == 1", "true"),
        ("{1: 1} == dyn({1u: 1})", "true"),
        ("{dyn([1]): 1, dyn([1]): 2}.size() == 2", "true"),
        ("dyn({dyn([1]): 1}) == dyn({dyn([1]): 1})", "false"),
        ("cel.bind(x, dyn({dyn([1]): 1}), x == x)", "true"),
        ("{optional.none(): 1, optional.none(): 2}.size() == 1", "true"),
        ('{duration("1s"): 1, duration("1000ms"): 2}.size() == 1', "true"),
        ('duration("1s") in {duration("1s"): 1}', "true"),
        ('{semver("1.0.0"): 1}.size() == 1', "evaluation-error"),
        ("{format.uri(): 1}.size() == 1", "evaluation-error"),
        ('dyn(b"x") in dyn({1: 1})', "evaluation-error"),
        ('dyn(b"x") in dyn({})', "false"),
        ("dyn(1) in dyn(device.attributes)", "false"),
    ],
)
def test_keys_of_maps_are_told_apart_by_type_and_found_by_value(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


@given(SCALARS, SCALARS)
def test_what_is_unequal_is_never_equal(left: object, right: object) -> None:
    assert not_equal(left, right) is not same(left, right)


@given(NUMBERS, NUMBERS)
def test_order_and_equality_of_numbers_agree(left: float, right: float) -> None:
    if math.isnan(left) or math.isnan(right):
        with pytest.raises(EvaluationError, match="NaN"):
            compare(left, right)
        assert not equal(left, right)
    else:
        assert (compare(left, right) == 0) is equal(left, right)
        assert compare(left, right) == -compare(right, left)


@given(st.lists(SCALARS, max_size=6), SCALARS)
def test_a_search_finds_what_some_element_equals(elements: list[object], value: object) -> None:
    assert holds(elements, value) is any(same(value, element) for element in elements)


@given(st.lists(st.tuples(st.one_of(NUMBERS, st.text(max_size=2), st.booleans()), st.integers(0, 9))))
def test_each_key_of_a_map_is_found_again(entries: list[tuple[object, int]]) -> None:
    made = make_map(entries)
    for key, _ in entries:
        assert find_key(made, key).present is not (isinstance(key, float) and math.isnan(key))


def test_lengths_of_time_are_ordered_by_their_length() -> None:
    assert compare(Duration(1), Duration(2)) == -1
