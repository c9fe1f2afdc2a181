import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel import compile_selector
from driver.cel.device import DeviceView
from driver.cel.errors import EvaluationError
from driver.cel.library.string_format import _format

from .conftest import Outcome


@pytest.mark.parametrize(
    ("text", "args", "written"),
    [
        ("%s %s %s", "['a', 1, 2u]", "a 1 2"),
        ("%s %s", "[1.0, 1e21]", "1 1e+21"),
        ("%s %s", "[true, null]", "true null"),
        ("%s", "[b'abc']", "abc"),
        ("%s", "[duration('90m')]", "5400s"),
        ("%s", "[timestamp(0)]", "1970-01-01T00:00:00Z"),
        ("%s", "[int]", "int"),
        ("%s", "[['a', 1.5, b'x', null, duration('1s'), timestamp(0), [1u], int]]", None),
        ("%s", "[{'b': 1, 'a': [2.5]}]", '{"a":[2.500000], "b":1}'),
        ("%s", "[{true: 'x', false: 'y'}]", '{false:"y", true:"x"}'),
        ("%s", "[[double('NaN'), double('-Infinity')]]", '["NaN", "-Inf"]'),
        ("100%%", "[]", "100%"),
        ("%d %d", "[-5, 7u]", "-5 7"),
        ("%f", "[1234567.891]", "1,234,567.891000"),
        ("%.2f %.0f %.0f", "[1.005, 2.5, 3.5]", "1.00 2 4"),
        ("%f %f %f", "[double('NaN'), double('Infinity'), '-Infinity']", "NaN ∞ -∞"),
        ("%f", "[-0.0]", "0.000000"),
        ("%e", "[1234.5678]", "1.234568\u00d710⁰³"),
        ("%.3e|%.20e", "[0.00001, -1e300]", "1.000000\u00d710⁻⁰⁵|     -1.000000\u00d710³⁰⁰"),
        ("%e", "['NaN']", "   NaN"),
        ("%b %b %b", "[5, -5, true]", "101 -101 1"),
        ("%o", "[8]", "10"),
        ("%x %X %x %X", "[255, 255u, 'hé', b'\\xff']", "ff FF 68c3a9 FF"),
        ("%x", "[-255]", "-ff"),
    ],
)
def test_each_clause_writes_what_go_writes(text: str, args: str, written: str | None) -> None:
    if written is None:
        written = '["a", 1.500000, b"x", null, duration("1s"), timestamp("1970-01-01T00:00:00Z"), [1], int]'
    quoted = written.replace("\\", "\\\\").replace("'", "\\'")
    selector = compile_selector(f"'{text}'.format({args}) == '{quoted}'")
    assert selector.evaluate(DeviceView.build({}, driver="d"))


@pytest.mark.parametrize(
    ("precision", "size"),
    [(255, 257), (256, 3), (300, 46), (32768, 3), (40000, 66), (65536, 1), (9999999, 129), (2147483647, 10)],
)
def test_precision_is_counted_as_there(outcome: Outcome, precision: int, size: int) -> None:
    assert outcome(f"'%.{precision}f'.format([1.5]).size() == {size}") == "true"


@pytest.mark.parametrize(("width", "size"), [(300, 300), (65536, 13), (65600, 64), (2147483647, 10)])
def test_the_precision_of_a_power_is_a_width(outcome: Outcome, width: int, size: int) -> None:
    assert outcome(f"'%.{width}e'.format([1.5]).size() == {size}") == "true"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'%d'.format(['a']) == ''", "compile-error"),
        ("'%d'.format([dyn('a')]) == ''", "evaluation-error"),
        ("'%f'.format([1]) == ''", "compile-error"),
        ("'%f'.format(['abc']) == ''", "evaluation-error"),
        ("'%s'.format([]) == ''", "compile-error"),
        ("'%s'.format([1, 2]) == ''", "compile-error"),
        ("'%s'.format(device.attributes['d'].li) == '1'", "true"),
        ("'%s %s %s %s'.format(device.attributes['d'].li) == ''", "evaluation-error"),
        ("'%z'.format([1]) == ''", "compile-error"),
        ("'%'.format([1]) == ''", "compile-error"),
        ("'%.f'.format([1.0]) == ''", "compile-error"),
        ("'%.5'.format([1.0]) == ''", "compile-error"),
        ("'%.99999999999999999999f'.format([1.0]) == ''", "compile-error"),
        ("dyn('%z').format([1]) == ''", "evaluation-error"),
        ("'%s'.format([quantity('1')]) == '1'", "compile-error"),
        ("'%s'.format([device.attributes['d'].v]) == '1.2.3'", "evaluation-error"),
        ("'%s'.format([[optional.of(1)]]) == ''", "compile-error"),
        ("'%s'.format([[1, 'a']]) == '[1, \"a\"]'", "true"),
        ("'%s'.format([{1.5: 1}]) == ''", "evaluation-error"),
        ("'%s'.format([b'\\xff']) == ''", "evaluation-error"),
    ],
)
def test_what_a_clause_does_not_take_is_an_error(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@given(st.text(alphabet="%sdfexXbo.0123é", max_size=12))
def test_any_format_gives_a_string_or_an_error(text: str) -> None:
    with contextlib.suppress(EvaluationError):
        assert isinstance(_format(text, [1, 2.5, "a", b"b"]), str)
