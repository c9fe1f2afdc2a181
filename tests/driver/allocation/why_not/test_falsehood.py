"""Which part of a selector is false, and what the device has."""

import pytest

from driver.allocation.why_not.falsehood import conjuncts, explained, reads
from driver.cel import DeviceView

MODEL = 'device.attributes["dragoman.dev"].model'
NUMA = 'device.attributes["resource.kubernetes.io"].numaNode'
MEMORY = 'device.capacity["dragoman.dev"].memory'
CARD = {
    "name": "c",
    "attributes": {
        "model": {"string": "A100"},
        "driverVersion": {"version": "550.54.15"},
        "resource.kubernetes.io/numaNode": {"int": 1},
    },
    "capacity": {"memory": {"value": "80Gi"}},
}
VIEW = DeviceView.build(CARD, driver="dragoman.dev")


def wrong(expression: str) -> tuple[str, list[str], str]:
    found = explained(expression, VIEW, release="1.36")
    assert found is not None
    return found.text, [f"{one.name}={one.value}" for one in found.seen], found.error


def test_a_true_selector_has_no_false_part() -> None:
    assert explained(f'{MODEL} == "A100"', VIEW, release="1.36") is None


def test_of_a_conjunction_the_first_false_part_is_told_with_the_value_seen() -> None:
    text, seen, _ = wrong(f'device.driver == "dragoman.dev" && {MODEL} == "H100" && {NUMA} == 7')
    assert text == f'{MODEL} == "H100"'
    assert seen == ['model="A100"']


def test_brackets_around_conjunctions_are_looked_into() -> None:
    inner = f'{MEMORY}.isGreaterThan(quantity("90Gi"))'
    text, seen, _ = wrong(f'(({MODEL} == "A100") && (true && ({inner})))')
    assert text == inner
    assert seen == ["memory=80Gi"]


def test_a_disjunction_is_one_part_with_all_that_it_read() -> None:
    text, seen, _ = wrong(f'true && ({MODEL} == "H100" || {NUMA} == 0)')
    assert text == f'({MODEL} == "H100" || {NUMA} == 0)'[1:-1]
    assert seen == ['model="A100"', "resource.kubernetes.io/numaNode=1"]


@pytest.mark.parametrize(
    "expression",
    [
        f'{MODEL} == "A100" && false || {NUMA} == 9',
        f'{MODEL} == "A100" && true ? false : true',
        f'!({MODEL} == "A100" && true)',
        f'["a", "b"].exists(x, x == {MODEL} && true)',
    ],
)
def test_what_is_no_conjunction_outermost_is_not_torn_apart(expression: str) -> None:
    assert conjuncts(expression) == [expression]
    assert wrong(expression)[0] == expression if "exists" not in expression else True


def test_an_optional_field_is_no_ternary() -> None:
    assert conjuncts("a.?b.orValue(true) && c") == ["a.?b.orValue(true)", "c"]


def test_operators_within_strings_comments_and_brackets_do_not_divide() -> None:
    assert conjuncts('"a && b" == "c" && f(x && y) // && z\n') == ['"a && b" == "c"', "f(x && y)"]


def test_a_part_that_raises_is_told_where_none_is_false() -> None:
    text, seen, error = wrong(f'{MODEL} == "A100" && device.attributes["dragoman.dev"].colour == "red"')
    assert text == 'device.attributes["dragoman.dev"].colour == "red"'
    assert seen == ["colour=absent"]
    assert "no such key" in error


def test_a_false_part_counts_though_one_before_it_raises() -> None:
    text, _, error = wrong(f'device.attributes["dragoman.dev"].colour == "red" && {MODEL} == "H100"')
    assert (text, error) == (f'{MODEL} == "H100"', "")


def test_a_selector_that_does_not_compile_is_told_as_a_whole() -> None:
    text, seen, error = wrong("device.colour == ")
    assert (text, seen) == ("device.colour ==", [])
    assert error


def test_long_expressions_and_values_are_cut() -> None:
    text, _, _ = wrong(f'{MODEL} == "{"x" * 5000}"')
    assert len(text) <= 160


def test_a_chain_of_a_thousand_parts_is_not_looked_at_one_by_one() -> None:
    text, _, _ = wrong(" && ".join(["true"] * 900 + ["false"]))
    assert text.startswith("true && true")


def test_what_a_selector_reads_is_known_from_its_text() -> None:
    assert reads(f'{MODEL} == "a" && has({NUMA}) && device.driver == "x"') == frozenset(
        {
            ("attributes", "dragoman.dev", "model"),
            ("attributes", "resource.kubernetes.io", "numaNode"),
            ("driver",),
        }
    )


@pytest.mark.parametrize(
    "expression", ['"dragoman.dev" in device.attributes', 'device.attributes["a" + "b"].c == 1']
)
def test_what_is_read_under_computed_names_is_not_known(expression: str) -> None:
    assert reads(expression) is None
