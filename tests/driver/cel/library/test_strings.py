import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.library.strings import _split_some

from .conftest import Outcome


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'añb'.charAt(1) == 'ñ' && 'abc'.charAt(3) == ''", "true"),
        ("'abc'.charAt(4) == ''", "evaluation-error"),
        ("'abc'.charAt(-1) == ''", "evaluation-error"),
        ("'日本語'.substring(1) == '本語' && 'abc'.substring(1, 2) == 'b'", "true"),
        ("'abc'.substring(3) == '' && 'abc'.substring(1, 1) == ''", "true"),
        ("'abc'.substring(4) == ''", "evaluation-error"),
        ("'abc'.substring(2, 1) == ''", "evaluation-error"),
        ("'abc'.substring(0, 4) == ''", "evaluation-error"),
        ("'abcabc'.indexOf('c') == 2 && 'abc'.indexOf('x') == -1 && 'abc'.indexOf('') == 0", "true"),
        ("'abcabc'.lastIndexOf('c') == 5 && 'abc'.lastIndexOf('') == 3 && ''.lastIndexOf('a') == -1", "true"),
        ("'abcabc'.indexOf('a', 1) == 3 && 'abc'.indexOf('c', 9) == -1", "true"),
        ("'abcabc'.lastIndexOf('a', 2) == 0 && 'abc'.lastIndexOf('bc', 9) == -1", "true"),
        ("'abc'.indexOf('a', -1) == 0", "evaluation-error"),
        ("'abc'.lastIndexOf('a', -1) == 0", "evaluation-error"),
    ],
)
def test_positions_count_characters(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    ("expression", "older", "newer"),
    [
        ("'abc'.indexOf('', 9) == 9", "true", "false"),
        ("'abc'.indexOf('', 9) == 3", "false", "true"),
        ("'abc'.indexOf('', -1) == -1", "true", "evaluation-error"),
        ("'abc'.lastIndexOf('', 9) == 9", "true", "false"),
        ("'abc'.lastIndexOf('', -1) == -1", "true", "evaluation-error"),
    ],
)
def test_a_search_for_nothing_is_clamped_since_1_37(
    outcome: Outcome, expression: str, older: str, newer: str
) -> None:
    assert (outcome(expression, "1.36"), outcome(expression, "1.37")) == (older, newer)


@pytest.mark.parametrize(
    "expression",
    [
        "'AÄb'.lowerAscii() == 'aÄb' && 'aäB'.upperAscii() == 'AäB'",
        "'aaa'.replace('a', 'b') == 'bbb' && 'aaa'.replace('a', 'b', 2) == 'bba'",
        "'ab'.replace('', '-') == '-a-b-' && 'ab'.replace('', '-', 1) == '-ab'",
        "'ab'.replace('a', 'x', 0) == 'ab' && 'ab'.replace('a', 'x', -1) == 'xb'",
        "'a,b,,c'.split(',') == ['a', 'b', '', 'c'] && ''.split(',') == [''] && ''.split('') == []",
        "'añb'.split('') == ['a', 'ñ', 'b'] && 'abc'.split('', 2) == ['a', 'bc']",
        "'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'a,b'.split(',', 0) == []",
        "'a,b'.split(',', 1) == ['a,b']",
        "'a,b,c'.split(',', -1) == ['a', 'b', 'c'] && 'ab'.split('', 9) == ['a', 'b']",
        "' \\t\\u0085\\u2003x\\u3000 '.trim() == 'x' && '\\u001cx'.trim() == '\\u001cx'",
        "['a', 'b'].join() == 'ab' && ['a', 'b'].join(', ') == 'a, b' && ['a'].filter(x, false).join() == ''",
        "strings.quote('a\\n\"\\\\\\u0000é') == '\"a\\\\n\\\\\"\\\\\\\\\\u0000é\"'",
        "'abc'.startsWith('') && 'abc'.endsWith('bc') && 'abc'.contains('b') && !'abc'.contains('B')",
    ],
)
def test_strings_are_taken_apart_and_put_together(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "true"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'abc'.reverse() == 'cba'", "compile-error"),
        ("dyn('abc').reverse() == ['c']", "evaluation-error"),
        ("[1].join() == '1'", "compile-error"),
        ("device.attributes['d'].li.join(',') == '1'", "evaluation-error"),
        ("[dyn('a'), dyn(1)].join() == 'a1'", "evaluation-error"),
        ("device.attributes['d'].a.contains('3')", "evaluation-error"),
        ("device.attributes['d'].s.startsWith(device.attributes['d'].a)", "evaluation-error"),
        ("'abc'.contains(1)", "compile-error"),
    ],
)
def test_what_is_no_string_is_refused(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@given(st.text(alphabet="ab,", max_size=20), st.integers(-1, 5))
def test_what_is_split_joins_again(text: str, limit: int) -> None:
    parts = _split_some(text, ",", limit)
    assert ",".join(parts) == ("" if limit == 0 else text)
    assert limit < 0 or len(parts) <= limit
