"""Selectors mean what Kubernetes says they mean."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel import (
    DeviceView,
    InvalidSelectorError,
    SelectorNotSupportedError,
    SelectorRaisedError,
    compile_selector,
)
from driver.errors import InvalidInputError, SelectorError

CARD = DeviceView.build(
    {
        "name": "card-0",
        "allowMultipleAllocations": True,
        "attributes": {
            "vendor": {"string": "nvidia"},
            "healthy": {"bool": True},
            "index": {"int": 3},
            "driverVersion": {"version": "550.54.15"},
            "links": {"ints": [1, 2]},
            "resource.kubernetes.io/numaNode": {"int": 0},
        },
        "capacity": {"memory": {"value": "40Gi"}, "cores": {"value": "100"}},
    },
    driver="dragoman.dev",
)
A = 'device.attributes["dragoman.dev"]'
C = 'device.capacity["dragoman.dev"]'


def answer(expression: str, device: DeviceView = CARD) -> bool:
    return compile_selector(expression).evaluate(device)


@pytest.mark.parametrize(
    "expression",
    [
        'device.driver == "dragoman.dev"',
        f'{A}.vendor == "nvidia"',
        f'{A}["vendor"] in ["amd", "nvidia"]',
        f"{A}.healthy",
        f"{A}.index > 2 && {A}.index <= 3",
        f"{A}.index == 3.0 && {A}.index == 3u",
        'device.attributes["resource.kubernetes.io"].numaNode == 0',
        "device.allowMultipleAllocations",
        f'has({A}.vendor) && !has({A}.nope) && "vendor" in {A}',
        f'{C}.memory.compareTo(quantity("40Gi")) >= 0',
        f'{C}.memory.isGreaterThan(quantity("39Gi"))',
        f'{C}.memory == quantity("40960Mi")',
        f'{C}.memory.sub(quantity("4Gi")).isLessThan({C}.memory)',
        f'{A}.driverVersion.isGreaterThan(semver("550.9.0"))',
        f"{A}.driverVersion.major() == 550",
        f'{A}.vendor.startsWith("nv") && {A}.vendor.endsWith("ia") && {A}.vendor.contains("vid")',
        f'{A}.vendor.matches("^n.*a$")',
        f'{A}.?nope.orValue("x") == "x"',
        f"{A}[?'vendor'].hasValue()",
        f"{A}.healthy ? {A}.index == 3 : false",
        "size(device.driver) == 12",
        f"{A}.links[1] == 2 && 2 in {A}.links",
        "// a comment\ntrue",
        r'r"\d" == "\\d" && "\u00e9" == "é"',
        "-7 / 2 == -3 && -7 % 3 == -1",
        "1u < 2 && 1 < 2.5",
        "{1: 'x', 2: 'y'}[2] == 'y'",
    ],
)
def test_what_is_true_of_the_card_is_true(expression: str) -> None:
    assert answer(expression) is True


@pytest.mark.parametrize(
    "expression",
    [
        f'{A}.vendor == "amd"',
        f"{A}.vendor == 1",
        f"{A}.healthy == 1",
        '"nope" in device.attributes',
        'has(device.attributes["none"].foo)',
        f"{A}.index in []",
        f"{A}.nope in []",
    ],
)
def test_what_is_not_is_false(expression: str) -> None:
    assert answer(expression) is False


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        (f"{A}.nope == 1 || true", True),
        (f"true || {A}.nope == 1", True),
        (f"{A}.nope == 1 && false", False),
        (f"false && {A}.nope == 1", False),
        ("1 / 0 == 1 || true", True),
        (f"{A}.vendor || true", True),
        (f"{A}.vendor && false", False),
    ],
)
def test_and_and_or_absorb_an_error_on_either_side(expression: str, result: bool) -> None:
    assert answer(expression) is result


@pytest.mark.parametrize(
    "expression",
    [f"{A}.nope == 1 || false", f"{A}.nope == 1 && true", f"false || {A}.vendor", f"true && {A}.vendor"],
)
def test_an_error_that_decides_is_raised(expression: str) -> None:
    with pytest.raises(SelectorRaisedError):
        answer(expression)


def test_a_missing_key_is_an_error_with_its_name_and_column() -> None:
    with pytest.raises(SelectorRaisedError, match="no such key: nope") as caught:
        answer(f"{A}.nope == 1")
    assert caught.value.column == len(A) + 1
    assert caught.value.reason == "SelectorRaised"


def test_a_missing_domain_is_an_empty_map_and_yet_not_in_the_map() -> None:
    assert answer('device.attributes["none"] == {} && !("none" in device.attributes)')
    with pytest.raises(SelectorRaisedError, match="no such key: x"):
        answer('device.attributes["none"].x == 1')


def test_an_attribute_that_is_no_bool_is_no_result() -> None:
    with pytest.raises(SelectorRaisedError, match="string"):
        answer(f"{A}.vendor")


@pytest.mark.parametrize(
    "expression",
    [
        "9223372036854775807 + 1 == 0",
        "18446744073709551615u + 1u == 0u",
        "1 % 0 == 1",
        "-(-9223372036854775808) == 1",
    ],
)
def test_integers_raise_where_they_leave_64_bits(expression: str) -> None:
    with pytest.raises(SelectorRaisedError):
        answer(expression)


@pytest.mark.parametrize(
    ("expression", "column"),
    [
        ("device.nope == 1", 7),
        ("unknown == 1", 1),
        ("device.driver == 1", 15),
        ("true && 1", 9),
        ("nofunc(1)", 1),
        ('[1, "a"].size() == 2', 5),
        ('device.driver.matches("[")', 23),
        ("(true", 6),
        ("true) ", 5),
        ("true &&", 8),
        ("a = b", 3),
        ('"open', 1),
        ("9223372036854775808 == 1", 1),
        ("has(device)", 5),
        ("Message{a: 1} == 1", 8),
        (f"{C}.memory > quantity('1')", len(C) + 9),
    ],
)
def test_what_does_not_compile_is_refused_with_its_column(expression: str, column: int) -> None:
    with pytest.raises(InvalidSelectorError) as caught:
        compile_selector(expression)
    assert caught.value.column == column
    assert caught.value.reason == "InvalidSelector"


@pytest.mark.parametrize("expression", ["1", "device.driver", "device", "", "device.attributes"])
def test_what_can_never_be_a_bool_does_not_compile(expression: str) -> None:
    with pytest.raises(InvalidSelectorError):
        compile_selector(expression)


def test_a_message_is_refused_as_not_supported_with_its_column() -> None:
    with pytest.raises(SelectorNotSupportedError, match=r"google\.protobuf\.Struct") as caught:
        compile_selector("google.protobuf.Struct{} == {}")
    assert caught.value.column == 23
    assert caught.value.reason == "SelectorNotSupported"


def test_a_column_counts_from_the_start_of_its_line() -> None:
    with pytest.raises(InvalidSelectorError) as caught:
        compile_selector("true &&\n  nope")
    assert (caught.value.line, caught.value.column) == (2, 3)


def test_a_version_that_is_none_makes_every_selector_raise_on_that_device() -> None:
    broken = DeviceView.build({"attributes": {"v": {"version": "1.2"}}}, driver="d")
    with pytest.raises(SelectorRaisedError, match="attribute v"):
        answer("true", broken)


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 5000 + "true" + ")" * 5000,
        "[" * 3000 + "]" * 3000 + " == []",
        "true" + " && true" * 2000,
        "1" + " + 1" * 2000 + " == 2001",
        "!" * 5000 + "true",
        "-" * 5000 + "1 == 1",
        "device" + ".a" * 4000,
        "true ? " * 1200 + "true" + " : true" * 200,
        "a || b && c == d + e * (" * 400,
        "x" * 20_000,
        "9" * 9000 + " == 1",
        '"' + "a" * 5000 + '".matches("(a+)+$")',
        '"a".matches("((a{1000}){1000}){1000}")',
        "quantity('1e2000000000').isLessThan(quantity('1'))",
        "semver('" + "1" * 5000 + ".0.0') == semver('1.0.0')",
        "__class__ == 1",
        "'\ud800' == 'a'",
        "true\x00",
    ],
    ids=lambda text: f"{text[:12]!r}x{len(text)}",
)
def test_a_hostile_expression_is_answered_or_refused_by_our_own_errors(expression: str) -> None:
    with contextlib.suppress(SelectorError):
        assert answer(expression) in (True, False)


@given(st.text(alphabet="device.atrbus[\"]()&|!=<>?:,{}0123456789 ina+-*/%'\\rbu\n`", max_size=60))
def test_no_text_raises_anything_but_a_selector_error(text: str) -> None:
    with contextlib.suppress(SelectorError):
        assert answer(text) in (True, False)


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1))
def test_quotient_and_remainder_put_the_dividend_together_again(left: int, right: int) -> None:
    expression = f"({left} / {right}) * {right} + {left} % {right} == {left}"
    if right == 0 or (left, right) == (-(1 << 63), -1):
        with pytest.raises(SelectorRaisedError):
            answer(expression)
    else:
        assert answer(expression)


def test_a_release_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"1\.33"):
        compile_selector("true", release="1.33")


def test_a_refusal_is_the_same_the_second_time() -> None:
    for _ in range(2):
        with pytest.raises(InvalidSelectorError, match="nope"):
            compile_selector("nope == 1")


def test_a_number_that_is_too_large_for_a_double_does_not_compile() -> None:
    with pytest.raises(InvalidSelectorError, match="out of range"):
        compile_selector("1e999 > 0.0")


def test_an_attribute_that_is_not_unicode_makes_every_selector_raise_on_that_device() -> None:
    broken = DeviceView.build({"attributes": {"v": {"string": "\ud800"}}}, driver="d")
    with pytest.raises(SelectorRaisedError, match="Unicode"):
        answer("true", broken)
