import pytest

from .conftest import Outcome


def bound(times: int, first: str, step: str, last: str) -> str:
    """Bind a value, then again and again one made of the value before."""
    head = "".join(
        f"cel.bind(a{turn}, {step.replace('@', f'a{turn - 1}') if turn else first}, " for turn in range(times)
    )
    return head + last.replace("@", f"a{times - 1}") + ")" * times


@pytest.mark.parametrize(
    "expression",
    [
        bound(31, "'ab'", "@ + @", "@.size() > 0"),
        bound(31, "b'ab'", "@ + @", "@.size() > 0"),
        bound(31, "[1]", "@ + @", "@.size() > 0"),
        bound(31, "[dyn(1)]", "[dyn(@), dyn(@)]", "@ == @"),
        bound(31, "[dyn(1)]", "[dyn(@), dyn(@)]", "@.indexOf(dyn(3)) == 1"),
        bound(31, "[dyn(1)]", "[dyn(@), dyn(@)]", "'%s'.format(@).size() > 1"),
        bound(31, "[dyn(1)]", "[dyn(@), dyn(@)]", "[dyn(@), dyn(@)].distinct().size() > 0"),
        bound(31, "[dyn(1)]", "[dyn(@), dyn(@)]", "sets.contains([dyn(@)], [dyn(@)])"),
        bound(31, "[dyn(1)]", "[dyn(@), dyn(@)]", "@.flatten(40).size() > 0"),
        bound(28, "optional.of(dyn(1))", "optional.of([dyn(@), dyn(@)])", "@ == @"),
        "'aaaaaaaaaa'" + ".replace('a', 'aaaaaaaaaa')" * 8 + ".size() > 0",
        "'aaaaaaaaaa'" + ".replace('', 'aaaaaaaaaa')" * 8 + ".size() > 0",
        f"cel.bind(s, '{'y' * 8000}', lists.range(2000).map(i, s).join(s).size() > 0)",
        "lists.range(1000).distinct().size() > 0",
        "cel.bind(a, lists.range(900), sets.equivalent(a, a))",
        "cel.bind(a, lists.range(100000), lists.range(1000).map(i, a).flatten().size() > 0)",
        "cel.bind(a, lists.range(4000), lists.range(100000).map(i, a + [1]).size() > 0)",
        f"cel.bind(u, url('http://h/?{'a=b&' * 2000}'), lists.range(10000).map(i, u.getQuery()).size() > 0)",
        f"cel.bind(s, '{'a' * 8000}', lists.range(1000).all(i, s.findAll('(.)').size() > 0))",
        "lists.range(100000).all(i, 'aaaa'.matches('[ab]*a' + string(i)) || true)",
        "lists.range(150000).all(i, timestamp(i).getHours('Zone/' + string(i)) >= 0 || true)",
        "lists.range(1000000000).size() > 0",
    ],
)
def test_work_that_would_never_end_is_given_up(outcome: Outcome, expression: str) -> None:
    assert outcome(expression) == "evaluation-error"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'%.2147483647f'.format([1.5]).size() < 100", "true"),
        (f"'{'a' * 5000}b'.matches('(a+)+$')", "false"),
        (f"isSemver('{'1' * 5000}.0.0')", "false"),
        (f"isQuantity('{'9' * 5000}')", "false"),
        ("isQuantity('1e2000000000')", "false"),
        (f"isIP('{'1:' * 4000}')", "false"),
        (f"int('{'9' * 9000}') == 1", "compile-error"),
        (f"duration('{'1h' * 4500}') == duration('1s')", "compile-error"),
        (f"format.qualifiedName().validate('{'a.' * 4000}!').hasValue()", "true"),
    ],
)
def test_huge_texts_are_judged_at_once(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected
