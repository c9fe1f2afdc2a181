"""Quantities are read and written as the API server does it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.errors import QuantityError
from driver.quantities import MAX_AMOUNT, MIB, Form, Quantity, format_bytes, format_count, parse_quantity

WHOLE = st.integers(min_value=-MAX_AMOUNT, max_value=MAX_AMOUNT)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4Gi", 4 << 30),
        ("1.5Gi", 3 << 29),
        ("12e6", 12_000_000),
        ("12E6", 12_000_000),
        ("500m", Fraction(1, 2)),
        ("12Ei", ((1 << 63) - 1)),
        ("7Ei", 7 << 60),
        ("1E", 10**18),
        ("+5", 5),
        ("-5", -5),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("1e-3", Fraction(1, 1000)),
        ("007", 7),
        ("1n", Fraction(1, 10**9)),
        ("1u", Fraction(1, 10**6)),
    ],
)
def test_a_text_means_the_number_that_the_api_server_reads(text: str, value: Fraction) -> None:
    quantity = parse_quantity(text)
    assert quantity.exact == value
    assert quantity.text == text


@pytest.mark.parametrize("text", ["Gi", ".", "-", "+", "m", "000"])
def test_what_has_no_digits_is_zero_as_in_kubernetes(text: str) -> None:
    assert parse_quantity(text).exact == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "200K",
        "1i",
        "1e",
        "1e+",
        "1 Gi",
        " 1",
        "1\n",
        "1.1.1",
        "1+1",
        "abc",
        "4GiB",
        "0x10",
        "1_000",
        "٤",
        "1Ei5",
        "NaN",
    ],
)
def test_what_the_api_server_does_not_read_is_refused_with_field_and_remedy(text: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_quantity(text, field="spec.memory")
    assert caught.value.field == "spec.memory"
    assert caught.value.reason == "InvalidQuantity"
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["1" * 5000, "1e2000000000", "1e-2000000000", "1e99999999999999999999999"])
def test_hostile_texts_are_refused_at_once(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(text)


def test_finer_than_a_nano_is_rounded_away_from_zero() -> None:
    assert parse_quantity("0.0000000001").exact == Fraction(1, 10**9)
    assert parse_quantity("-0.0000000001").exact == Fraction(-1, 10**9)


@pytest.mark.parametrize(
    ("text", "value"), [("12500m", 13), ("-12500m", -13), ("13", 13), ("1n", 1), ("0", 0)]
)
def test_rounding_to_whole_numbers_goes_away_from_zero(text: str, value: int) -> None:
    quantity = parse_quantity(text)
    assert quantity.rounded_up == value
    assert quantity.is_integer == (text in {"13", "0"})


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000Mi", "1000Mi"),
        ("0.5Ki", "512"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1.5", "1500m"),
        ("0.5Gi", "512Mi"),
        ("12e6", "12e6"),
        ("1200e4", "12e6"),
        ("5e0", "5"),
        ("0Gi", "0"),
        ("-2Gi", "-2Gi"),
        ("1000E", "1e21"),
        ("0.1Ki", "102400m"),
    ],
)
def test_the_canonical_text_is_the_one_that_the_api_server_stores(text: str, canonical: str) -> None:
    assert parse_quantity(text).canonical() == canonical


def test_amounts_are_equal_and_ordered_by_number_not_by_text() -> None:
    assert parse_quantity("4Gi") == parse_quantity("4096Mi")
    assert hash(parse_quantity("4Gi")) == hash(parse_quantity("4096Mi"))
    assert parse_quantity("4G") < parse_quantity("4Gi")


def test_bytes_and_counts_are_written_as_people_know_them() -> None:
    assert format_bytes(4 << 30) == "4Gi"
    assert format_bytes(1536 * MIB) == "1536Mi"
    assert format_bytes(3_000_000_000) == "3000000000"
    assert format_count(30) == "30"
    assert format_count(0) == "0"


@given(WHOLE)
def test_what_is_written_reads_back_as_the_same_number(amount: int) -> None:
    assert parse_quantity(format_bytes(amount)).exact == amount
    assert parse_quantity(format_count(amount)).exact == amount
    assert Quantity.whole(amount, form=Form.EXPONENT).rounded_up == amount


@given(
    st.from_regex(r"\A[+-]?[0-9]{1,20}(\.[0-9]{0,12})?([numkMGTPE]|[KMGTPE]i|e[+-]?[0-9]{1,2})?\Z"),
)
def test_the_canonical_text_keeps_the_number_and_stays_as_it_is(text: str) -> None:
    quantity = parse_quantity(text)
    again = parse_quantity(quantity.canonical())
    assert again == quantity
    assert again.canonical() == quantity.canonical()


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_quantity_error(text: str) -> None:
    try:
        quantity = parse_quantity(text)
    except QuantityError:
        return
    assert abs(quantity.rounded_up) >= abs(quantity.exact)


@pytest.mark.parametrize("text", ["Ei", "Pi", "-Ei", ".Pi", "e-10", "-e-1000"])
def test_a_suffix_too_large_or_too_fine_does_not_stand_alone(text: str) -> None:
    with pytest.raises(QuantityError, match="has no number"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["Ki", ".Ti", "n", "e5", "E", "+", ".", "0Ei"])
def test_other_suffixes_alone_are_zero(text: str) -> None:
    assert parse_quantity(text).nano == 0
