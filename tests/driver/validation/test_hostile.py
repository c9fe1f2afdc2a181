"""Whatever an object is, an answer comes, and the work is bounded: counted here, timed in hack/bench."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel import compile_selector
from driver.validation import limits, selectors
from driver.validation.cards import KnownCards
from driver.validation.findings import Notes
from driver.validation.validate import KINDS, validate
from tests.driver.validation.cluster import SHARE, card, claim, config, facts, findings, known, request, told

A = 'device.attributes["dragoman.dev"]'
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "metadata",
                        "spec",
                        "devices",
                        "requests",
                        "exactly",
                        "firstAvailable",
                        "config",
                        "opaque",
                    ),
                    *(
                        "driver",
                        "parameters",
                        "constraints",
                        "selectors",
                        "cel",
                        "expression",
                        "capacity",
                        "count",
                    ),
                    *("name", "annotations", "cards", "nodeSelector", "hard", "deviceClassName", "memory"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(kind=st.sampled_from(KINDS), found=st.dictionaries(st.sampled_from(["metadata", "spec"]), ANYTHING))
def test_any_object_gets_an_answer(kind: str, found: dict[str, Any]) -> None:
    ours = facts(is_ours=lambda _: True, class_is_ours=lambda _: True)
    for error in validate(kind, found, facts=ours).errors:
        assert error.reason
        assert str(error)


@pytest.mark.parametrize(
    ("kind", "found", "field"),
    [
        ("ResourceClaim", {"spec": []}, "spec"),
        ("ResourceClaim", {"spec": {"devices": "all"}}, "spec.devices"),
        ("ResourceClaim", {"spec": {"devices": {"requests": {}}}}, "spec.devices.requests"),
        ("ResourceClaim", claim({"name": "a", "exactly": 3}), "spec.devices.requests[0].exactly"),
        ("ResourceClaim", claim(request(count="2")), "spec.devices.requests[0].exactly.count"),
        ("ResourceClaim", claim(config=[7]), "spec.devices.config[0]"),
        ("ResourceClaimTemplate", {"spec": {"spec": 1}}, "spec.spec"),
        ("DeviceClass", {"metadata": {"name": "x.dragoman.dev"}, "spec": {"selectors": 1}}, "spec.selectors"),
        ("AcceleratorPolicy", {"spec": 1}, "spec"),
        ("AcceleratorQuota", {"spec": []}, "spec"),
    ],
)
def test_what_is_not_of_the_documented_shape_is_refused_by_its_path(
    kind: str, found: dict[str, Any], field: str
) -> None:
    assert told(validate(kind, found, facts=facts())) == [("InvalidObject", field)]


def test_more_than_the_api_allows_is_refused_before_anybody_works_through_it() -> None:
    assert told(findings(claim(*(request(f"r{n}") for n in range(1000))))) == [
        ("ObjectTooLarge", "spec.devices.requests")
    ]
    assert told(findings(claim(request(), config=[config(SHARE)] * 1000))) == [
        ("ObjectTooLarge", "spec.devices.config")
    ]
    assert told(findings(claim(request(asks={str(n): "1" for n in range(5000)})))) == [
        ("ObjectTooLarge", "spec.devices.requests[0].exactly.capacity.requests")
    ]


def test_parameters_that_nest_deeply_are_refused() -> None:
    inner: Any = {}
    for _ in range(100_000):
        inner = {"a": inner}
    found = findings(claim(request(), config=[config({**SHARE, "minimumIsolation": inner})]))
    assert [one.reason for one in found.errors] == ["InvalidConfig"]


def test_what_is_told_is_short_however_long_the_text() -> None:
    long = "x" * 9000
    entries = [config({**SHARE, f"{long}{number}": 1}) for number in range(32)]
    requests = [request(f"r{number}", asks={long: long}) for number in range(32)]
    found = findings(claim(*requests, config=entries))
    assert len(found.errors) == limits.MAX_FINDINGS
    assert all(len(one.message) + len(one.field) < 2000 for one in found.errors)
    assert all(len(one) <= limits.MAX_WARNING for one in found.warnings)


def many_cards() -> KnownCards:
    return known(**{f"n{number}": [card(one, node=f"n{number}") for one in range(8)] for number in range(8)})


def test_only_so_many_selectors_are_compiled_for_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    real = compile_selector

    def counted(expression: str, **options: Any) -> Any:
        compiled.append(expression)
        return real(expression, **options)

    monkeypatch.setattr(selectors, "compile_selector", counted)
    long = " || ".join(["true"] * 1000)
    expressions = [[f"{long} || {place} == {number}" for number in range(4)] for place in range(8)]
    requests = [request(f"r{place}", *some) for place, some in enumerate(expressions)]
    found = findings(claim(*requests), facts(seconds=60.0))
    assert not found.errors
    assert 0 < sum(map(len, compiled)) <= limits.MAX_COMPILED
    assert sum(len(one) for some in expressions for one in some) > limits.MAX_COMPILED


def test_selectors_that_cost_too_much_are_not_held_against_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = KnownCards.select

    def counted(self: KnownCards, selector: Any) -> Any:
        asked.append(selector.expression)
        return real(self, selector)

    monkeypatch.setattr(KnownCards, "select", counted)
    loop = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
    costly = f"{loop}.all(x, {loop}.all(y, {loop}.all(z, x * y * z > 0 && size({A}.uuid) > {{}})))"
    requests = [request(f"r{number}", costly.replace("{}", str(-number))) for number in range(32)]
    found = findings(claim(*requests), facts(many_cards(), seconds=60.0))
    assert not found.errors
    assert len([one for one in asked if "all" in one]) == limits.MAX_EXHAUSTED


def test_selectors_that_take_long_are_left_to_the_api_server() -> None:
    now = iter(range(100))
    hurried = facts(many_cards(), seconds=limits.MAX_SECONDS)
    one = selectors.Selectors(hurried, Notes(), clock=lambda: next(now))
    assert one.compiled("device.driver ==", field="f") is None
    assert one.of_class(["true"]) is None


def test_a_selector_whose_regular_expression_repeats_much_is_not_held_against_the_cards() -> None:
    pattern = "(a?){100}" * 40
    found = findings(claim(request("gpu", f"{A}.uuid.matches('{pattern}x')")), facts(many_cards()))
    assert (found.errors, found.warnings) == ((), ())


def test_a_stored_object_with_the_same_spec_is_not_looked_at_again() -> None:
    old = claim(request(asks={"memory": "0"}))
    new = {**old, "metadata": {"name": "c", "labels": {"a": "b"}}}
    assert not findings(new, old=old).errors
    assert findings(new).errors


def test_other_kinds_are_not_looked_at() -> None:
    assert not validate("Pod", {"spec": 1}, facts=facts()).errors


def test_what_can_be_sent_at_most_gets_an_answer() -> None:
    # 32 configs of 10 KiB and as many requests, with difficult names: about 400 KiB.
    entries = [
        config({**SHARE, "corePolicy": "force" if n % 2 else "disable", "a" * 9000: n}) for n in range(32)
    ]
    requests = [request(f"r{n}", f'{A}.model == "{"m" * 900}{n}"', asks={"memory": "1Gi"}) for n in range(32)]
    found = claim(*requests, config=entries)
    assert len(json.dumps(found)) > 300_000
    assert findings(found, facts(many_cards())).errors
