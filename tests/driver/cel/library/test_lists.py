import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.library.lists import sorted_by

from .conftest import Outcome


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[1, 2, 2].isSorted() && ![2, 1].isSorted() && ['a'].filter(x, false).isSorted()", "true"),
        ("[dyn(1), dyn('a'), dyn(0)].isSorted()", "true"),
        ("[1.0, double('NaN'), 0.0].isSorted()", "true"),
        ("[[1]].isSorted()", "compile-error"),
        ("dyn([[1]]).isSorted()", "evaluation-error"),
        ("[dyn(1), dyn([1])].isSorted()", "evaluation-error"),
        ("[3, 1, 2].min() == 1 && [3, 1, 2].max() == 3", "true"),
        ("['b', 'a'].min() == 'a' && [false, true].max()", "true"),
        ("[dyn(1), dyn('a')].max() == 1", "true"),
        ("[1].filter(x, false).min() == 0", "evaluation-error"),
        ("[1, 2].sum() == 3 && [1.5, 2.5].sum() == 4.0 && [1u].sum() == 1u", "true"),
        ("[duration('1s'), duration('2s')].sum() == duration('3s')", "true"),
        ("[].sum() == 0 && [1].filter(x, false).sum() == 0", "true"),
        ("['a'].sum() == 'a'", "compile-error"),
        ("[9223372036854775807, 1].sum() == 0", "evaluation-error"),
        ("[dyn(1), dyn(1.0)].sum() == 2", "evaluation-error"),
        ("[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(5) == -1", "true"),
        ("device.attributes['d'].l.indexOf('y') == 1 && device.attributes['d'].s.indexOf('x') == 2", "true"),
        ("[semver('1.0.0')].indexOf(dyn(5)) == -1", "true"),
    ],
)
def test_kubernetes_own_functions_of_lists(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "older", "newer"),
    [
        (
            "device.attributes['d'].l.includes('x') && device.attributes['d'].s.includes('text')",
            "true",
            "true",
        ),
        ("lists.range(48).includes(99)", "false", "false"),
        ("lists.range(49).includes(47)", "true", "true"),
        ("lists.range(49).includes(48)", "evaluation-error", "true"),
        ("lists.range(49).includes(99)", "evaluation-error", "false"),
        ("quantity('1').includes('1')", "false", "false"),
    ],
)
def test_includes_looks_at_48_elements_up_to_1_36(
    outcome: Outcome, expression: str, older: str, newer: str
) -> None:
    assert (outcome(expression, "1.36"), outcome(expression, "1.37")) == (older, newer)


@pytest.mark.parametrize("release", ["1.34", "1.35"])
def test_includes_is_new_in_1_36(outcome: Outcome, release: str) -> None:
    assert outcome("[1].includes(1)", release) == "compile-error"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[1, 2, 3].slice(1, 3) == [2, 3] && [1].slice(1, 1) == []", "true"),
        ("[1, 2, 3].slice(-1, 2) == [1]", "evaluation-error"),
        ("[1, 2, 3].slice(2, 1) == [1]", "evaluation-error"),
        ("[1, 2, 3].slice(0, 4) == [1]", "evaluation-error"),
        ("[[1], [2, 3]].flatten() == [1, 2, 3]", "true"),
        ("[1].flatten() == [1]", "compile-error"),
        ("dyn([1, 2]).flatten() == [1, 2]", "true"),
        ("dyn(5).flatten() == [5]", "evaluation-error"),
        ("[[[1]], [[2]]].flatten(1) == [[dyn(1)], [dyn(2)]] && [[[1]]].flatten(2) == [1]", "true"),
        ("[[1]].flatten(0) == [[1]]", "true"),
        ("[[1]].flatten(-1) == [1]", "evaluation-error"),
        ("[[1]].flatten(1000000) == [1]", "evaluation-error"),
        ("[1, 2, 1, 2].distinct() == [1, 2]", "true"),
        ("[dyn(1), dyn(1u), dyn(1.0), dyn('1')].distinct().size() == 2", "true"),
        ("[1, 2, 3].reverse() == [3, 2, 1]", "true"),
        ("lists.range(3) == [0, 1, 2] && lists.range(0) == []", "true"),
        ("[3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sort() == ['a', 'b']", "true"),
        ("[dyn(1), dyn('a')].sort() == [1]", "evaluation-error"),
        ("[dyn({})].sort() == [{}]", "evaluation-error"),
        ("[[1]].sort() == [[1]]", "compile-error"),
        ("[null].sortBy(x, x) == [null]", "evaluation-error"),
        ("['bb', 'a'].sortBy(x, x.size()) == ['a', 'bb']", "true"),
        ("dyn({1: 2}).sortBy(x, x) == [1]", "evaluation-error"),
        ("[1, 2].first().value() == 1 && [1, 2].last().value() == 2", "true"),
        ("['a'].slice(0, 0).first().hasValue() || ['a'].slice(0, 0).last().hasValue()", "false"),
    ],
)
def test_the_lists_extension(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "older", "newer"),
    [
        ("lists.range(-1) == []", "true", "evaluation-error"),
        ("lists.range(1000000000).size() > 0", "evaluation-error", "evaluation-error"),
    ],
)
def test_a_range_has_no_negative_length_since_1_37(
    outcome: Outcome, expression: str, older: str, newer: str
) -> None:
    assert (outcome(expression, "1.36"), outcome(expression, "1.37")) == (older, newer)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sets.contains([1, 2, 3], [3, 1]) && !sets.contains([1], [2]) && sets.contains([1], [])", "true"),
        ("sets.contains([1], [dyn(1u), dyn(1.0)])", "true"),
        ("sets.intersects([1, 2], [2]) && !sets.intersects([1], []) ", "true"),
        ("sets.equivalent([1, 1, 2], [2, 1]) && !sets.equivalent([1, 2], [1])", "true"),
        ("sets.contains(device.attributes['d'].l, ['x'])", "true"),
        ("sets.contains(device.attributes['d'].s, ['x'])", "evaluation-error"),
        ("sets.contains([1], ['a'])", "compile-error"),
        ("sets.contains([semver('1.0.0')], [dyn(5)])", "false"),
    ],
)
def test_lists_are_compared_as_sets(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@given(st.lists(st.integers(-5, 5), max_size=30))
def test_sorting_is_stable(keys: list[int]) -> None:
    assert sorted_by(list(range(len(keys))), keys) == sorted(range(len(keys)), key=keys.__getitem__)
