"""Expressions made to do harm end soon, take little memory, and leave a process that goes on serving."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from driver.cel import DeviceView, SelectorNotSupportedError, compile_selector

MIB = 1 << 20
# What is measured is far below; these are to catch what runs away, on any machine.
MEMORY = 1024 * MIB
SECONDS = 280


def nested(macro: str, body: str, *, depth: int = 12, operand: str = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]") -> str:
    for level in range(depth):
        body = f"{operand}.{macro}(x{level}, {body})"
    return body


def doubled(first: str, step: str, *, times: int = 40, last: str = "size({0}) > 0") -> str:
    expression = last.format(f"x{times}")
    for time in range(times, 0, -1):
        expression = f"cel.bind(x{time}, {step.format(f'x{time - 1}')}, {expression})"
    return f"cel.bind(x0, {first}, {expression})"


TWICE = "[dyn({0}), dyn({0})]"
LIST = "cel.bind(l, lists.range(90000), {})"
HOSTILE = {
    "parentheses": "(" * 5000 + "true" + ")" * 5000,
    "open parentheses": "(" * 10000,
    "lists in lists": "[" * 240 + "]" * 240 + " == []",
    "maps in maps": "{1:" * 200 + "1" + "}" * 200 + " == {}",
    "selections": "dyn(device)" + ".a" * 3000,
    "a sum of 10 KiB": "1" + "+1" * 5100 + " > 0",
    "10 KiB of and": "true" + "&&true" * 1700,
    "10 KiB of not": "!" * 10000 + "true",
    "conditions": "true ? true : " * 240 + "true",
    "an integer of thousands of digits": "1" * 5000 + " == 1",
    "a double of thousands of digits": "1" * 5000 + ".0 == 1.0",
    "digits to be converted": f"int('{'9' * 5000}') == 1 || double('{'9' * 5000}') > 1.0",
    "an exponent": "1e999999999 == 1.0",
    "a quantity's exponent": "quantity('1e2000000000').compareTo(quantity('1')) > 0",
    "a version's digits": f"semver('{'9' * 5000}.0.0').major() == 1",
    "the smallest integer over -1": "-9223372036854775808 / -1 == 0 || -9223372036854775808 % -1 == 0",
    "half a character": '"\ud800" == "a"',
    "a string that is not closed": '"' + "a" * 9000,
    "quotes": '"""' + '""' * 2000,
    "Python's attributes": "dyn(device).__class__.__mro__ == 1",
    "all of all": nested("all", "true"),
    "exists of exists": nested("exists", "false"),
    "exists_one, which the reference does not charge": LIST.format("l.exists_one(a, l.exists_one(b, false))"),
    "map of map": nested("map", "1") + ".size() > 0",
    "a string doubled": doubled("'aaaaaaaa'", "{0} + {0}"),
    "a string of unknown type doubled": doubled("dyn('aaaaaaaa')", "{0} + {0}"),
    "bytes doubled": doubled("b'aaaaaaaa'", "{0} + {0}"),
    "a list doubled": doubled("[1]", "{0} + {0}"),
    "a list of unknown type doubled": doubled("dyn([1])", "{0} + {0}"),
    "a list that holds itself twice, compared": doubled(
        "[dyn(1)]", "[dyn({0}), dyn({0})]", last="{0} == {0}"
    ),
    "the same, searched": doubled("[dyn(1)]", "[dyn({0}), dyn({0})]", last="{0} in [{0}]"),
    "the same, formatted": doubled("[dyn(1)]", "[dyn({0}), dyn({0})]", last="'%s'.format([{0}]) == ''"),
    "the same, flattened": doubled("[dyn(1)]", "[dyn({0}), dyn({0})]", last="{0}.flatten(99) == []"),
    "a map that holds itself twice": doubled(
        "{1: dyn(1)}", "{{1: dyn({0}), 2: dyn({0})}}", last="{0} == {0}"
    ),
    "optMap of optMap": "optional.of([1])" + ".optMap(x, x + x)" * 200 + ".hasValue()",
    "replace of replace": "'aaaaaaaa'" + ".replace('', 'aaaaaaaaaaaaaaaaaaaaaaaa')" * 12 + ".size() > 0",
    "a precision": "'%.2147483647f'.format([1.0]) == '' || '%.2147483648e'.format([1.0]) == ''",
    "a range": "lists.range(1000000000).size() > 0",
    "a range below zero": "lists.range(-1).size() > 0",
    "nested repetitions": f"'{'a' * 5000}!'.matches('((a+)+)+$')",
    "counted repetitions": "'a'.matches('((a{1,100}){1,100}){1,100}')",
    "a pattern made up": doubled("'(a|b)*'", "{0} + {0}", times=10, last="'a'.matches({0})"),
    "alternatives": f"'x'.matches('{'|'.join(f'a{n}' for n in range(1500))}')",
    "patterns made up in a loop": "lists.range(90000).all(x, 'a'.matches('(a{999})' + string(x)) || true)",
    "large patterns": r"lists.range(90000).all(x, 'a'.matches('\\pL{100}' + string(x)) || true)",
    "errors of quantities": "lists.range(90000).all(x, quantity('a' + string(x)).isInteger() || true)",
    "hundreds of large patterns": "||".join(rf"'a'.matches('\\pL{{{n}}}')" for n in range(100, 300)),
    "comparing lists": LIST.format("l.all(x, l == l)"),
    "searching lists": LIST.format("l.all(x, l.indexOf(x) == x)"),
    "sorting": "dyn(lists.range(90000)).sort().size() > 0 && lists.range(90000).sort().size() > 0",
    "errors": "lists.range(200000).all(x, 1 / 0 == 1 || true)",
    "quantities": "lists.range(90000).all(x, quantity('1Gi').add(quantity('1k')).isInteger())",
}

_CHILD = f"""
import json, resource, sys, time
from driver.cel import DeviceView, SelectorNotSupportedError, compile_selector
from driver.errors import SelectorError
card = DeviceView.build({{"attributes": {{"s": {{"string": "x"}}}}}}, driver="d")
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
for name, expression in json.load(sys.stdin).items():
    began = time.process_time()
    try:
        answer = compile_selector(expression, release="1.37").evaluate(card)
    except SelectorError as error:
        answer = error.reason
    seconds = time.process_time() - began
    serves = compile_selector("device.driver == 'd'").evaluate(card)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps([name, answer, serves, round(seconds, 3), peak]), flush=True)
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[object, bool]]:
    """Have one process answer all of them."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps(HOSTILE),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for name, answer, _, seconds, peak in sorted(lines, key=lambda line: -line[3])[:5]:
        print(f"{name}: {answer} in {seconds} s, at most {peak} MiB so far")  # noqa: T201 - figures
    return {name: (answer, serves) for name, answer, serves, *_ in lines}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_expression_gets_an_answer_or_a_clear_error(
    answers: dict[str, tuple[object, bool]], name: str
) -> None:
    answer, serves = answers[name]
    assert answer in {True, False, "InvalidSelector", "SelectorNotSupported", "SelectorRaised"}
    assert serves


def test_patterns_that_are_too_large_together_are_refused_with_their_column() -> None:
    large = r"'a'.matches('\\pL{200}')"
    with pytest.raises(SelectorNotSupportedError, match="regular expressions") as caught:
        compile_selector(" || ".join([large] * 20))
    assert caught.value.column > len(large)


def test_deep_expressions_are_answered_on_a_deep_stack_of_the_caller(card: DeviceView) -> None:
    def deeper(levels: int) -> bool:
        if levels:
            return deeper(levels - 1)
        return compile_selector("(" * 240 + "true" + ")" * 240).evaluate(card)

    assert deeper(500)
