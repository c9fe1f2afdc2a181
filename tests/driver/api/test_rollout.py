"""maxUnavailable: what it allows, which changes it holds back, and what a status says of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.api.base import decode
from driver.api.node import policy_in_force, policy_settings
from driver.api.policy import AcceleratorPolicySpec, EffectivePolicy, NamedPolicy, effective_policy
from driver.api.rollout import allowed, differences, held_back, limiting
from driver.errors import ConfigError

UUID = "GPU-1"


def policy(name: str, **spec: Any) -> NamedPolicy:
    return NamedPolicy(name=name, spec=decode(AcceleratorPolicySpec, spec, field="spec"))


def effective(*policies: NamedPolicy) -> EffectivePolicy:
    return effective_policy(policies, node_labels={})


@pytest.mark.parametrize(
    ("said", "nodes", "found"),
    [(1, 0, 1), (3, 2, 3), ("10%", 5, 1), ("10%", 10, 1), ("10%", 11, 2), ("100%", 7, 7), ("1%", 0, 0)],
)
def test_a_percentage_is_of_the_nodes_and_rounded_up(said: int | str, nodes: int, found: int) -> None:
    assert allowed(said, nodes=nodes) == found


@pytest.mark.parametrize("value", [0, -1, "0%", "101%", "1", "x", "", "5 %", True, 1.5])
def test_what_lets_no_node_change_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="maxUnavailable"):
        policy("p", maxUnavailable=value)


@pytest.mark.parametrize("value", [1, 250, "1%", "33%", "100%", None])
def test_numbers_and_percentages_are_taken(value: Any) -> None:
    assert policy("p", maxUnavailable=value).spec.max_unavailable == value


def test_only_fields_that_shape_cards_are_held_back() -> None:
    before = effective()
    after = effective(
        policy("p", ignoredXids=[63], unhealthyEffect="None", sharing=False, isolation=["none"])
    )
    assert [one.field for one in differences(before, after, cards=())] == ["isolation", "sharing"]
    held = held_back(before, after)
    assert (held.settings["sharing"].value, held.settings["ignoredXids"].value) == (True, (63,))
    assert held.isolation == before.isolation


def test_the_same_value_of_another_policy_is_no_change() -> None:
    before, after = effective(policy("a", sharing=False)), effective(policy("b", sharing=False))
    assert differences(before, after, cards=()) == ()


def test_overrides_of_cards_that_the_node_has_not_are_no_change() -> None:
    before = effective()
    after = effective(policy("p", cards=[{"uuid": UUID, "excluded": True}]))
    assert differences(before, after, cards=("GPU-2",)) == ()
    (found,) = differences(before, after, cards=(UUID, "GPU-2"))
    assert (found.field, found.card) == ("excluded", UUID)
    assert held_back(before, after).value("excluded", uuid=UUID) is False


def test_a_change_keeps_the_limit_of_the_policy_that_it_comes_from_and_of_the_one_that_it_leaves() -> None:
    low, high = policy("low", sharing=False, maxUnavailable=1), policy("high", priority=1)
    says = policy("high", priority=1, sharing=True, maxUnavailable=2)
    changes = differences(effective(low, high), effective(low, says), cards=())
    assert limiting(changes, (low, says)) == ("high", "low")
    assert limiting(changes, (low, policy("high", sharing=True))) == ("low",)
    assert limiting((), (low, says)) == ()


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "sharing": st.booleans(),
        "excluded": st.booleans(),
        "allowUncapped": st.booleans(),
        "allowHighPriority": st.booleans(),
        "lowPriorityPercent": st.integers(0, 99),
        "reservedMemory": st.sampled_from(["0", "512Mi", "1Gi"]),
        "isolation": st.lists(st.sampled_from(["kernel", "preload", "none"]), min_size=1, max_size=3),
        "partitions": st.sampled_from(["None", "Static", "Dynamic"]),
        "ignoredXids": st.lists(st.integers(1, 99), max_size=3),
        "unhealthyEffect": st.sampled_from(["None", "NoSchedule", "NoExecute"]),
        "cards": st.lists(
            st.fixed_dictionaries(
                {"uuid": st.just(UUID)}, optional={"excluded": st.booleans(), "sharing": st.booleans()}
            ),
            max_size=1,
        ),
    },
)


@given(SPECS, SPECS)
def test_what_a_status_says_was_in_force_is_read_as_it_was(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    before = effective(policy("one", **one), policy("other", priority=1, **other))
    stored = [each.model_dump(mode="json") for each in policy_settings(before)]
    found = policy_in_force(stored)
    assert found is not None
    assert (found.settings, found.isolation) == (before.settings, before.isolation)
    # An override that says nothing is no override.
    assert found.overrides == {uuid: fields for uuid, fields in before.overrides.items() if fields}


@given(SPECS, SPECS)
def test_what_is_held_back_has_the_shape_of_before(one: dict[str, Any], other: dict[str, Any]) -> None:
    before, after = effective(policy("p", **one)), effective(policy("p", **other))
    held = held_back(before, after)
    assert differences(before, held, cards=(UUID,)) == ()
    for name in ("ignoredXids", "unhealthyEffect"):
        assert held.setting(name, uuid=UUID).value == after.setting(name, uuid=UUID).value


def test_what_an_older_agent_did_not_know_was_as_by_default() -> None:
    stored = [{"field": "sharing", "value": "false", "source": "p", "card": ""}]
    found = policy_in_force(stored)
    assert found is not None
    assert found.settings["sharing"].value is False
    assert found.settings["partitions"] == effective().settings["partitions"]


def test_what_a_newer_agent_says_besides_is_passed_over() -> None:
    stored = [{"field": "colour", "value": "red", "source": "p"}]
    assert policy_in_force(stored) == effective()


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {},
        "x",
        [1],
        [{"field": "sharing"}],
        [{"field": "sharing", "value": "perhaps", "source": "p"}],
        [{"field": "isolation", "value": "magic", "source": "p"}],
    ],
)
def test_what_cannot_be_read_says_nothing(stored: Any) -> None:
    assert policy_in_force(stored) is None
