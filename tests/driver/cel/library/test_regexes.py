import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.errors import EvaluationError
from driver.cel.library.regexes import _found, compiled

from .conftest import Outcome


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'abc'.matches('b') && matches('abc', '^a.c$') && !'abc'.matches('^b')", "true"),
        ("'a\\nb'.matches('a$')", "false"),
        ("'a\\nb'.matches('(?m)a$') && 'ABC'.matches('(?i)abc') && 'a\\nb'.matches('(?s)a.b')", "true"),
        ("'é'.matches('^.$') && 'é'.matches('\\\\pL') && !'é'.matches('\\\\w')", "true"),
        ("'!'.matches('\\\\pp') && !'!'.matches('\\\\pl')", "true"),
        ("'x'.matches('\\\\p{Letter}') && '1'.matches('\\\\p{digit}')", "true"),
        ("'\\u03c9'.matches('\\\\p{greek}') && !'a'.matches('\\\\p{Greek}')", "true"),
        ("'abc'.find('b+') == 'b' && 'abc'.find('x') == ''", "true"),
        ("'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'abc'.findAll('x') == []", "true"),
        ("'a1b22'.findAll('[0-9]+', 1) == ['1'] && 'a1'.findAll('1', 0) == []", "true"),
        ("'abab'.findAll('(a)(b)') == ['ab', 'ab']", "true"),
        ("'baac'.findAll('a*') == ['', 'aa', ''] && 'abc'.findAll('') == ['', '', '', '']", "true"),
        ("device.attributes['d'].a.matches('3')", "evaluation-error"),
        ("'a'.matches(device.attributes['d'].a)", "evaluation-error"),
    ],
)
def test_patterns_match_as_in_go(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    "pattern",
    ["(", "[", "a**", "x{1001}", "x{2,1}", "(?=a)", "(?<!a)", "\\\\1", "\\\\Z", "\\\\pX", "\\\\C",
     "(a{100}){100}", "(?P<é>a)", "\\\\8", "[a-\\\\d]"],
)  # fmt: skip
def test_what_is_no_pattern_is_refused_when_it_is_known(outcome: Outcome, pattern: str) -> None:
    assert outcome(f"'a'.matches('{pattern}')") == "compile-error"
    assert outcome(f"'a'.find('{pattern}') == ''") == "compile-error"
    assert outcome(f"'a'.findAll('{pattern}') == ['']") == "compile-error"
    assert outcome(f"'a'.matches('{pattern}' + device.driver.substring(1))") == "evaluation-error"


@pytest.mark.parametrize(
    "pattern", ["{", "a{,2}", "]", "\\\\Q\\\\C\\\\E", "(?P<n>a)", "(?<n>a)", "\\\\x{1F600}", "(?U)a+"]
)
def test_what_go_takes_is_taken(outcome: Outcome, pattern: str) -> None:
    assert outcome(f"'a'.matches('{pattern}') || true") == "true"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("matches('(', 'a')", "compile-error"),
        ("'('.matches('a')", "false"),
        ("matches('a', '(')", "compile-error"),
    ],
)
def test_of_the_function_matches_the_text_is_checked_too(
    outcome: Outcome, expression: str, expected: str
) -> None:
    assert outcome(expression) == expected


def test_hostile_patterns_take_linear_time() -> None:
    assert compiled("(a+)+$").search("a" * 5000 + "b") is None


@given(st.text(alphabet="ab.*+?()[]{}|^$\\dwpLQEC-09,", max_size=12), st.text(alphabet="ab1\n", max_size=12))
def test_any_pattern_compiles_or_is_refused_and_what_it_finds_is_there(pattern: str, text: str) -> None:
    try:
        compiled(pattern)
    except EvaluationError:
        return
    place = 0
    for found in _found(text, pattern, -1):
        place = text.index(found, place) + len(found)
    assert len(_found(text, pattern, 1)) <= 1
