import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.versions import Version

from .conftest import Outcome

VERSIONS = st.builds(
    lambda major, minor, label: f"{major}.{minor}.0{label}",
    st.integers(0, 20),
    st.integers(0, 20),
    st.sampled_from(["", "-alpha", "-beta", "-1", "-2", "-10", "-a-b", "-alpha.1", "-alpha.beta", "+b"]),
)


@pytest.mark.parametrize(
    "text", ["1.2.3", "0.0.0-0", "1.2.3-rc.1+b.5", "1.2.3--", "1.2.3+01", "18446744073709551615.0.0"]
)
def test_what_is_a_version(outcome: Outcome, text: str) -> None:
    assert outcome(f"isSemver('{text}') && semver('{text}') == semver('{text}')") == "true"


@pytest.mark.parametrize(
    "text",
    ["", "1.2", "v1.2.3", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", "1.2.3.4", "a.b.c", "1.2.3 ", "-1.2.3",
     "18446744073709551616.0.0", "1.2.3-18446744073709551616", "1.2.3-a_b", "1..2"],
)  # fmt: skip
def test_what_is_none(outcome: Outcome, text: str) -> None:
    assert outcome(f"isSemver('{text}')") == "false"
    assert outcome(f"semver('{text}') == semver('{text}')") == "evaluation-error"


@pytest.mark.parametrize(
    ("text", "version"),
    [("v1", "1.0.0"), ("1.2", "1.2.0"), ("v01.002", "1.2.0"), ("1.00.0-rc", "1.0.0-rc"), ("00", "0.0.0")],
)
def test_normalizing_fills_up_and_strips(outcome: Outcome, text: str, version: str) -> None:
    assert outcome(f"isSemver('{text}', true) && semver('{text}', true) == semver('{version}')") == "true"
    assert outcome(f"isSemver('{text}', false)") == "false"


@pytest.mark.parametrize("text", ["1.2-rc", "v", "vv1", "1.2.x", " 1", "1.2.3.4", ""])
def test_normalizing_does_not_make_a_version_of_anything(outcome: Outcome, text: str) -> None:
    assert outcome(f"isSemver('{text}', true)") == "false"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("semver('1.0.0+a') == semver('1.0.0+b')", "true"),
        ("semver('1.0.0-alpha').isLessThan(semver('1.0.0'))", "true"),
        ("semver('1.0.0-2').isLessThan(semver('1.0.0-10'))", "true"),
        ("semver('1.0.0-10').isLessThan(semver('1.0.0-a'))", "true"),
        ("semver('1.0.0-a').isLessThan(semver('1.0.0-a.1'))", "true"),
        ("device.attributes['d'].v.isGreaterThan(semver('1.2.2'))", "true"),
        ("semver('1.2.3').compareTo(semver('1.2.3')) == 0", "true"),
        ("device.attributes['d'].v.major() == 1 && device.attributes['d'].v.minor() == 2", "true"),
        ("device.attributes['d'].v.patch() == 3", "true"),
        ("semver('18446744073709551615.0.0').major() == -1", "true"),
        ("semver('1.0.0').isGreaterThan(quantity('1'))", "compile-error"),
        ("device.attributes['d'].s.isGreaterThan(semver('1.0.0'))", "evaluation-error"),
        ("semver('1.0.0') in ['a', 'b']", "compile-error"),
        ("device.attributes['d'].v in ['a', 'b']", "evaluation-error"),
    ],
)
def test_versions_are_ordered(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@given(VERSIONS, VERSIONS, VERSIONS)
def test_the_order_is_transitive(first: str, second: str, third: str) -> None:
    low, middle, high = sorted(
        (version for text in (first, second, third) if (version := Version.parse(text)) is not None),
        key=lambda version: version.order,
    )
    assert low.order <= middle.order <= high.order
    assert low.order <= high.order
