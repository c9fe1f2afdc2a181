import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.library.formats import FORMATS

from .conftest import Outcome


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        ("dns1123Label", ["a", "1a", "my-name", "a" * 63], ["", "-a", "a-", "A", "a.b", "a" * 64]),
        ("dns1123Subdomain", ["a.b", "a" * 253], ["a..b", "a.", "a_b", "a" * 254]),
        ("dns1035Label", ["a1"], ["1a", "", "a.b"]),
        ("qualifiedName", ["a", "x.y/A_b.c", "a" * 63], ["", "/a", "a/", "a/b/c", "X/a", "-a", "a" * 64]),
        ("dns1123LabelPrefix", ["a-", "ab-", "a", "A-"], ["-a", "Ab-"]),
        ("dns1123SubdomainPrefix", ["a.b-", "a.-"], ["a.", ".-a"]),
        ("dns1035LabelPrefix", ["a-"], ["1-a"]),
        ("labelValue", ["", "A_b.c"], ["-", "a b", "a" * 64]),
        ("uri", ["http://a/", "/a"], ["a", ""]),
        (
            "uuid",
            ["123e4567-e89b-12d3-a456-426614174000", "123E4567e89b12d3a456426614174000"],
            ["123e4567-e89b-12d3-a456-42661417400", ""],
        ),
        ("byte", ["aGVsbG8=", "aGVs", "aGU="], ["", "a", "aGVsbG8", "a===", "a b="]),
        ("date", ["2024-02-29"], ["2023-02-29", "2024-1-1", "", "2024-01-01T00:00:00Z"]),
        (
            "datetime",
            ["2024-01-01T00:00:00Z", "2024-01-01t00:00:00.5z", "2024-01-01T00:00:00x5+01:00"],
            ["2024-01-01", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00", "x"],
        ),
    ],
)
def test_what_a_format_takes(outcome: Outcome, name: str, valid: list[str], invalid: list[str]) -> None:
    for text in valid:
        assert outcome(f"format.{name}().validate('{text}').hasValue()") == "false", text
    for text in invalid:
        assert outcome(f"format.named('{name}').value().validate('{text}').hasValue()") == "true", text


def test_the_texts_are_those_of_kubernetes() -> None:
    assert FORMATS["dns1123Label"].problems("a.b") == ["must not contain dots"]
    too_long, unlike = FORMATS["dns1123Label"].problems("-" * 64)
    assert too_long == "must be no more than 63 characters"
    assert unlike == (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
        "and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
        "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
    )
    assert FORMATS["uri"].problems("a b") == ['parse "a b": invalid URI for request']
    assert FORMATS["date"].problems("x") == ["invalid date"]
    assert FORMATS["qualifiedName"].problems("/")[:2] == [
        "prefix part must be non-empty",
        "name part must be non-empty",
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("format.named('nope') == optional.none()", "true"),
        ("format.uri() == format.named('uri').value() && format.uri() != format.date()", "true"),
        ("format.date().validate(1).hasValue()", "compile-error"),
        ("format.date().validate(device.attributes['d'].a).hasValue()", "evaluation-error"),
        ("format.nope() == format.date()", "compile-error"),
    ],
)
def test_formats_are_values(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@given(st.text(alphabet="aA1-./_é ", max_size=12))
def test_a_label_is_a_subdomain_and_a_subdomain_a_prefix_of_one(text: str) -> None:
    if not FORMATS["dns1123Label"].problems(text):
        assert not FORMATS["dns1123Subdomain"].problems(text)
        assert not FORMATS["labelValue"].problems(text)
